package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// controllers are those that this host has, each with the directory of its
// hierarchy: one for all on version 2. What version 2 has beside version 1 no
// runtime uses.
func controllers(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		mount, fs, _ := strings.Cut(line, " - ")
		at := strings.Fields(mount)[4]
		f := strings.Fields(fs)
		switch f[0] {
		case "cgroup":
			for name := range strings.SplitSeq(f[2], ",") {
				all[name] = at
			}
		case "cgroup2":
			if !cgroup2() {
				continue
			}
			names, _ := os.ReadFile(filepath.Join(at, "cgroup.controllers"))
			for _, name := range strings.Fields(string(names)) {
				all[name] = at
			}
		}
	}
	return all
}

// disk is a block device of this host's, to have limits.
func disk(t *testing.T) (major, minor int64) {
	t.Helper()
	all, _ := filepath.Glob("/sys/block/*/dev")
	for _, f := range all {
		text, err := os.ReadFile(f)
		if err == nil && !strings.Contains(f, "/loop") {
			if n, err := fmt.Sscanf(string(text), "%d:%d", &major, &minor); n == 2 && err == nil {
				return major, minor
			}
		}
	}
	t.Skip("this host has no disk")
	return 0, 0
}

// limit is a file of a cgroup, and the line that is to be in it.
type limit struct{ controller, name, want string }

// lacking tells which of the files a new cgroup has not.
func lacking(t *testing.T, has map[string]string, files []limit) string {
	t.Helper()
	for _, f := range files {
		at := has[f.controller]
		if at == "" {
			return f.controller
		}
		if cgroup2() {
			_ = os.WriteFile(filepath.Join(at, "cgroup.subtree_control"), []byte("+"+f.controller), 0)
		}
		probe, err := os.MkdirTemp(at, "cove-test-probe")
		if err != nil {
			t.Fatal(err)
		}
		_, err = os.Stat(filepath.Join(probe, f.name))
		if rm := os.Remove(probe); rm != nil {
			t.Error(rm)
		}
		if err != nil {
			return f.name
		}
	}
	return ""
}

