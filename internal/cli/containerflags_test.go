package cli

import (
	"encoding/json"
	"io/fs"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
)

// shellWords splits a command line at spaces, keeping 'quoted' words whole.
func shellWords(line string) []string {
	var out []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out[len(out)-1] += part
			continue
		}
		if i > 0 && part != "" && part[0] != ' ' {
			panic("a quoted part must end its word")
		}
		out = append(out, strings.Fields(part)...)
		if strings.HasSuffix(part, " ") && i+1 < strings.Count(line, "'") {
			out = append(out, "")
		}
	}
	return out
}

// parse reads the arguments of run.
func parse(line string) (cove.ContainerSpec, *containerFlags, error) {
	o := &containerFlags{}
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	o.flags(fs, true)
	if err := fs.Parse(shellWords(line)); err != nil {
		return cove.ContainerSpec{}, o, err
	}
	s, err := o.request(testSurroundings(), fs.Args())
	if err == nil {
		o.configured(&s, testSurroundings(), engine.Defaults{HTTPProxy: true})
	}
	return s, o, err
}

func testSurroundings() surroundings {
	files := map[string]string{
		"env":    "# comment\n\nA=1\n  B=two words \nFOO\nFOO*\n",
		"labels": "x=1\ny\n#no\n",
	}
	return surroundings{
		env: []string{"HOME=/root", "FOO=bar", "FOOD=fish", "http_proxy=http://p:1"}, workDir: "/home/me",
		readFile: func(p string) ([]byte, error) {
			if s, ok := files[p]; ok {
				return []byte(s), nil
			}
			return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
		},
	}
}

func ptr[T any](v T) *T { return &v }

