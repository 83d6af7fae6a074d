package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/capability"
)

var update = flag.Bool("update", false, "write the golden files anew")

const testID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// fixture is the container, defaults and host that each case changes: a root
// user on pure cgroup v2.
type fixture struct {
	c    cove.Container
	conf cove.Configured
	host Host
}

func (f *fixture) container() *cove.Container {
	f.c.Configured = &f.conf
	return &f.c
}

func newFixture() *fixture {
	return &fixture{
		c: cove.Container{
			ID: testID, Name: "quiet_harbour",
			Spec: cove.ContainerSpec{Image: "spec:1"},
			Image: cove.ImageConfig{
				Cmd: []string{"/bin/sleep", "1000"},
				Env: []string{"PATH=/bin:/usr/bin", "FOO=img"},
			},
		},
		conf: cove.Configured{AppArmor: "containers-default"},
		host: Host{
			CgroupV2: true, OwnCgroup: true, FirstCgroupNS: func(p string) bool { return p == "/proc/1/ns/cgroup" }, BoundingCaps: capability.Sorted(), SysResource: true,
			Rlimits:  map[string]Rlimit{"nofile": {1024, 20000}, "nproc": {4096, 8192}, "core": {0, ^uint64(0)}},
			CPUs:     "0-3",
			Hostname: "vm", RootPath: "/graph/root", CgroupsPath: "/cove/" + testID, OverlayDir: "/ctr/overlay",
			Files: Files{Hosts: "/ctr/hosts", ResolvConf: "/ctr/resolv.conf", Hostname: "/ctr/hostname", ContainerEnv: "/ctr/.containerenv"},
			NetNS: "/run/netns/x",
			VolumePath: func(name string) (string, error) {
				return "/graph/volumes/" + name + "/_data", nil
			},
			Devices: func(p string) ([]Device, error) {
				switch p {
				case "/dev/null":
					return []Device{{Path: p, Type: 'c', Major: 1, Minor: 3, Mode: 0o666}}, nil
				case "/dev/net":
					return []Device{{Path: "/dev/net/tun", Type: 'c', Major: 10, Minor: 200, Mode: 0o600}}, nil
				case "/etc":
					return nil, nil
				}
				return nil, os.ErrNotExist
			},
			AllDevices: func() ([]Device, error) {
				return []Device{
					{Path: "/dev/fuse", Type: 'c', Major: 10, Minor: 229, Mode: 0o666},
					{Path: "/dev/loop0", Type: 'b', Major: 7, Minor: 0, Mode: 0o600, GID: 6},
				}, nil
			},
		},
	}
}

func rootless(f *fixture) {
	f.host.Rootless, f.host.SysResource, f.host.NetNS = true, false, ""
	f.host.UID, f.host.GID, f.host.AvailableGIDs, f.host.OOMScoreAdj = 1000, 1000, 65537, 100
}

func ownUsers(f *fixture) {
	m := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	f.host.UIDMap, f.host.GIDMap, f.host.NetNS = m, m, ""
}

func ptr[T any](v T) *T { return &v }