// Limits, as the kernel has them. A field whose file this host lacks is refused
// by its name.
func TestRuntimeResources(t *testing.T) {
	has := controllers(t)
	major, minor := disk(t)
	device := fmt.Sprintf("%d:%d", major, minor)
	throttle := func(rate uint64) []specs.LinuxThrottleDevice {
		d := specs.LinuxThrottleDevice{Rate: rate}
		d.Major, d.Minor = major, minor
		return []specs.LinuxThrottleDevice{d}
	}
	for _, row := range []struct {
		field  string
		change func(*specs.LinuxResources)
		v1, v2 []limit // that of a controller that is there
	}{
		{"memory.limit", func(r *specs.LinuxResources) {
			r.Memory = &specs.LinuxMemory{Limit: ptr[int64](64 << 20), Reservation: ptr[int64](32 << 20), DisableOOMKiller: nil}
		}, []limit{{"memory", "memory.limit_in_bytes", "67108864"}, {"memory", "memory.soft_limit_in_bytes", "33554432"}},
			[]limit{{"memory", "memory.max", "67108864"}, {"memory", "memory.low", "33554432"}}},
		{"memory.swap", func(r *specs.LinuxResources) {
			r.Memory = &specs.LinuxMemory{Limit: ptr[int64](64 << 20), Swap: ptr[int64](128 << 20)}
		}, []limit{{"memory", "memory.memsw.limit_in_bytes", "134217728"}}, []limit{{"memory", "memory.swap.max", "67108864"}}},
		{"memory.swappiness", func(r *specs.LinuxResources) { r.Memory = &specs.LinuxMemory{Swappiness: ptr[uint64](10)} },
			[]limit{{"memory", "memory.swappiness", "10"}}, nil},
		{"memory.disableOOMKiller", func(r *specs.LinuxResources) { r.Memory = &specs.LinuxMemory{DisableOOMKiller: ptr(true)} },
			[]limit{{"memory", "memory.oom_control", "oom_kill_disable 1"}}, nil},
		{"cpu", func(r *specs.LinuxResources) {
			r.CPU = &specs.LinuxCPU{Shares: ptr[uint64](512), Quota: ptr[int64](20000), Period: ptr[uint64](50000), Burst: ptr[uint64](10000)}
		}, []limit{{"cpu", "cpu.shares", "512"}, {"cpu", "cpu.cfs_quota_us", "20000"}, {"cpu", "cpu.cfs_period_us", "50000"}, {"cpu", "cpu.cfs_burst_us", "10000"}},
			[]limit{{"cpu", "cpu.weight", "59"}, {"cpu", "cpu.max", "20000 50000"}, {"cpu", "cpu.max.burst", "10000"}}},
		{"cpu.idle", func(r *specs.LinuxResources) { r.CPU = &specs.LinuxCPU{Idle: ptr[int64](1)} },
			[]limit{{"cpu", "cpu.idle", "1"}}, []limit{{"cpu", "cpu.idle", "1"}}},
		{"cpu.cpus", func(r *specs.LinuxResources) { r.CPU = &specs.LinuxCPU{Cpus: "0", Mems: "0"} },
			[]limit{{"cpuset", "cpuset.cpus", "0"}, {"cpuset", "cpuset.mems", "0"}}, []limit{{"cpuset", "cpuset.cpus", "0"}, {"cpuset", "cpuset.mems", "0"}}},
		{"cpu.realtimePeriod", func(r *specs.LinuxResources) {
			r.CPU = &specs.LinuxCPU{RealtimePeriod: ptr[uint64](500000), RealtimeRuntime: ptr[int64](0)}
		}, []limit{{"cpu", "cpu.rt_period_us", "500000"}, {"cpu", "cpu.rt_runtime_us", "0"}}, nil},
		{"pids", func(r *specs.LinuxResources) { r.Pids = &specs.LinuxPids{Limit: ptr[int64](50)} },
			[]limit{{"pids", "pids.max", "50"}}, []limit{{"pids", "pids.max", "50"}}},
		{"blockIO.throttle", func(r *specs.LinuxResources) {
			r.BlockIO = &specs.LinuxBlockIO{
				ThrottleReadBpsDevice: throttle(1 << 20), ThrottleWriteBpsDevice: throttle(2 << 20),
				ThrottleReadIOPSDevice: throttle(100), ThrottleWriteIOPSDevice: throttle(200),
			}
		}, []limit{{"blkio", "blkio.throttle.read_bps_device", device + " 1048576"}, {"blkio", "blkio.throttle.write_bps_device", device + " 2097152"},
			{"blkio", "blkio.throttle.read_iops_device", device + " 100"}, {"blkio", "blkio.throttle.write_iops_device", device + " 200"}},
			[]limit{{"io", "io.max", device + " rbps=1048576 wbps=2097152 riops=100 wiops=200"}}},
		{"blockIO.weight", func(r *specs.LinuxResources) { r.BlockIO = &specs.LinuxBlockIO{Weight: ptr[uint16](500)} },
			[]limit{{"blkio", "blkio.bfq.weight", "500"}}, []limit{{"io", "io.bfq.weight", "default 500"}}},
		{"hugepageLimits", func(r *specs.LinuxResources) {
			r.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}
		}, []limit{{"hugetlb", "hugetlb.2MB.limit_in_bytes", "4194304"}}, []limit{{"hugetlb", "hugetlb.2MB.max", "4194304"}}},
		{"network.classID", func(r *specs.LinuxResources) { r.Network = &specs.LinuxNetwork{ClassID: ptr[uint32](7)} },
			[]limit{{"net_cls", "net_cls.classid", "7"}}, nil},
		{"network.priorities", func(r *specs.LinuxResources) {
			r.Network = &specs.LinuxNetwork{Priorities: []specs.LinuxInterfacePriority{{Name: "lo", Priority: 3}}}
		}, []limit{{"net_prio", "net_prio.ifpriomap", "lo 3"}}, nil},
		{"unified", func(r *specs.LinuxResources) {
			r.Unified = map[string]string{"pids.max": "33", "memory.high": "50331648"}
		}, nil, []limit{{"pids", "pids.max", "33"}, {"memory", "memory.high", "50331648"}}},
	} {
		t.Run(row.field, func(t *testing.T) {
			files := row.v1
			if cgroup2() {
				files = row.v2
			}
			missing := "the field, with this version of cgroups"
			if len(files) > 0 {
				missing = lacking(t, has, files)
			}
			b := newBundle(t, "sleep 60")
			b.Linux.Resources = &specs.LinuxResources{}
			row.change(b.Linux.Resources)
			if missing != "" {
				top, _, _ := strings.Cut(row.field, ".")
				b.refused("linux.resources." + top)
				t.Skip("refused: this host lacks ", missing)
			}
			b.write()
			b.start()
			for _, f := range files {
				text, err := os.ReadFile(filepath.Join(has[f.controller], b.Linux.CgroupsPath, f.name))
				if err != nil || !slices.Contains(strings.Split(string(text), "\n"), f.want) {
					t.Errorf("%s: %q (%v), want %q", f.name, text, err, f.want)
				}
			}
		})
	}
}