// Each line gives the fields that it sets beyond those of "img" alone.
func TestRequest(t *testing.T) {
	for _, c := range []struct {
		line string
		want func(*cove.ContainerSpec)
	}{
		{"img", func(*cove.ContainerSpec) {}},
		{"img ls -l --rm", func(s *cove.ContainerSpec) { s.Command = []string{"ls", "-l", "--rm"} }},
		{"-it --rm --name web img sh", func(s *cove.ContainerSpec) {
			s.Stdin, s.Terminal, s.Remove, s.Name, s.Command = true, true, true, "web", []string{"sh"}
		}},
		{"-e A=1 -e FOO -e NOPE -e FOO* -e B= img", func(s *cove.ContainerSpec) {
			s.Env = append(s.Env, "A=1", "FOO=bar", "FOO=bar", "FOOD=fish", "B=")
		}},
		{"--env-file env --env Z=9 --http-proxy=false img", func(s *cove.ContainerSpec) {
			s.Env, s.HostEnv = []string{"A=1", "B=two words ", "FOO=bar", "FOO=bar", "FOOD=fish", "Z=9"}, nil
		}},
		{"--unsetenv A --unsetenv-all img", func(s *cove.ContainerSpec) { s.UnsetEnv, s.UnsetEnvAll = []string{"A"}, true }},
		{"--env-host img", func(s *cove.ContainerSpec) {
			s.Env = []string{"HOME=/root", "FOO=bar", "FOOD=fish", "http_proxy=http://p:1"}
		}},
		{"-v /a:/b -v vol:/c:ro,z -v /anon -v ./x:/d:U,rshared img", func(s *cove.ContainerSpec) {
			s.Mounts = []cove.Mount{
				{Type: "bind", Source: "/a", Destination: "/b"},
				{Type: "volume", Source: "vol", Destination: "/c", Options: []string{"ro", "z"}},
				{Type: "volume", Destination: "/anon", Anonymous: true},
				{Type: "bind", Source: "/home/me/x", Destination: "/d", Options: []string{"U", "rshared"}},
			}
		}},
		{"-v /a:/b/ -v /a:/b img", func(s *cove.ContainerSpec) {
			s.Mounts = []cove.Mount{{Type: "bind", Source: "/a", Destination: "/b"}}
		}},
		{"--mount type=bind,src=/a,target=/b,ro,bind-propagation=rslave --mount type=tmpfs,dst=/t,tmpfs-size=1g,tmpfs-mode=1777 --mount type=volume,source=v,destination=/v,volume-nocopy --mount type=image,source=i,target=/i,rw=true,subpath=/x --mount type=devpts,destination=/p,uid=1 img",
			func(s *cove.ContainerSpec) {
				s.Mounts = []cove.Mount{
					{Type: "bind", Source: "/a", Destination: "/b", Options: []string{"ro", "rslave"}},
					{Type: "tmpfs", Destination: "/t", Options: []string{"size=1g", "mode=1777"}},
					{Type: "volume", Source: "v", Destination: "/v", Options: []string{"nocopy"}},
					{Type: "image", Source: "i", Destination: "/i", Options: []string{"rw"}, SubPath: "/x"},
					{Type: "devpts", Destination: "/p", Options: []string{"uid=1"}},
				}
			}},
		{"--mount type=bind,src=a,dst=/b,readonly=false,relabel=shared,chown img", func(s *cove.ContainerSpec) {
			s.Mounts = []cove.Mount{{Type: "bind", Source: "/home/me/a", Destination: "/b", Options: []string{"rw", "z", "U"}}}
		}},
		{"--tmpfs /t:size=5m,noexec --tmpfs /u --volumes-from c:ro img", func(s *cove.ContainerSpec) {
			s.Mounts = []cove.Mount{
				{Type: "tmpfs", Destination: "/t", Options: []string{"size=5m", "noexec"}},
				{Type: "tmpfs", Destination: "/u"},
			}
			s.VolumesFrom = []string{"c:ro"}
		}},
		{"-p 80 -p 8080:80 -p 127.0.0.1:53:53/udp -p [::1]:90:90 -p 1000-1002:2000-2002 -p 127.0.0.1::99 img", func(s *cove.ContainerSpec) {
			s.Ports = []cove.PortMapping{
				{ContainerPort: 80, Range: 1, Protocol: "tcp"},
				{ContainerPort: 80, HostPort: 8080, Range: 1, Protocol: "tcp"},
				{HostIP: "127.0.0.1", ContainerPort: 53, HostPort: 53, Range: 1, Protocol: "udp"},
				{HostIP: "::1", ContainerPort: 90, HostPort: 90, Range: 1, Protocol: "tcp"},
				{ContainerPort: 2000, HostPort: 1000, Range: 3, Protocol: "tcp"},
				{HostIP: "127.0.0.1", ContainerPort: 99, Range: 1, Protocol: "tcp"},
			}
		}},
		{"-P --expose 80 --expose 90-92/udp img", func(s *cove.ContainerSpec) {
			s.PublishAll, s.Expose = true, []string{"80", "90-92/udp"}
		}},
		{"--net host img", func(s *cove.ContainerSpec) { s.Network = "host" }},
		{"--network=none img", func(s *cove.ContainerSpec) { s.Network = "none" }},
		{"--network container:web img", func(s *cove.ContainerSpec) { s.Network = "container:web" }},
		{"--network ns:/run/netns/x img", func(s *cove.ContainerSpec) { s.Network = "ns:/run/netns/x" }},
		{"--network pasta:-T,80 img", func(s *cove.ContainerSpec) { s.Network = "pasta:-T,80" }},
		{"--network bridge img", func(s *cove.ContainerSpec) { s.Network = "bridge" }},
		{"--network bridge:ip=10.0.0.2,mac=92:d0:c6:0a:29:33 img", func(s *cove.ContainerSpec) {
			s.Network = "bridge"
			s.Networks = []cove.NetworkAttachment{{MAC: "92:d0:c6:0a:29:33", StaticIPs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}}}
		}},
		{"--network a:alias=x,alias=y,interface_name=net0 --network b --network-alias z img", func(s *cove.ContainerSpec) {
			s.Network = "bridge"
			s.Networks = []cove.NetworkAttachment{
				{Network: "a", Aliases: []string{"x", "y", "z"}, Interface: "net0"}, {Network: "b", Aliases: []string{"z"}},
			}
		}},
		{"--ip 10.88.0.9 --ip6 fd::9 img", func(s *cove.ContainerSpec) {
			s.Networks = []cove.NetworkAttachment{{StaticIPs: []netip.Addr{netip.MustParseAddr("10.88.0.9"), netip.MustParseAddr("fd::9")}}}
		}},
		{"--add-host a;b:1.2.3.4 --add-host g:host-gateway --dns 1.1.1.1,8.8.8.8 --dns-search x --dns-opt ndots:1 img", func(s *cove.ContainerSpec) {
			s.AddHosts = []string{"a:1.2.3.4", "b:1.2.3.4", "g:host-gateway"}
			s.DNS, s.DNSSearch, s.DNSOptions = []string{"1.1.1.1", "8.8.8.8"}, []string{"x"}, []string{"ndots:1"}
		}},
		{`--entrypoint ["a","b"] img c`, func(s *cove.ContainerSpec) {
			s.EntrypointSet, s.Entrypoint, s.Command = true, []string{"a", "b"}, []string{"c"}
		}},
		{"--entrypoint /x img", func(s *cove.ContainerSpec) { s.EntrypointSet, s.Entrypoint = true, []string{"/x"} }},
		{"--entrypoint= img", func(s *cove.ContainerSpec) { s.EntrypointSet = true }},
		{"-w /w -u 1:2 --group-add a,b -h box --umask 0077 --tz UTC img", func(s *cove.ContainerSpec) {
			s.WorkDir, s.User, s.Groups, s.Hostname, s.Umask, s.Timezone = "/w", "1:2", []string{"a", "b"}, "box", "0077", "UTC"
		}},
		{"-l a=b -l c --label-file labels --annotation k=v img", func(s *cove.ContainerSpec) {
			s.Labels = map[string]string{"a": "b", "c": "", "x": "1", "y": ""}
			s.Annotations = map[string]string{"k": "v"}
		}},
		{"--read-only --read-only-tmpfs=false --privileged --cap-add net_admin,SYS_TIME --cap-drop ALL img", func(s *cove.ContainerSpec) {
			s.ReadOnly, s.ReadOnlyTmpfs, s.Privileged = true, false, true
			s.CapAdd, s.CapDrop = []string{"net_admin", "SYS_TIME"}, []string{"ALL"}
		}},
		{"--security-opt no-new-privileges --security-opt seccomp=unconfined --security-opt label=type:t --security-opt label:disable --security-opt apparmor=p --security-opt mask=/a:/b --security-opt unmask=all img", func(s *cove.ContainerSpec) {
			s.NoNewPrivileges, s.Seccomp, s.SELinux, s.AppArmor = true, "unconfined", []string{"type:t", "disable"}, "p"
			s.Mask, s.Unmask = []string{"/a", "/b"}, []string{"ALL"}
		}},
		{"--security-opt seccomp=p.json --security-opt no-new-privileges:true img", func(s *cove.ContainerSpec) {
			s.NoNewPrivileges, s.Seccomp = true, "/home/me/p.json"
		}},
		{"--device /dev/fuse --device /dev/a:/dev/b:rw --device /dev/c:r --device-cgroup-rule 'c 1:3 rwm' img", func(s *cove.ContainerSpec) {
			s.Devices = []cove.Device{{HostPath: "/dev/fuse", ContainerPath: "/dev/fuse", Access: "rwm"}, {HostPath: "/dev/a", ContainerPath: "/dev/b", Access: "rw"}, {HostPath: "/dev/c", ContainerPath: "/dev/c", Access: "r"}}
			s.DeviceCgroupRules = []string{"c 1:3 rwm"}
		}},
		{"-m 64m --memory-swap -1 --memory-reservation 32m --memory-swappiness 10 --cpus 1.5 -c 512 --cpuset-cpus 0-1 --pids-limit -1 --blkio-weight 100 --oom-kill-disable --oom-score-adj -5 --shm-size 1g img", func(s *cove.ContainerSpec) {
			s.Resources = cove.Resources{Memory: 64 << 20, MemorySwap: -1, MemoryReservation: 32 << 20, MemorySwappiness: ptr[uint64](10),
				CPUs: 1.5, CPUShares: 512, CpusetCPUs: "0-1", PidsLimit: ptr[int64](-1), BlkioWeight: 100, OOMKillDisable: true}
			s.OOMScoreAdj, s.ShmSize = ptr(-5), ptr(int64(1<<30))
		}},
		{"--ulimit nofile=100:200 --ulimit nproc=5 --ulimit host --sysctl net.a=1 img", func(s *cove.ContainerSpec) {
			s.Ulimits = []cove.Ulimit{{Name: "nofile", Soft: 100, Hard: 200}, {Name: "nproc", Soft: 5, Hard: 5}, {Name: "host"}}
			s.Sysctl = map[string]string{"net.a": "1"}
		}},
		{"--pid host --ipc container:x --uts private --cgroupns ns:/x --userns host img", func(s *cove.ContainerSpec) {
			s.PID, s.IPC, s.UTS, s.CgroupNS, s.UserNS = "host", "container:x", "private", "ns:/x", "host"
		}},
		{"--restart on-failure:3 --stop-signal INT --stop-timeout 0 --timeout 9 img", func(s *cove.ContainerSpec) {
			s.Restart, s.StopSignal, s.StopTimeout, s.Timeout = cove.RestartPolicy{Name: "on-failure", MaxRetries: 3}, "INT", ptr[uint](0), 9
		}},
		{"--health-cmd 'curl -f x' --health-interval 5s --health-retries 2 --health-timeout 3s --health-start-period 1m --health-on-failure kill img", func(s *cove.ContainerSpec) {
			s.Health = &cove.HealthCheck{Test: []string{"CMD-SHELL", "curl -f x"}, Interval: 5 * time.Second, Retries: 2, Timeout: 3 * time.Second, StartPeriod: time.Minute, OnFailure: "kill"}
		}},
		{`--healthcheck-command ["CMD","a"] --health-interval disable img`, func(s *cove.ContainerSpec) {
			s.Health = &cove.HealthCheck{Test: []string{"CMD", "a"}, Interval: -1}
		}},
		{"--health-cmd none img", func(s *cove.ContainerSpec) { s.NoHealth = true }},
		{"--no-healthcheck img", func(s *cove.ContainerSpec) { s.NoHealth = true }},
		{"--platform linux/arm64 img", func(s *cove.ContainerSpec) { s.Platform = "linux/arm64" }},
		{"--arch arm --variant v7 img", func(s *cove.ContainerSpec) { s.Platform = "linux/arm/v7" }},
		{"--pull always --log-driver none --log-opt tag=x --log-opt path=l img", func(s *cove.ContainerSpec) {
			s.Pull, s.LogDriver, s.LogPath, s.LogOpts = "always", "none", "/home/me/l", map[string]string{"tag": "x"}
		}},
		{"--cidfile c --pidfile /p --conmon-pidfile m --init --init-path /i --cgroup-parent /g img", func(s *cove.ContainerSpec) {
			s.CIDFile, s.PidFile, s.ConmonPidFile, s.Init, s.InitPath, s.CgroupParent = "/home/me/c", "/p", "/home/me/m", true, "/i", "/g"
		}},
		{"--rootfs dir:O sh", func(s *cove.ContainerSpec) {
			s.Image, s.Rootfs, s.RootfsOverlay, s.Command = "", "/home/me/dir", true, []string{"sh"}
		}},
		{"--systemd=false --disable-content-trust img", func(s *cove.ContainerSpec) { s.Systemd = "false" }},
		{"--cgroups=no-conmon img", func(s *cove.ContainerSpec) { s.Cgroups = "no-conmon" }},
	} {
		t.Run(c.line, func(t *testing.T) {
			got, _, err := parse(c.line)
			if err != nil {
				t.Fatal(err)
			}
			want := cove.ContainerSpec{Image: "img", ReadOnlyTmpfs: true, HostEnv: []string{"http_proxy=http://p:1"}}
			c.want(&want)
			if !reflect.DeepEqual(normal(t, got), normal(t, want)) {
				t.Errorf("got  %s\nwant %s", normal(t, got), normal(t, want))
			}
		})
	}
}