var goldenCases = map[string]func(f *fixture){
	"default":          func(f *fixture) {},
	"default-v1":       func(f *fixture) { f.host.CgroupV2 = false },
	"default-rootless": rootless,
	"default-rootless-v1": func(f *fixture) {
		rootless(f)
		f.host.CgroupV2 = false
	},
	"rootless-limits-v1": func(f *fixture) {
		rootless(f)
		f.host.CgroupV2 = false
		f.c.Spec.Resources = cove.Resources{Memory: 64 << 20}
	},
	"rootless-keep-id": func(f *fixture) {
		rootless(f)
		ownUsers(f)
		f.c.Spec.UserNS = "keep-id"
	},
	"rootless-hosts": func(f *fixture) {
		rootless(f)
		f.c.Spec.PID, f.c.Spec.IPC, f.c.Spec.Network = "host", "host", "host"
		f.c.Spec.OOMScoreAdj = ptr(-500)
	},
	"rootless-privileged": func(f *fixture) {
		rootless(f)
		f.c.Spec.Privileged = true
	},
	"rootless-device": func(f *fixture) {
		rootless(f)
		f.c.Spec.Devices = []cove.Device{{HostPath: "/dev/null", ContainerPath: "/dev/foo", Access: "r"}}
	},
	"userns": ownUsers,
	"userns-join-net": func(f *fixture) {
		ownUsers(f)
		f.c.Spec.Network = "container:abc"
		f.host.Joined = map[string]string{"net": "/proc/7/ns/net"}
	},
	"privileged": func(f *fixture) { f.c.Spec.Privileged = true },
	"privileged-user": func(f *fixture) {
		f.c.Spec.Privileged = true
		f.c.Spec.User = "user"
		f.c.Spec.Mounts = nil
		f.c.Mounts = []cove.Mount{{Type: "bind", Source: "/dev", Destination: "/dev"}}
	},
	"systemd":    func(f *fixture) { f.c.Systemd = true },
	"systemd-v1": func(f *fixture) { f.c.Systemd, f.host.CgroupV2, f.host.OwnCgroup = true, false, false },
	"systemd-rootless-undelegated": func(f *fixture) { // in the caller's cgroup, which it must not divide
		rootless(f)
		f.c.Systemd, f.host.OwnCgroup = true, false
	},
	"systemd-rootless-net-host": func(f *fixture) {
		rootless(f)
		f.c.Systemd, f.c.Spec.Network = true, "host"
	},
	"systemd-read-only": func(f *fixture) {
		f.c.Systemd, f.c.Spec.ReadOnly, f.c.Spec.ReadOnlyTmpfs = true, true, true
	},
	"read-only": func(f *fixture) { f.c.Spec.ReadOnly, f.c.Spec.ReadOnlyTmpfs = true, true },
	"read-only-strict": func(f *fixture) {
		f.c.Spec.ReadOnly = true
	},
	"mount-bind": func(f *fixture) {
		f.host.MountFlags = func(p string) (bool, bool, bool, error) { return p == "/noexec", true, false, nil }
		f.c.Mounts = []cove.Mount{
			{Type: "bind", Source: "/src/", Destination: "/a/b/../b"},
			{Type: "bind", Source: "/src", Destination: "/b", Options: []string{"ro", "rshared"}},
			{Type: "bind", Source: "/src", Destination: "/c", Options: []string{"bind"}},
			{Type: "bind", Source: "/noexec", Destination: "/d", Options: []string{"exec", "suid", "dev", "U", "Z"}},
			{Type: "bind", Source: "/noexec", Destination: "/e", Options: []string{"z", "readonly", "bind-nonrecursive", "bind-propagation=slave"}},
		}
	},
	"mount-volume": func(f *fixture) {
		f.host.SubPath = func(dir, sub string) (string, error) { return "/proc/self/fd/9", nil }
		f.c.Mounts = []cove.Mount{
			{Type: "volume", Source: "data", Destination: "/data"},
			{Type: "volume", Source: "nc", Destination: "/nc", Options: []string{"nocopy", "noexec", "ro"}},
			{Type: "volume", Source: "own", Destination: "/own", Options: []string{"U", "copy", "rprivate", "rw", "nodev", "exec"}},
			{Type: "volume", Source: "sub", Destination: "/sub", SubPath: "a/b"},
		}
	},
	"mount-tmpfs": func(f *fixture) {
		f.c.Mounts = []cove.Mount{
			{Type: "tmpfs", Destination: "/foo"},
			{Type: "tmpfs", Destination: "/foo2", Options: []string{"size=10m", "exec", "rw"}},
			{Type: "tmpfs", Destination: "/foo3", Options: []string{"ro", "tmpfs-mode=1777", "notmpcopyup", "noatime"}},
			{Type: "tmpfs", Destination: "/dev/shm", Options: []string{"size=1g", "U"}},
			{Type: "ramfs", Destination: "/ram"},
		}
		f.c.Spec.User = "7:8"
	},
	"mount-overlay": func(f *fixture) {
		f.c.Mounts = []cove.Mount{
			{Type: "bind", Source: "/src", Destination: "/o", Options: []string{"O"}},
			{Type: "volume", Source: "v", Destination: "/p", Options: []string{"O", "upperdir=/u", "workdir=/w", "U"}},
		}
	},
	"mount-kernel": func(f *fixture) {
		f.c.Mounts = []cove.Mount{
			{Type: "devpts", Destination: "/pts", Options: []string{"gid=5", "max=10"}},
			{Type: "mqueue", Destination: "/q"},
		}
	},
	"mount-overrides": func(f *fixture) {
		f.c.Spec.ReadOnly, f.c.Spec.ReadOnlyTmpfs = true, true
		f.c.Mounts = []cove.Mount{
			{Type: "bind", Source: "/h", Destination: "/etc/hosts"},
			{Type: "bind", Source: "/t", Destination: "/tmp"},
			{Type: "bind", Source: "/run/x", Destination: "/run"},
			{Type: "bind", Source: "/sys", Destination: "/sys"},
			{Type: "bind", Source: "/x", Destination: "/x"},
		}
	},
	"net-host": func(f *fixture) { f.c.Spec.Network = "host" },
	"net-none": func(f *fixture) { f.c.Spec.Network, f.host.NetNS = "none", "" },
	"net-container": func(f *fixture) {
		f.c.Spec.Network = "container:abc"
		f.host.Joined = map[string]string{"net": "/proc/7/ns/net"}
	},
	"namespaces-host": func(f *fixture) {
		f.c.Spec.PID, f.c.Spec.IPC, f.c.Spec.UTS, f.c.Spec.CgroupNS = "host", "host", "host", "host"
	},
	"cgroupns-first": func(f *fixture) { f.c.Spec.CgroupNS = "ns:/proc/1/ns/cgroup" },
	"cgroupns-container-first": func(f *fixture) {
		f.c.Spec.CgroupNS = "container:a"
		f.host.Joined = map[string]string{"cgroup": "/proc/1/ns/cgroup"}
	},
	"namespaces-join": func(f *fixture) {
		f.c.Spec.PID, f.c.Spec.IPC, f.c.Spec.UTS, f.c.Spec.CgroupNS = "container:a", "container:a", "container:a", "ns:/run/cg"
		f.host.Joined = map[string]string{"pid": "/proc/7/ns/pid", "ipc": "/proc/7/ns/ipc", "uts": "/proc/7/ns/uts"}
		f.host.JoinedHostname = "other"
		f.host.Files.Shm = "/ctr/a/shm"
	},
	"ipc-none": func(f *fixture) { f.c.Spec.IPC = "none" },
	"caps": func(f *fixture) {
		f.c.Spec.CapAdd, f.c.Spec.CapDrop = []string{"net_admin", "CAP_SYS_PTRACE"}, []string{"chown"}
	},
	"caps-all": func(f *fixture) {
		f.host.BoundingCaps = []string{"CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"}
		f.c.Spec.CapAdd, f.c.Spec.CapDrop = []string{"all"}, []string{"NET_RAW"}
	},
	"caps-none": func(f *fixture) {
		f.c.Spec.CapDrop, f.c.Spec.CapAdd = []string{"ALL"}, []string{"KILL"}
	},
	"caps-user": func(f *fixture) {
		f.c.Spec.User, f.c.Spec.CapAdd, f.c.Spec.Groups = "1000:1000", []string{"NET_ADMIN"}, []string{"29", "audio"}
	},
	"caps-image": func(f *fixture) {
		f.c.Image.Labels = map[string]string{capsLabel: "chown,kill"}
	},
	"user-name": func(f *fixture) { f.c.Image.User = "user" },
	"limits-v2": func(f *fixture) {
		f.c.Spec.Resources = cove.Resources{Memory: 64 << 20, MemoryReservation: 32 << 20, CPUs: 0.5, CPUShares: 512,
			CpusetCPUs: "0,2-3", PidsLimit: ptr(int64(10)), BlkioWeight: 300, MemorySwappiness: ptr(uint64(10)), OOMKillDisable: true}
		f.c.Spec.OOMScoreAdj = ptr(100)
	},
	"limits-v1": func(f *fixture) {
		f.host.CgroupV2 = false
		f.host.Missing = map[Feature]bool{BlkioWeight: true, Swap: true}
		f.c.Spec.Resources = cove.Resources{Memory: 64 << 20, MemorySwap: -1, CPUPeriod: 50000, CPUQuota: 25000,
			PidsLimit: ptr(int64(-1)), BlkioWeight: 300, MemorySwappiness: ptr(uint64(10)), OOMKillDisable: true}
	},
	"ulimits": func(f *fixture) {
		f.host.SysResource = false
		f.conf.Ulimits = []cove.Ulimit{{Name: "nofile", Soft: 5000, Hard: 50000}, {Name: "core", Soft: -1, Hard: -1}}
		f.c.Spec.Ulimits = []cove.Ulimit{{Name: "nproc", Soft: 10, Hard: 20}, {Name: "nproc", Soft: 11, Hard: 21}}
	},
	"devices": func(f *fixture) {
		f.c.Spec.Devices = []cove.Device{
			{HostPath: "/dev/null", ContainerPath: "/dev/foo", Access: "r"}, {HostPath: "/dev/net"},
			{HostPath: "/dev/net", ContainerPath: "/x", Access: "rw"},
		}
		f.c.Spec.DeviceCgroupRules = []string{"c 10:* rwm"}
	},
	"init": func(f *fixture) { f.c.Spec.Init, f.conf.InitPath = true, "/usr/libexec/podman/catatonit" },
	"entrypoint": func(f *fixture) {
		f.c.Image.Entrypoint = []string{"/image/entry"}
		f.c.Spec.EntrypointSet, f.c.Spec.Entrypoint = true, []string{"/mine", "-x"}
	},
	"entrypoint-image": func(f *fixture) {
		f.c.Image.Entrypoint, f.c.Image.WorkDir = []string{"/image/entry"}, "srv/www"
		f.c.Spec.Command = []string{"arg"}
	},
	"many": func(f *fixture) {
		s := &f.c.Spec
		s.Terminal, s.Env, s.UnsetEnv, s.WorkDir = true, []string{"A=b", "FOO=mine", "E="}, []string{"PATH", "FOO"}, "/tmp"
		s.Hostname, s.NoHosts, s.NoHostname, s.ShmSize, s.NoNewPrivileges = "foo", true, true, ptr(int64(1<<20)), true
		s.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel.shmmax": "1", "fs.mqueue.msg_max": "5"}
		s.Mask, s.Unmask = []string{"/foo:/bar"}, []string{"/proc/acpi", "/sys/fs/*"}
		s.Annotations, s.StopSignal, s.Remove, s.Umask = map[string]string{"x": "y"}, "SIGRTMIN+3", true, "077"
		s.Seccomp, s.DNS = "unconfined", []string{"none"}
		f.conf.Sysctl = map[string]string{"net.ipv4.ping_group_range": "0 0"}
		f.conf.NameAsHostname = true
		f.host.Files.Localtime = "/ctr/localtime"
	},
	"unmask-all": func(f *fixture) { f.c.Spec.Unmask = []string{"ALL"}; f.host.MaskAlso = []string{"/sys/x"} },
	"labels": func(f *fixture) {
		f.host.AppArmor, f.host.SELinux = true, true
		f.c.ProcessLabel, f.c.MountLabel = "system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2"
		f.host.MaskAlso = []string{"/sys/devices/system/cpu/cpu0/thermal_throttle"}
	},
	"labels-off": func(f *fixture) {
		f.host.AppArmor, f.host.SELinux = true, true
		f.c.MountLabel = "system_u:object_r:container_file_t:s0:c1022,c1023"
		f.c.Spec.AppArmor, f.c.Spec.SELinux = "unconfined", []string{"disable"}
	},
}