// Fields that the kernel tells of inside.
func TestRuntimeFields(t *testing.T) {
	for _, row := range []struct {
		name, script string
		change       func(*bundle)
		want         string
	}{
		{"domainname", "cat /proc/sys/kernel/domainname", func(b *bundle) { b.Domainname = "example.org" }, "example.org"},
		{"memoryPolicy bind", "grep -m 1 -o 'bind[^ ]*' /proc/self/numa_maps", func(b *bundle) {
			b.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}}
		}, "bind=static:0"},
		{"memoryPolicy interleave", "grep -m 1 -o 'interleave[^ ]*' /proc/self/numa_maps", func(b *bundle) {
			b.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolInterleave, Nodes: "0"}
		}, "interleave:0"},
		{"rootfsPropagation unbindable", "grep ' / rw' /proc/self/mountinfo | grep -o unbindable", func(b *bundle) { b.Linux.RootfsPropagation = "unbindable" }, "unbindable"},
		{"rootfsPropagation shared", "grep ' / rw' /proc/self/mountinfo | grep -o 'shared:'", func(b *bundle) { b.Linux.RootfsPropagation = "shared" }, "shared:"},
		{"rootfsPropagation shared, of the root alone", "grep ' /dev rw' /proc/self/mountinfo | grep -c 'shared:' || true", func(b *bundle) { b.Linux.RootfsPropagation = "shared" }, "0"},
		{"rootfsPropagation rshared", "grep ' /dev rw' /proc/self/mountinfo | grep -o 'shared:'", func(b *bundle) { b.Linux.RootfsPropagation = "rshared" }, "shared:"},
		{"mount unbindable", "grep ' /m ' /proc/self/mountinfo | grep -o unbindable; grep -c unbindable /proc/self/mountinfo", func(b *bundle) {
			b.Mounts = append(b.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: b.dir, Options: []string{"rbind", "unbindable"}})
		}, "unbindable\n1"},
		{"mount runbindable", "test $(grep -c ' /m[/ ]' /proc/self/mountinfo) = $(grep -c unbindable /proc/self/mountinfo) && grep -o -m 1 unbindable /proc/self/mountinfo", func(b *bundle) {
			b.Mounts = append(b.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: "/sys/fs/cgroup", Options: []string{"rbind", "runbindable"}})
		}, "unbindable"},
		{"mount silent", "grep -o ' /m .*ro' /proc/self/mountinfo | cut -d, -f1", func(b *bundle) {
			b.Mounts = append(b.Mounts, specs.Mount{Destination: "/m", Type: "tmpfs", Source: "tmpfs", Options: []string{"silent", "iversion", "ro"}},
				specs.Mount{Destination: "/n", Type: "bind", Source: b.dir, Options: []string{"bind", "silent", "loud", "iversion", "noiversion"}})
		}, "/m ro"},
		{"tmpfs over a directory", "stat -c %a /covered /fresh", func(b *bundle) {
			if err := os.Mkdir(filepath.Join(b.dir, "rootfs/covered"), 0o700); err != nil {
				b.t.Fatal(err)
			}
			b.Mounts = append(b.Mounts, specs.Mount{Destination: "/covered", Type: "tmpfs", Source: "tmpfs"}, specs.Mount{Destination: "/fresh", Type: "tmpfs", Source: "tmpfs"})
		}, "700\n1777"},
		{"HOME that is empty", "echo $HOME; env | grep -c HOME", func(b *bundle) { b.Process.Env = append(b.Process.Env, "HOME=") }, "/\n1"},
		{"paths that lead through a link", "ls -A /tmp/vol; touch /etc/x 2>&1 | grep -o Read-only", func(b *bundle) {
			for name, to := range map[string]string{"temporary": "tmp", "settings": "/etc", "away": "../../../nowhere"} {
				if err := os.Symlink(to, filepath.Join(b.dir, "rootfs", name)); err != nil {
					b.t.Fatal(err)
				}
			}
			b.Mounts = append(b.Mounts, specs.Mount{Destination: "/tmp/vol", Type: "bind", Source: b.dir, Options: []string{"bind"}})
			b.Linux.MaskedPaths = []string{"/temporary/vol", "/away"}
			b.Linux.ReadonlyPaths = []string{"/settings"}
		}, "Read-only"},
		{"cwd that is missing", "pwd; stat -c %a:%u .", func(b *bundle) { b.Process.Cwd = "/not/there" }, "/not/there\n755:0"},
		{"ambient that nobody inherits", "grep CapAmb /proc/self/status", func(b *bundle) {
			b.Process.Capabilities = &specs.LinuxCapabilities{
				Bounding: []string{"CAP_KILL", "CAP_CHOWN"}, Permitted: []string{"CAP_KILL", "CAP_CHOWN"}, Effective: []string{"CAP_KILL"},
				Inheritable: []string{"CAP_CHOWN"}, Ambient: []string{"CAP_KILL", "CAP_CHOWN"},
			}
		}, "CapAmb:\t0000000000000001"},
		{"bind with a file system's options", "ls /m/config.json", func(b *bundle) {
			b.Mounts = append(b.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: b.dir, Options: []string{"bind", "sync", "dirsync", "mand"}})
		}, "/m/config.json"},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBundle(t, row.script)
			row.change(b)
			if _, err := os.Stat("/proc/self/numa_maps"); err != nil && b.Linux.MemoryPolicy != nil {
				b.write()
				if out, err := b.try("run", "--bundle", b.dir, "c"); err == nil || !strings.Contains(out, "built without NUMA") {
					t.Errorf("%v %s, want a refusal: this kernel has no NUMA", err, out)
				}
				return
			}
			b.expect(b.run(), row.want)
		})
	}
}