// What containers.conf says lies under what flags say, also where they say no.
func TestConfigured(t *testing.T) {
	all := engine.Defaults{
		Spec: cove.ContainerSpec{
			Init: true, Privileged: true, ReadOnly: true, NoHosts: true,
			DefaultMounts: []cove.Mount{{Type: "tmpfs", Destination: "/z"}},
		},
		EnvHost: true, HTTPProxy: true, Env: []string{"FOO=not over the caller's", "ENGINE=own"},
	}
	for _, c := range []struct {
		line string
		conf engine.Defaults
		want func(*cove.ContainerSpec)
	}{
		{"img", engine.Defaults{}, func(*cove.ContainerSpec) {}},
		{"img", all, func(s *cove.ContainerSpec) {
			s.Init, s.Privileged, s.ReadOnly, s.NoHosts = true, true, true, true
			s.HostEnv = []string{"HOME=/root", "FOO=bar", "FOOD=fish", "http_proxy=http://p:1", "ENGINE=own"}
			s.DefaultMounts = all.Spec.DefaultMounts
		}},
		{"--init=false --privileged=false --read-only=false --no-hosts=false --env-host=false --http-proxy=false -v /d:/z img", all, func(s *cove.ContainerSpec) {
			s.Mounts, s.DefaultMounts = []cove.Mount{{Type: "bind", Source: "/d", Destination: "/z"}}, all.Spec.DefaultMounts
		}},
		{"--env-host --init --image-volume=tmpfs img", engine.Defaults{}, func(s *cove.ContainerSpec) {
			s.Init, s.ImageVolumes = true, "tmpfs"
			s.Env = []string{"HOME=/root", "FOO=bar", "FOOD=fish", "http_proxy=http://p:1"}
		}},
	} {
		o := &containerFlags{}
		fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
		o.flags(fs, true)
		if err := fs.Parse(shellWords(c.line)); err != nil {
			t.Fatal(err)
		}
		got, err := o.request(testSurroundings(), fs.Args())
		if err == nil {
			o.configured(&got, testSurroundings(), c.conf)
		}
		want := cove.ContainerSpec{Image: "img", ReadOnlyTmpfs: true}
		c.want(&want)
		if err != nil || normal(t, got) != normal(t, want) {
			t.Errorf("%s: %v\ngot  %s\nwant %s", c.line, err, normal(t, got), normal(t, want))
		}
	}
}

