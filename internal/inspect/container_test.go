package inspect

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cove-engine/cove"
)

// The keys that podman's inspect prints must all be there.
func TestContainerKeys(t *testing.T) {
	data, err := json.Marshal(Container(cove.Container{ID: strings.Repeat("a", 64)}, Facts{Status: cove.Created}))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]json.RawMessage
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	for part, keys := range map[string]string{
		"": `Id Created Path Args State Image ImageDigest ImageName Rootfs Pod ResolvConfPath HostnamePath HostsPath StaticDir
			ConmonPidFile PidFile Name RestartCount Driver MountLabel ProcessLabel AppArmorProfile EffectiveCaps BoundingCaps
			ExecIDs GraphDriver Mounts Dependencies NetworkSettings Namespace IsInfra IsService Config HostConfig`,
		"State": `OciVersion Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt FinishedAt
			CheckpointedAt RestoredAt`,
		"Config": `Hostname Domainname User AttachStdin AttachStdout AttachStderr Tty OpenStdin StdinOnce Env Cmd Image Volumes
			WorkingDir Entrypoint OnBuild Labels Annotations StopSignal HealthcheckOnFailureAction Umask Timeout StopTimeout
			Passwd sdNotifyMode`,
		"HostConfig": `Binds CgroupManager CgroupMode ContainerIDFile LogConfig NetworkMode PortBindings RestartPolicy AutoRemove
			VolumeDriver VolumesFrom CapAdd CapDrop Dns DnsOptions DnsSearch ExtraHosts GroupAdd IpcMode Cgroup Cgroups Links
			OomScoreAdj PidMode Privileged PublishAllPorts ReadonlyRootfs SecurityOpt Tmpfs UTSMode UsernsMode ShmSize Runtime
			ConsoleSize Isolation CpuShares Memory NanoCpus CgroupParent BlkioWeight BlkioWeightDevice BlkioDeviceReadBps
			BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime
			CpusetCpus CpusetMems Devices DiskQuota KernelMemory MemoryReservation MemorySwap MemorySwappiness OomKillDisable
			PidsLimit Ulimits CpuCount CpuPercent IOMaximumIOps IOMaximumBandwidth CgroupConf`,
		"NetworkSettings": `EndpointID Gateway IPAddress IPPrefixLen IPv6Gateway GlobalIPv6Address GlobalIPv6PrefixLen MacAddress
			Bridge SandboxID HairpinMode LinkLocalIPv6Address LinkLocalIPv6PrefixLen Ports SandboxKey`,
	} {
		m := got
		if part != "" {
			m = nil
			if err := json.Unmarshal(got[part], &m); err != nil {
				t.Fatal(err)
			}
		}
		for k := range strings.FieldsSeq(keys) {
			if _, ok := m[k]; !ok {
				t.Errorf("%s.%s is missing", part, k)
			}
		}
	}
}

func TestCapabilities(t *testing.T) {
	for _, c := range []struct {
		name        string
		spec        cove.ContainerSpec
		has, hasNot string
		n           int
	}{
		{"default", cove.ContainerSpec{}, "CAP_CHOWN", "CAP_SYS_ADMIN", 11},
		{"drop all", cove.ContainerSpec{CapDrop: []string{"all"}}, "", "CAP_CHOWN", 0},
		{"drop all, add one", cove.ContainerSpec{CapDrop: []string{"ALL"}, CapAdd: []string{"net_raw"}}, "CAP_NET_RAW", "CAP_CHOWN", 1},
		{"add all, drop one", cove.ContainerSpec{CapAdd: []string{"ALL"}, CapDrop: []string{"CAP_CHOWN"}}, "CAP_SYS_ADMIN", "CAP_CHOWN", 40},
		{"privileged", cove.ContainerSpec{Privileged: true}, "CAP_SYS_ADMIN", "", 41},
	} {
		got := capabilities(cove.Container{Spec: c.spec})
		if len(got) != c.n || c.has != "" && !slices.Contains(got, c.has) || c.hasNot != "" && slices.Contains(got, c.hasNot) {
			t.Errorf("%s: %d %v", c.name, len(got), got)
		}
	}
}

func TestContainerValues(t *testing.T) {
	c := cove.Container{
		ID: strings.Repeat("a", 64), Name: "x",
		Spec: cove.ContainerSpec{
			Env: []string{"A=2", "C=3"}, UnsetEnv: []string{"B"}, Command: []string{"-x"},
			Health:    &cove.HealthCheck{Interval: 5 * time.Second},
			Resources: cove.Resources{CPUs: 0.5, Memory: 64 << 20},
			Mounts: []cove.Mount{
				{Type: "volume", Source: "v", Destination: "/v"}, {Type: "bind", Source: "/tmp", Destination: "/data", Options: []string{"ro"}},
				{Type: "tmpfs", Destination: "/t"},
			},
		},
		Image: cove.ImageConfig{Env: []string{"A=1", "B=2"}, Entrypoint: []string{"/e"}, Cmd: []string{"c"},
			Health: &cove.HealthCheck{Test: []string{"CMD", "h"}, Retries: 4}},
		Run: cove.Run{PID: 7, ExitCode: 9, Started: time.Unix(1, 0)},
	}
	d := Container(c, Facts{Status: cove.Running, SizeRw: -1, SizeRootFs: -1, VolumePath: "/vols"})
	if d.Path != "/e" || len(d.Args) != 1 || d.Args[0] != "-x" {
		t.Errorf("argv %s %v", d.Path, d.Args)
	}
	if got := strings.Join(d.Config.Env, " "); got != "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin container=cove A=2 C=3 HOSTNAME=aaaaaaaaaaaa" {
		t.Errorf("env %q", got)
	}
	if h := d.Config.Healthcheck; h == nil || h.Retries != 4 || h.Interval != 5*time.Second || h.Test[1] != "h" {
		t.Errorf("health %+v", h)
	}
	h := d.HostConfig
	if h.NanoCpus != 500000000 || h.CpuQuota != 50000 || h.CpuPeriod != 100000 || h.MemorySwap != 128<<20 {
		t.Errorf("%+v", h)
	}
	// As podman prints these three.
	if got := strings.Join(h.Binds, " "); got != "v:/v:rw,rprivate,nosuid,nodev,rbind /tmp:/data:ro,rprivate,rbind" || h.Tmpfs["/t"] != "rw,rprivate,nosuid,nodev,tmpcopyup" {
		t.Errorf("%q %v", got, h.Tmpfs)
	}
	if d.Mounts[0].Source != "/vols/v/_data" || d.Mounts[1].RW {
		t.Errorf("%+v", d.Mounts)
	}
	if d.State.Pid != 7 || d.State.ExitCode != 0 || !d.State.Running || d.SizeRw != nil {
		t.Errorf("%+v", d.State)
	}
}