// Each flag reaches seccomp(2).
func TestRuntimeSeccompFlags(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace")
	}
	for _, row := range []struct {
		flag specs.LinuxSeccompFlag
		want string
	}{
		{"", ", 0, {"}, {specs.LinuxSeccompFlagLog, "SECCOMP_FILTER_FLAG_LOG"}, {specs.LinuxSeccompFlagSpecAllow, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"},
		{"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_TSYNC"},
	} {
		for _, nnp := range []bool{true, false} {
			b := newBundle(t, "grep Seccomp: /proc/self/status")
			b.Process.NoNewPrivileges = nnp
			b.Linux.Seccomp = &specs.LinuxSeccomp{
				DefaultAction: specs.ActAllow,
				Syscalls:      []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno}},
			}
			if row.flag != "" {
				b.Linux.Seccomp.Flags = []specs.LinuxSeccompFlag{row.flag}
			}
			b.write()
			cmd := b.command("run", "--bundle", b.dir, "c")
			trace := filepath.Join(b.dir, "trace")
			cmd.Args = append([]string{"strace", "-f", "-qq", "-e", "trace=seccomp", "-e", "signal=none", "-o", trace}, cmd.Args...)
			cmd.Path = strace
			out, err := cmd.CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != "Seccomp:\t2" {
				t.Errorf("%s: %v %s", row.flag, err, out)
			}
			text, _ := os.ReadFile(trace)
			if !strings.Contains(string(text), "SECCOMP_SET_MODE_FILTER") || !strings.Contains(string(text), row.want) {
				t.Errorf("%s, no_new_privs %v: %s", row.flag, nnp, text)
			}
		}
	}
}

// process.execCPUAffinity: the last word is final's.
func TestRuntimeExecAffinity(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("needs two processors")
	}
	b := newBundle(t, "sleep 60")
	b.start()
	all := b.ok("exec", "c", "grep", "Cpus_allowed_list", "/proc/self/status")
	for _, row := range []struct{ initial, final, want string }{
		{"", "1", "1"}, {"0", "1", "1"}, {"1", "0", "0"}, {"", "", ""},
	} {
		p := *b.Process
		p.Args = []string{"grep", "Cpus_allowed_list", "/proc/self/status"}
		p.ExecCPUAffinity = &specs.CPUAffinity{Initial: row.initial, Final: row.final}
		data, err := json.Marshal(&p)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(b.dir, "process.json")
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		want := "Cpus_allowed_list:\t" + row.want + "\n"
		if row.want == "" {
			want = all
		}
		if got := b.ok("exec", "--process", file, "c"); got != want {
			t.Errorf("%+v: %q", row, got)
		}
	}
}

func ptr[T any](v T) *T { return &v }

// podman writes an option without a word for /tmp of a systemd in a container.
func TestRuntimeEmptyOption(t *testing.T) {
	b := newBundle(t, "grep -c -e ' /mnt ' -e ' /bound ' /proc/mounts")
	b.Mounts = append(b.Mounts,
		specs.Mount{Destination: "/mnt", Type: "tmpfs", Source: "tmpfs", Options: []string{"rw", "", "nosuid"}},
		specs.Mount{Destination: "/bound", Type: "bind", Source: b.dir, Options: []string{"", "rbind"}})
	b.expect(b.run(), "2")
}