// normal is s as it is stored: nil and empty are the same there.
func normal(t *testing.T, s cove.ContainerSpec) string {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The texts are podman's where podman has one.
func TestRequestErrors(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"-v foo:bar:baz:x img", "foo:bar:baz:x: incorrect volume format, should be [host-dir:]ctr-dir[:option]"},
		{"-v rel:rel img", `invalid container path "rel", must be an absolute path`},
		{"-v /tmp:/x:foo img", `invalid option type "foo"`},
		{"-v /tmp:/x:ro,rw img", "can only specify 1"},
		{"-v :/x img", "host directory cannot be empty"},
		{"-v /tmp::ro img", "container directory cannot be empty"},
		{"-v /tmp:/x --tmpfs /x img", "/x: duplicate mount destination"},
		{"-v /a:/x -v /b:/x img", "/x: duplicate mount destination"},
		{"--mount type=foo img", `invalid filesystem type "foo"`},
		{"--mount type=bind,src=/tmp img", "must set volume destination"},
		{"--mount type=bind,src=/tmp,target=/x,foo=1 img", "foo: invalid mount option"},
		{"--mount type=volume,target=rel img", `invalid container path "rel"`},
		{"--mount type=tmpfs,src=/x,target=/y img", "source is not supported with tmpfs mounts"},
		{"--mount type=image,target=/x img", "must set source and destination for image volume"},
		{"--mount type=glob,src=/x*,dst=/ img", "not supported by cove yet"},
		{"--tmpfs rel img", `invalid container path "rel"`},
		{"--restart bad img", `"bad" is not a valid restart policy: invalid argument`},
		{"--restart on-failure:x img", `parsing restart policy retry count: strconv.Atoi: parsing "x": invalid syntax`},
		{"--restart always:3 img", "restart policy retries can only be specified with on-failure restart policy"},
		{"--rm --restart always img", `the --rm option conflicts with --restart, when the restartPolicy is not "" and "no"`},
		{"-m abc img", "invalid value for memory: invalid size: 'abc'"},
		{"--memory-swappiness 500 img", "invalid value: 500, valid memory swappiness range is 0-100"},
		{"--cpus 2 --cpu-quota 5 img", "--cpu-quota and --cpus cannot be set together"},
		{"--shm-size z img", "unable to translate --shm-size: invalid size: 'z'"},
		{"--ulimit foo img", `ulimit option "foo" requires name=SOFT:HARD, failed to be parsed: invalid ulimit argument: foo`},
		{"--sysctl foo img", "foo is invalid, sysctl values must be in the form of KEY=VALUE"},
		{"-e =x img", `invalid environment variable: "=x"`},
		{"--env-file nosuch img", `parsing env file "nosuch": open nosuch: file does not exist`},
		{"-l =x img", `unable to process labels: invalid label format: "=x"`},
		{"--annotation foo img", "annotations must be formatted KEY=VALUE"},
		{"--name a@b img", "names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*"},
		{"--replace img", "cannot replace container without --name being set"},
		{"--pid foo img", "unrecognized namespace mode foo passed"},
		{"--pid container: img", "invalid config provided: namespace mode container requires a value"},
		{"--userns auto:size=5 img", "--userns=auto:size=5 is not supported by cove yet"},
		{"--userns auto:foo=1 img", `unknown option specified: "foo"`},
		{"--userns keep-id:foo=1 img", `unknown option specified: "foo"`},
		{"--userns private img", "must provide at least one UID or GID mapping to configure a user namespace"},
		{"--userns host:x img", "unrecognized namespace mode host:x passed"},
		{"--userns nomap:x img", "unrecognized namespace mode nomap:x passed"},
		{"--userns foo img", "unrecognized namespace mode foo passed"},
		{"--security-opt foo img", `invalid --security-opt 1: "foo"`},
		{"--security-opt foo=bar img", `invalid --security-opt 2: "foo=bar"`},
		{"--security-opt proc-opts=hidepid=1 img", "is not supported by cove yet"},
		{"--device /dev/null:/a:b:c img", "invalid device specification: /dev/null:/a:b:c"},
		{"--device /dev/null:/x:q img", "invalid device mode: q"},
		{"--device-cgroup-rule foo img", "invalid device cgroup rule requires type, major:Minor, and access rules"},
		{"--health-cmd x --no-healthcheck img", "cannot specify both --no-healthcheck and --health-cmd"},
		{"--health-cmd x --health-interval zz img", `invalid healthcheck-interval: time: invalid duration "zz"`},
		{"--health-cmd x --health-retries 0 img", "healthcheck-retries must be greater than 0"},
		{"--health-cmd x --health-timeout 0s img", "healthcheck-timeout must be at least 1 second"},
		{"--health-on-failure x img", `invalid on-failure action "x" for health check: supported actions are none,kill,restart,stop`},
		{"--umask 9 img", "invalid umask string 9"},
		{"--pull foo img", `unsupported pull policy "foo"`},
		{"--platform a/b --arch x img", "--platform option can not be specified with --arch or --os"},
		{"--no-hosts --add-host a:1.2.3.4 img", "--no-hosts and --add-host cannot be set together"},
		{"--add-host foo img", `bad format for add-host: "foo"`},
		{"--add-host foo:zz img", `invalid IP address in add-host: "zz"`},
		{"--ip zzz img", `"zzz" is not an ip address`},
		{"--ip 1.2.3.4 --network none img", "networks and static ip/mac address can only be used with Bridge mode networking"},
		{"--mac-address zz img", "address zz: invalid MAC address"},
		{"--network host --network none img", "cannot set multiple networks without bridge network mode, selected mode host"},
		{"--network foo --network host img", "can only set extra network names, selected mode host conflicts with bridge: invalid argument"},
		{"--network bridge:foo=bar img", "unknown bridge network option: foo"},
		{"--network bridge:ip=x img", `invalid ip address "x"`},
		{"--dns zz img", "zz is not an ip address"},
		{"--expose zz img", "invalid range format for --expose: zz"},
		{"-p abc img", `parsing container port: invalid port number: strconv.Atoi: parsing "abc": invalid syntax`},
		{"-p 1:2:3:4:5 img", "invalid port format - format is [[hostIP:]hostPort:]containerPort"},
		{"-p 99999:80 img", "parsing host port: port numbers must be between 1 and 65535 (inclusive), got 99999"},
		{"-p 80-90:80 img", "host and container port ranges have different lengths: 11 vs 1"},
		{"-p 80:80/foo img", `unrecognized protocol "foo" in port mapping`},
		{"-p 1.2.3:80:80 img", `cannot parse "1.2.3" as an IP address`},
		{"-p 80-70:80-70 img", "parsing container port: the end port of a range must be higher than the start port - 70 is not higher than 80"},
		{"-p 80:80 -p 80:81 img", "conflicting port mappings for host port 80 (protocol tcp)"},
		{"--volumes-from x:zz img", `invalid option "zz" specified - volumes from another container can only use z,ro,rw options`},
		{"-a foo img", `invalid stream "foo" for --attach`},
		{"--log-opt foo img", `invalid log option "foo"`},
		{"--pod x img", "--pod is not supported by cove yet"},
		{"-w rel img", "needs to be an absolute path"},
	} {
		t.Run(c.line, func(t *testing.T) {
			_, _, err := parse(c.line)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}

// podman's own list of run's flags must be known, by support or by refusal.
func TestPodmanFlagsAreKnown(t *testing.T) {
	o := &containerFlags{}
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	o.flags(fs, true)
	for name := range strings.FieldsSeq(`
		add-host annotation arch attach authfile blkio-weight blkio-weight-device cap-add cap-drop cert-dir cgroup-conf
		cgroup-parent cgroupns cgroups chrootdirs cidfile conmon-pidfile cpu-period cpu-quota cpu-rt-period cpu-rt-runtime
		cpu-shares cpus cpuset-cpus cpuset-mems creds decryption-key detach detach-keys device device-cgroup-rule
		device-read-bps device-read-iops device-write-bps device-write-iops disable-content-trust dns dns-option dns-search
		entrypoint env env-file env-host env-merge expose gidmap gpus group-add group-entry health-cmd health-interval
		health-log-destination health-max-log-count health-max-log-size health-on-failure health-retries health-start-period
		health-startup-cmd health-startup-interval health-startup-retries health-startup-success health-startup-timeout
		health-timeout help hostname hosts-file hostuser http-proxy image-volume init init-ctr init-path interactive ip ip6
		ipc label label-file log-driver log-opt mac-address memory memory-reservation memory-swap memory-swappiness mount
		name network network-alias no-healthcheck no-hostname no-hosts oom-kill-disable oom-score-adj os passwd
		passwd-entry personality pid pidfile pids-limit platform pod pod-id-file preserve-fd preserve-fds privileged publish
		publish-all pull quiet rdt-class read-only read-only-tmpfs replace requires restart retry retry-delay rm rmi rootfs
		sdnotify seccomp-policy secret security-opt shm-size shm-size-systemd sig-proxy stop-signal stop-timeout subgidname
		subuidname sysctl systemd timeout tls-verify tmpfs tty tz uidmap ulimit umask unsetenv unsetenv-all user userns uts
		variant volume volumes-from workdir`) {
		if name != "help" && fs.Lookup(name) == nil {
			t.Errorf("--%s is neither supported nor refused", name)
		}
	}
}