func TestGolden(t *testing.T) {
	for name, change := range goldenCases {
		t.Run(name, func(t *testing.T) {
			f := newFixture()
			change(f)
			made, extra, warnings, err := Make(f.container(), f.host)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(struct {
				Extra    *Extra
				Warnings []string
				Spec     *specs.Spec
			}{extra, warnings, made}, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("differs from %s; go test -update and look at the difference.\ngot:\n%s", file, got)
			}
		})
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(goldenCases) {
		t.Errorf("testdata holds %d files for %d cases", len(files), len(goldenCases))
	}
}

func TestRefusals(t *testing.T) {
	mount := func(m cove.Mount) func(*fixture) { return func(f *fixture) { f.c.Mounts = []cove.Mount{m} } }
	opts := func(typ string, o ...string) func(*fixture) {
		return mount(cove.Mount{Type: typ, Source: "/s", Destination: "/a", Options: o})
	}
	res := func(r cove.Resources) func(*fixture) { return func(f *fixture) { f.c.Spec.Resources = r } }
	spec := func(change func(*cove.ContainerSpec)) func(*fixture) { return func(f *fixture) { change(&f.c.Spec) } }
	type s = *cove.ContainerSpec
	for _, tc := range []struct {
		want   string
		kind   cove.Kind
		change func(*fixture)
	}{
		{`sysctl "kernel.foo" is not allowed`, cove.Invalid, spec(func(s s) { s.Sysctl = map[string]string{"kernel.foo": "1"} })},
		{`sysctl "net./../kernel/panic" is not allowed`, cove.Invalid, spec(func(s s) { s.Sysctl = map[string]string{"net./../kernel/panic": "1"} })},
		{`sysctl net.ipv4.ip_forward=1 can't be set since Network Namespace set to host: invalid argument`, cove.Invalid,
			spec(func(s s) { s.Network = "host"; s.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"} })},
		{`sysctl kernel.shmmax=1 can't be set since IPC Namespace set to host: invalid argument`, cove.Invalid,
			spec(func(s s) { s.IPC = "host"; s.Sysctl = map[string]string{"kernel.shmmax": "1"} })},
		{`--systemd=always needs cgroup version 2, and a cgroup and a cgroup namespace of the container's own`, cove.Unsupported, func(f *fixture) {
			f.c.Spec.Systemd, f.c.Systemd, f.host.OwnCgroup = "always", true, false
		}},
		{`"CAP_FOO": unknown capability`, cove.Invalid, spec(func(s s) { s.CapAdd = []string{"foo"} })},
		{`capability "CAP_KILL" cannot be dropped and added`, cove.Invalid, spec(func(s s) { s.CapAdd = []string{"KILL"}; s.CapDrop = []string{"kill"} })},
		{`adding all caps and removing all caps not allowed`, cove.Invalid, spec(func(s s) { s.CapAdd = []string{"ALL"}; s.CapDrop = []string{"all"} })},
		{`cannot set hostname when running in the host UTS namespace: invalid configuration`, cove.Invalid, spec(func(s s) { s.UTS = "host"; s.Hostname = "x" })},
		{`you should always set a memory limit when using a memoryswap limit, see usage`, cove.Invalid, res(cove.Resources{MemorySwap: 1 << 20})},
		{`minimum memoryswap limit should be larger than memory limit, see usage`, cove.Invalid, res(cove.Resources{Memory: 10, MemorySwap: 5})},
		{`minimum memory limit cannot be less than memory reservation limit, see usage`, cove.Invalid, res(cove.Resources{Memory: 10, MemoryReservation: 20})},
		{`CPU cfs quota cannot be less than 1ms (i.e. 1000)`, cove.Invalid, res(cove.Resources{CPUQuota: 10})},
		{`CPU cfs period cannot be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)`, cove.Invalid, res(cove.Resources{CPUPeriod: 10})},
		{`--cpu-quota and --cpus cannot be set together`, cove.Invalid, res(cove.Resources{CPUQuota: 10000, CPUs: 1})},
		{`requested CPUs are not available - requested 77, available: 0-3`, cove.Invalid, res(cove.Resources{CpusetCPUs: "77"})},
		{`invalid value a-b for cpuset cpus`, cove.Invalid, res(cove.Resources{CpusetCPUs: "a-b"})},
		{`range of blkio weight is from 10 to 1000`, cove.Invalid, res(cove.Resources{BlkioWeight: 5})},
		{`invalid value: 200, valid memory swappiness range is 0-100`, cove.Invalid, res(cove.Resources{MemorySwappiness: ptr(uint64(200))})},
		{`cannot add init binary as PID 1 (PID namespace isn't private)`, cove.Invalid, spec(func(s s) { s.Init = true; s.PID = "host"; s.InitPath = "/x" })},
		{`no path to init binary found but container requested an init`, cove.Invalid, spec(func(s s) { s.Init = true })},
		{`no command or entrypoint provided, and no CMD or ENTRYPOINT from image`, cove.NoCommand, spec(func(s s) { s.EntrypointSet = true; s.Entrypoint = []string{""} })},
		{`the working directory "foo" is invalid, it needs to be an absolute path`, cove.Invalid, spec(func(s s) { s.WorkDir = "foo" })},
		{`invalid umask string 9: invalid argument`, cove.Invalid, spec(func(s s) { s.Umask = "9" })},
		{`invalid user specification "root\n": must be user[:group]`, cove.Invalid, spec(func(s s) { s.User = "root\n" })},
		{`user or group ID 4294967296 is out of range 0-2147483647`, cove.Invalid, spec(func(s s) { s.User = "4294967296" })},
		{`unrecognized namespace mode foo passed`, cove.Invalid, spec(func(s s) { s.PID = "foo" })},
		{`container nope has no pid namespace to join: it does not run`, cove.WrongStatus, spec(func(s s) { s.PID = "container:nope" })},
		{`keep-id is only supported in rootless mode`, cove.Invalid, func(f *fixture) { ownUsers(f); f.c.Spec.UserNS = "keep-id" }},
		{`user namespace mode auto needs a mapping of users and groups`, cove.Invalid, spec(func(s s) { s.UserNS = "auto" })},
		{`ulimit soft limit must be less than or equal to hard limit: 10 > 5`, cove.Invalid, spec(func(s s) { s.Ulimits = []cove.Ulimit{{Name: "nofile", Soft: 10, Hard: 5}} })},
		{`ulimit nofile: hard limit 30000 is above this process's own 20000 and cannot be raised without CAP_SYS_RESOURCE`, cove.Unsupported, func(f *fixture) {
			f.host.SysResource = false
			f.c.Spec.Ulimits = []cove.Ulimit{{Name: "nofile", Soft: 10, Hard: 30000}}
		}},
		{`apparmor profile "foo" specified, but Apparmor is not enabled on this system`, cove.Invalid, spec(func(s s) { s.AppArmor = "foo" })},
		{`path to mask "foo" is not an absolute path`, cove.Invalid, spec(func(s s) { s.Mask = []string{"foo"} })},
		{`invalid signal: FOO`, cove.Invalid, spec(func(s s) { s.StopSignal = "FOO" })},
		{`unknown mount option "foo": invalid mount option`, cove.Invalid, opts("bind", "foo")},
		{`only one of 'rw' and 'ro' can be used: duplicate mount option passed`, cove.Invalid, opts("bind", "ro", "rw")},
		{`only one root propagation mode can be used: duplicate mount option passed`, cove.Invalid, opts("bind", "shared", "rslave")},
		{`the 'size' option is only allowed with tmpfs mounts: invalid mount option`, cove.Invalid, opts("bind", "size=1")},
		{`the 'z' and 'Z' options are not allowed with tmpfs mounts: invalid mount option`, cove.Invalid, opts("tmpfs", "z")},
		{`mount option "size=1,uid=5" contains a comma or control character: invalid mount option`, cove.Invalid, opts("tmpfs", "size=1,uid=5")},
		{`mount option "idmap": ID-mapped mounts are not supported`, cove.Unsupported, opts("bind", "idmap")},
		{`mount /a: mounts of type image are not supported`, cove.Unsupported, opts("image")},
		{`invalid filesystem type "cifs"`, cove.Invalid, opts("cifs")},
		{`invalid container path "/..", destination can't be '/'`, cove.Invalid, mount(cove.Mount{Type: "tmpfs", Destination: "/.."})},
		{`invalid host path "x", must be an absolute path`, cove.Invalid, mount(cove.Mount{Type: "bind", Source: "x", Destination: "/a"})},
		{`/a: duplicate mount destination`, cove.Invalid, func(f *fixture) {
			f.c.Mounts = []cove.Mount{{Type: "tmpfs", Destination: "/a"}, {Type: "bind", Source: "/x", Destination: "/a/"}}
		}},
		{`mount /a: subpath "x" is not supported`, cove.Unsupported, mount(cove.Mount{Type: "volume", Source: "v", Destination: "/a", SubPath: "x"})},
		{`mount /a: option O with the path "/x:y": it must be absolute, without colon, comma or backslash`, cove.Unsupported,
			mount(cove.Mount{Type: "bind", Source: "/x:y", Destination: "/a", Options: []string{"O"}})},
		{`stat /nonexist: no such file or directory`, cove.NoFile, spec(func(s s) { s.Devices = []cove.Device{{HostPath: "/nonexist"}} })},
		{`invalid device mode: q`, cove.Invalid, spec(func(s s) { s.Devices = []cove.Device{{HostPath: "/dev/null", Access: "q"}} })},
		{`no devices found in /etc: invalid argument`, cove.Invalid, spec(func(s s) { s.Devices = []cove.Device{{HostPath: "/etc"}} })},
		{`invalid device cgroup rule requires type, major:Minor, and access rules: "xx"`, cove.Invalid, spec(func(s s) { s.DeviceCgroupRules = []string{"xx"} })},
		{`device cgroup rules are not supported in rootless mode or in a user namespace`, cove.Unsupported, func(f *fixture) {
			rootless(f)
			f.c.Spec.DeviceCgroupRules = []string{"c 1:1 r"}
		}},
	} {
		t.Run(tc.want, func(t *testing.T) {
			f := newFixture()
			tc.change(f)
			made, _, _, err := Make(f.container(), f.host)
			if err == nil || err.Error() != tc.want {
				t.Fatalf("got error %v, want %s", err, tc.want)
			}
			if made != nil {
				t.Error("a spec came with the error")
			}
			if k := cove.KindOf(err); k != tc.kind {
				t.Errorf("kind %d, want %d", k, tc.kind)
			}
		})
	}
}

// TestDeterminate makes each case twice: no order may hang on a map.
func TestDeterminate(t *testing.T) {
	for name, change := range goldenCases {
		var last []byte
		for range 5 {
			f := newFixture()
			change(f)
			made, _, _, err := Make(f.container(), f.host)
			if err != nil {
				t.Fatal(name, err)
			}
			got, err := json.Marshal(made)
			if err != nil {
				t.Fatal(err)
			}
			if last != nil && !bytes.Equal(last, got) {
				t.Errorf("%s: two makings differ", name)
			}
			last = got
		}
	}
}

// TestInputUntouched guards the record and the host: Make may not write to
// slices that it was given.
func TestInputUntouched(t *testing.T) {
	for name, change := range goldenCases {
		f := newFixture()
		change(f)
		before, err := json.Marshal([]any{f.container(), f.conf, f.host.UIDMap, f.host.BoundingCaps, f.host.Rlimits})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := Make(f.container(), f.host); err != nil {
			t.Fatal(name, err)
		}
		after, err := json.Marshal([]any{f.container(), f.conf, f.host.UIDMap, f.host.BoundingCaps, f.host.Rlimits})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(before, after) {
			t.Errorf("%s: Make changed its input", name)
		}
	}
}

// TestHostErrors passes on what the host's functions say.
func TestHostErrors(t *testing.T) {
	broken := errors.New("broken")
	f := newFixture()
	f.host.VolumePath = func(string) (string, error) { return "", broken }
	f.c.Mounts = []cove.Mount{{Type: "volume", Source: "v", Destination: "/v"}}
	if _, _, _, err := Make(f.container(), f.host); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
