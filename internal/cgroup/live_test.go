package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// live gives the host's layout and a parent path of this test's own, which is
// removed at the end with whatever is in it.
func live(t testing.TB) (Layout, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes cgroups")
	}
	l, err := Detect()
	if err != nil {
		t.Skip("no cgroups here: ", err)
	}
	if _, _, err := l.Set("/x", nil); err != nil {
		t.Skip("cgroups cannot be made here: ", err)
	}
	return l, ownParent(t, l)
}

func ownParent(t testing.TB, l Layout) string {
	t.Helper()
	parent := fmt.Sprintf("/covetest-%d-%d", os.Getpid(), time.Now().UnixNano())
	t.Cleanup(func() {
		dirs, err := l.At(parent)
		if err != nil {
			t.Error(err)
		}
		if err := Kill(dirs, time.Now().Add(time.Minute)); err != nil {
			t.Error(err)
		}
		if err := Remove(dirs); err != nil {
			t.Error(err)
		}
		for _, d := range dirs {
			if _, err := os.Stat(d); !os.IsNotExist(err) {
				t.Errorf("%s is left: %v", d, err)
			}
		}
	})
	return parent
}

// half shows the hybrid host's version 2 hierarchy as a pure one, so far as
// that goes: it has no controllers that containers need.
func half(t *testing.T) (Layout, string) {
	t.Helper()
	l, _ := live(t)
	if l.Unified {
		return l, ownParent(t, l)
	}
	if !l.hybrid() {
		t.Skip("no version 2 hierarchy here")
	}
	text, err := os.ReadFile(l.Mount + "/cgroup.controllers")
	if err != nil {
		t.Fatal(err)
	}
	l = Layout{Unified: true, Mount: l.Mount, Writable: true, Controllers: strings.Fields(string(text))}
	// Make passes them on from the root; put back as it was, after all else.
	before := strings.Fields(value(t, []string{l.Mount}, "cgroup.subtree_control"))
	for _, c := range l.Controllers {
		if !slices.Contains(before, c) {
			t.Cleanup(func() { _ = writeFile(l.Mount+"/cgroup.subtree_control", "-"+c) })
		}
	}
	return l, ownParent(t, l)
}

func sleeper(t *testing.T, dirs []string, command ...string) *exec.Cmd {
	t.Helper()
	if len(command) == 0 {
		command = []string{"sleep", "1000"}
	}
	c := exec.Command(command[0], command[1:]...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	join(t, dirs, c.Process.Pid)
	fmt.Fprintln(in)
	return c
}

func join(t *testing.T, dirs []string, pid int) {
	t.Helper()
	for _, d := range dirs {
		if err := writeFile(d+"/cgroup.procs", strconv.Itoa(pid)); err != nil {
			t.Fatal(d, err)
		}
	}
}

func value(t *testing.T, dirs []string, file string) string {
	t.Helper()
	for _, d := range dirs {
		if text, err := os.ReadFile(d + "/" + file); err == nil {
			return strings.TrimSpace(string(text))
		}
	}
	t.Errorf("no %s", file)
	return ""
}

func mustSet(t testing.TB, l Layout, path string, r *specs.LinuxResources) Set {
	t.Helper()
	s, warnings, err := l.Set(path, r)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range warnings {
		t.Log(w)
	}
	return s
}

func TestLiveMake(t *testing.T) {
	l, parent := live(t)
	if l.Unified {
		t.Skip("reads version 1 files")
	}
	r := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: p(int64(64 << 20)), Swap: p(int64(128 << 20)), Reservation: p(int64(32 << 20)), Swappiness: p(uint64(10))},
		CPU:    &specs.LinuxCPU{Shares: p(uint64(512)), Quota: p(int64(50000)), Period: p(uint64(200000)), Cpus: "0"},
		Pids:   &specs.LinuxPids{Limit: p(int64(20))},
		Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"},
			{Allow: true, Type: "c", Major: p(int64(10)), Minor: p(int64(229)), Access: "rwm"}},
		BlockIO: &specs.LinuxBlockIO{},
	}
	if !l.Missing()["blkio weight"] {
		r.BlockIO.Weight = p(uint16(300))
	}
	s := mustSet(t, l, parent+"/a/id", r)
	if err := s.Make(); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "134217728", "memory.soft_limit_in_bytes": "33554432",
		"memory.swappiness": "10", "cpu.shares": "512", "cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "200000",
		"cpuset.cpus": "0", "pids.max": "20",
		"devices.list": "c 10:229 rwm\nc *:* m\nb *:* m\nc 1:3 rwm\nc 1:5 rwm\nc 1:7 rwm\nc 1:8 rwm\nc 1:9 rwm\nc 5:0 rwm\nc 5:2 rwm\nc 136:* rwm",
	} {
		if file == "devices.list" && l.Rootless {
			want = "a *:* rwm"
		}
		if got := value(t, s.Dirs, file); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
	if r.BlockIO.Weight != nil {
		if got := value(t, s.Dirs, "blkio.bfq.weight"); !strings.HasSuffix(got, "300") {
			t.Errorf("weight %q", got)
		}
	}
	if value(t, s.Dirs, "cpuset.mems") == "" {
		t.Error("no memory nodes")
	}
	c := sleeper(t, s.Dirs)
	// Raising and lowering, each through an order that the kernel refuses.
	for _, m := range []specs.LinuxMemory{
		{Limit: p(int64(512 << 20)), Swap: p(int64(600 << 20))},
		{Limit: p(int64(32 << 20)), Swap: p(int64(40 << 20))},
		{Limit: p(int64(-1))},
		{Limit: p(int64(32 << 20)), Swap: p(int64(32 << 20))},
		{Limit: p(int64(-1)), Swap: p(int64(-1))},
	} {
		u := mustSet(t, l, parent+"/a/id", &specs.LinuxResources{Memory: &m})
		if err := u.Apply(); err != nil {
			t.Fatalf("%d, %v: %v", *m.Limit, m.Swap, err)
		}
		if *m.Limit > 0 && (value(t, s.Dirs, "memory.limit_in_bytes") != number(*m.Limit) || value(t, s.Dirs, "memory.memsw.limit_in_bytes") != number(*m.Swap)) {
			t.Errorf("%d, %d: not set", *m.Limit, *m.Swap)
		}
	}
	// Above what others are limited to, and a value of nonsense: told, with the field.
	bad := mustSet(t, l, parent+"/a/id", &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "4000"}})
	if err := bad.Apply(); err == nil || !strings.Contains(err.Error(), "linux.resources.cpu.cpus") || !cove.Is(err, cove.Invalid) {
		t.Errorf("cpuset: %v", err)
	}
	// In use: not made anew, and untouched.
	if err := s.Make(); !cove.Is(err, cove.InUse) {
		t.Errorf("make in use: %v", err)
	}
	pids, err := Pids(s.Dirs)
	if err != nil || !slices.Equal(pids, []int{c.Process.Pid}) {
		t.Errorf("pids %v, %v", pids, err)
	}
	names, err := l.List(parent + "/a")
	if err != nil || !slices.Equal(names, []string{"id"}) {
		t.Errorf("list %v, %v", names, err)
	}
	if err := s.Remove(); !cove.Is(err, cove.InUse) {
		t.Errorf("remove in use: %v", err)
	}
	if err := Kill(s.Dirs, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(); err != nil {
		t.Error("remove again: ", err)
	}
}

// TestLiveUndo: an error leaves nothing behind, parents included.
func TestLiveUndo(t *testing.T) {
	l, parent := live(t)
	s := mustSet(t, l, parent+"/a/id", nil)
	s.Writes = append(s.Writes, Write{File: s.Dirs[0] + "/no.such", Value: "1", Field: "linux.resources.x"})
	err := s.Make()
	if !cove.Is(err, cove.Unsupported) || !strings.Contains(err.Error(), "linux.resources.x: this kernel or cgroup has no no.such") {
		t.Errorf("got %v", err)
	}
	dirs, _ := l.At(parent)
	for _, d := range dirs {
		if _, err := os.Stat(d); !os.IsNotExist(err) {
			t.Errorf("%s is left", d)
		}
	}
	// What is left behind by others is made anew.
	s = mustSet(t, l, parent+"/id", nil)
	if err := s.Make(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(s.Dirs[0]+"/below/deep", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.Make(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Dirs[0] + "/below"); !os.IsNotExist(err) {
		t.Error("not made anew")
	}
	// Not where somebody is below, in whatever hierarchy, or may be.
	empty, busy := s.Dirs[0]+"/empty", s.Dirs[len(s.Dirs)-1]+"/busy"
	if err := errors.Join(os.Mkdir(empty, 0o755), os.Mkdir(busy, 0o755)); err != nil {
		t.Fatal(err)
	}
	c := sleeper(t, []string{busy})
	refused := func(what string) {
		t.Helper()
		if err := s.Make(); !cove.Is(err, cove.InUse) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := os.Stat(empty); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("somebody below")
	_, _ = c.Process.Kill(), c.Wait()
	s.Shared = true
	refused("a cgroup below")
}

// TestLiveForeignParent: a cpuset whose parent nobody filled in.
func TestLiveForeignParent(t *testing.T) {
	l, parent := live(t)
	h, ok := l.hierarchy("cpuset")
	if !ok {
		t.Skip("no version 1 cpuset hierarchy")
	}
	if err := os.MkdirAll(h.Mount+parent+"/x", 0o755); err != nil {
		t.Fatal(err)
	}
	s := mustSet(t, l, parent+"/x/id", nil)
	if err := s.Make(); err != nil {
		t.Fatal(err)
	}
	sleeper(t, s.Dirs)
	if err := Kill(s.Dirs, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
}

func TestLiveFreeze(t *testing.T) {
	for name, layout := range map[string]func(*testing.T) (Layout, string){
		"v1": func(t *testing.T) (Layout, string) { return live(t) }, "v2": half,
	} {
		t.Run(name, func(t *testing.T) {
			l, parent := layout(t)
			s := mustSet(t, l, parent+"/id", nil)
			if err := s.Make(); err != nil {
				t.Fatal(err)
			}
			// A shell and its child, the child in a cgroup below.
			c := sleeper(t, s.Dirs, "sh", "-c", "read x; sleep 1000; :")
			var kids []int
			for end := time.Now().Add(time.Minute); len(kids) < 2 && time.Now().Before(end); {
				kids, _ = Pids(s.Dirs)
			}
			if len(kids) != 2 {
				t.Fatalf("members %v", kids)
			}
			child := kids[0] + kids[1] - c.Process.Pid
			for _, d := range s.Dirs {
				if err := os.Mkdir(d+"/below", 0o755); err != nil {
					t.Fatal(err)
				}
				if strings.Contains(d, "cpuset") {
					if err := inherit(d + "/below"); err != nil {
						t.Fatal(err)
					}
				}
				join(t, []string{d + "/below"}, child)
			}
			if pids, err := Pids(s.Dirs); err != nil || !slices.Equal(pids, kids) {
				t.Errorf("pids %v, %v", pids, err)
			}
			is := func(want bool) {
				t.Helper()
				if got, err := Frozen(s.Dirs); got != want || err != nil {
					t.Fatalf("frozen %v, %v", got, err)
				}
			}
			is(false)
			if err := Freeze(s.Dirs); err != nil {
				t.Fatal(err)
			}
			is(true)
			if err := Thaw(s.Dirs); err != nil {
				t.Fatal(err)
			}
			is(false)
			if err := Freeze(s.Dirs); err != nil {
				t.Fatal(err)
			}
			// What a container freezes below does not save it either.
			_ = writeFile(s.Dirs[0]+"/below/cgroup.freeze", "1")
			for _, d := range s.Dirs {
				_ = writeFile(d+"/below/freezer.state", "FROZEN")
			}
			start := time.Now()
			if err := Kill(s.Dirs, time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			t.Log("killed in", time.Since(start))
			if pids, err := Pids(s.Dirs); err != nil || len(pids) != 0 {
				t.Errorf("left %v, %v", pids, err)
			}
			if err := Remove(s.Dirs); err != nil {
				t.Fatal(err)
			}
			is(false)
			if err := Kill(s.Dirs, time.Now()); err != nil {
				t.Error("kill what is gone: ", err)
			}
			if err := Freeze(s.Dirs); !cove.Is(err, cove.Unsupported) {
				t.Errorf("freeze what is gone: %v", err)
			}
			if _, err := Stats(s.Dirs); !cove.Is(err, cove.NoFile) {
				t.Errorf("stats of what is gone: %v", err)
			}
		})
	}
}

// TestLiveFrozenElsewhere: a process that has gone into another freezer than its
// container's, and is frozen there, is ended all the same.
func TestLiveFrozenElsewhere(t *testing.T) {
	l, parent := live(t)
	s, other := mustSet(t, l, parent+"/id", nil), mustSet(t, l, parent+"/other", nil)
	for _, x := range []Set{s, other} {
		if err := x.Make(); err != nil {
			t.Fatal(err)
		}
	}
	f, ok := findFreezer(other.Dirs)
	if !ok || f.unified {
		t.Skip("needs a freezer of version 1")
	}
	c := sleeper(t, s.Dirs, "sleep", "1000")
	join(t, []string{f.dir}, c.Process.Pid)
	if err := Freeze(other.Dirs); err != nil {
		t.Fatal(err)
	}
	bystander := sleeper(t, other.Dirs, "sleep", "1000")
	t.Cleanup(func() { _ = Thaw(other.Dirs) })
	if err := bringHome(s.Dirs, time.Now().Add(-time.Second)); err != nil {
		t.Error(err)
	}
	if pids, err := Pids([]string{f.dir}); err != nil || len(pids) != 2 {
		t.Errorf("in the other after the deadline: %v, %v", pids, err)
	}
	if err := Kill(s.Dirs, time.Now().Add(time.Minute)); err != nil {
		t.Error(err)
	}
	if pids, err := Pids(other.Dirs); err != nil || !slices.Equal(pids, []int{bystander.Process.Pid}) {
		t.Errorf("in the other: %v, %v", pids, err)
	}
	if frozen, err := Frozen(other.Dirs); !frozen || err != nil {
		t.Errorf("the other is frozen: %v, %v", frozen, err)
	}
}

// TestLiveAnother: whoever has got the number of a process that has ended does not stay
// in the freezer into which that one was to be put.
func TestLiveAnother(t *testing.T) {
	l, parent := live(t)
	s := mustSet(t, l, parent+"/id", nil)
	if err := s.Make(); err != nil {
		t.Fatal(err)
	}
	f, ok := findFreezer(s.Dirs)
	if !ok || f.unified {
		t.Skip("needs a freezer of version 1")
	}
	c, another := sleeper(t, nil), sleeper(t, nil)
	fd, err := unix.PidfdOpen(c.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	is := func(want ...int) {
		t.Helper()
		if pids, err := Pids(s.Dirs); err != nil || !slices.Equal(pids, want) {
			t.Errorf("in the freezer: %v, %v", pids, err)
		}
	}
	if err := f.adopt(c.Process.Pid, fd); err != nil {
		t.Error(err)
	}
	is(c.Process.Pid)
	_ = c.Process.Kill()
	_ = c.Wait()
	if err := f.adopt(another.Process.Pid, fd); err != nil {
		t.Error(err)
	}
	is()
}

// TestLiveForkBomb: processes that fork without end are ended, by either way.
func TestLiveForkBomb(t *testing.T) {
	l, parent := live(t)
	for name, only := range map[string]func(string) bool{
		"all": func(string) bool { return true },
		"v1":  func(d string) bool { return !strings.HasPrefix(d, l.Mount+"/") || l.Mount == "" },
	} {
		t.Run(name, func(t *testing.T) {
			s := mustSet(t, l, parent+"/"+name, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: p(int64(300))}})
			if err := s.Make(); err != nil {
				t.Fatal(err)
			}
			dirs := slices.DeleteFunc(slices.Clone(s.Dirs), func(d string) bool { return !only(d) })
			if len(dirs) == 0 {
				t.Skip("no such hierarchy here")
			}
			c := exec.Command("sh", "-c", "read x; b() { b | b & b; }; b")
			in, err := c.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			join(t, s.Dirs, c.Process.Pid)
			fmt.Fprintln(in)
			time.Sleep(100 * time.Millisecond)
			n, _ := Pids(s.Dirs)
			start := time.Now()
			if err := Kill(dirs, time.Now().Add(time.Minute)); err != nil {
				t.Error(err)
			}
			t.Log(len(n), "processes killed in", time.Since(start))
			_ = c.Wait()
			if err := Remove(s.Dirs); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLiveNotOurselves(t *testing.T) {
	l, parent := live(t)
	s := mustSet(t, l, parent+"/id", nil)
	if err := s.Make(); err != nil {
		t.Fatal(err)
	}
	// A thread of ours suffices on version 1; the freezer's task list.
	h, ok := l.hierarchy("freezer")
	if !ok {
		t.Skip("no version 1 freezer")
	}
	dir := h.Mount + parent + "/id"
	join(t, []string{dir}, os.Getpid())
	err := Kill(s.Dirs, time.Now().Add(time.Minute))
	join(t, []string{h.Mount}, os.Getpid())
	if !cove.Is(err, cove.InUse) {
		t.Fatal(err)
	}
}

func TestLiveStats(t *testing.T) {
	l, parent := live(t)
	s := mustSet(t, l, parent+"/id", &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: p(int64(9))}})
	if err := s.Make(); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("sh", "-c", "read x; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo; read x")
	in, _ := c.StdinPipe()
	out, _ := c.StdoutPipe()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	join(t, s.Dirs, c.Process.Pid)
	fmt.Fprintln(in)
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	u, err := Stats(s.Dirs)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", u)
	if u.CPU < 10e6 || u.CPUUser == 0 || u.MemoryTotal == 0 || u.Memory > u.MemoryTotal || u.Pids != 1 || u.PidsLimit != 9 || u.MemoryLimit != hostMemory() {
		t.Error("implausible")
	}
}

// TestLiveDeviceProgram gives the program to the kernel: its verifier accepts
// it, and a process in the cgroup feels it.
func TestLiveDeviceProgram(t *testing.T) {
	l, parent := half(t)
	minor := func(v int64) *int64 { return &v }
	r := &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
		{Access: "rwm"},
		{Allow: true, Type: "a", Major: minor(7), Access: "r"},
		{Allow: true, Type: "c", Major: minor(10), Access: "rw"},
		{Allow: false, Type: "c", Major: minor(10), Minor: minor(229), Access: "w"},
	}}
	s := mustSet(t, l, parent+"/id", r)
	err := s.Make()
	if unix.EINVAL == firstErrno(err) || unix.ENOSYS == firstErrno(err) || unix.EPERM == firstErrno(err) {
		t.Skip("this kernel has no BPF for cgroups: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	attempt := func(dev string) bool {
		t.Helper()
		c := exec.Command("sh", "-c", `read x; exec 3<"$0"`, dev)
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		join(t, s.Dirs, c.Process.Pid)
		fmt.Fprintln(in)
		return c.Wait() == nil
	}
	var fs unix.Statfs_t
	dir := t.TempDir()
	if unix.Statfs(dir, &fs) == nil && fs.Flags&unix.ST_NODEV != 0 { // as systemd mounts /tmp
		if dir, err = os.MkdirTemp("/dev", "cove"); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
	}
	kmsg := filepath.Join(dir, "kmsg") // 1:11, in no list
	if err := unix.Mknod(kmsg, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 11))); err != nil {
		t.Fatal(err)
	}
	if !attempt("/dev/null") {
		t.Error("/dev/null is denied")
	}
	if attempt(kmsg) {
		t.Error("kmsg is allowed")
	}
	// Replaced, in both ways: one program stays.
	for _, devices := range [][]specs.LinuxDeviceCgroup{{{Allow: true}}, {{Allow: true}, {Type: "c", Major: minor(1), Minor: minor(11)}}, {{Allow: true}}} {
		u := mustSet(t, l, parent+"/id", &specs.LinuxResources{Devices: devices})
		if err := u.Apply(); err != nil {
			t.Fatal(err)
		}
		fd, err := open(s.Dirs[0], unix.O_DIRECTORY)
		if err != nil {
			t.Fatal(err)
		}
		progs, err := attached(fd)
		unix.Close(fd)
		if len(progs) != 1 || err != nil {
			t.Errorf("%d programs, %v", len(progs), err)
		}
		for _, p := range progs {
			unix.Close(p)
		}
		if got := attempt(kmsg); got != (len(devices) == 1) {
			t.Errorf("%d rules: kmsg %v", len(devices), got)
		}
	}
}

func firstErrno(err error) unix.Errno {
	for err != nil {
		if e, ok := err.(unix.Errno); ok {
			return e
		}
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return 0
		}
		err = u.Unwrap()
	}
	return 0
}

func TestLiveControllers(t *testing.T) {
	l, parent := half(t)
	if len(l.Controllers) == 0 {
		t.Skip("version 2 has no controller here")
	}
	s := mustSet(t, l, parent+"/pod/id", nil)
	if err := s.Make(); err != nil {
		t.Fatal(err)
	}
	if got := value(t, s.Dirs, "cgroup.controllers"); got != strings.Join(l.Controllers, " ") {
		t.Errorf("controllers %q, want %v", got, l.Controllers)
	}
	if err := s.Remove(); err != nil {
		t.Fatal(err)
	}
	dirs, _ := l.At(parent)
	if err := Remove(dirs); err != nil {
		t.Fatal(err)
	}
}

func TestLiveDeep(t *testing.T) {
	l, parent := half(t)
	s := mustSet(t, l, parent+"/id", nil)
	if err := s.Make(); err != nil {
		t.Fatal(err)
	}
	// Deeper than a path can say.
	fd, err := open(s.Dirs[0], unix.O_DIRECTORY)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("x", 200)
	for depth := range 40 {
		if err := unix.Mkdirat(fd, name, 0o755); err != nil {
			t.Log("depth ", depth, err)
			break
		}
		next, err := openat(fd, name, unix.O_DIRECTORY)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
	if _, err := Pids(s.Dirs); err != nil {
		t.Error(err)
	}
	if err := s.Remove(); err != nil {
		t.Error(err)
	}
}

func BenchmarkDetect(b *testing.B) {
	for b.Loop() {
		if _, err := Detect(); err != nil {
			b.Skip(err)
		}
	}
}

func BenchmarkMake(b *testing.B) {
	l, parent := live(b)
	keep := mustSet(b, l, parent+"/keep", nil)
	if err := keep.Make(); err != nil {
		b.Fatal(err)
	}
	r := &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}, Pids: &specs.LinuxPids{Limit: p(int64(2048))}}
	for b.Loop() {
		s := mustSet(b, l, parent+"/id", r)
		if err := s.Make(); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Remove(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkSetJSONFree(b *testing.B) {
	l := v1(true)
	r := &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}, Pids: &specs.LinuxPids{Limit: p(int64(2048))}}
	for b.Loop() {
		if _, _, err := l.Set("/cove/id", r); err != nil {
			b.Fatal(err)
		}
	}
}

// What several share goes when it is empty, and nobody who makes something below
// it at that moment minds.
func TestLiveRemoveEmpty(t *testing.T) {
	l, parent := live(t)
	s := mustSet(t, l, parent+"/id", nil)
	if err := s.Make(); err != nil {
		t.Fatal(err)
	}
	if err := l.RemoveEmpty(parent); err != nil {
		t.Fatal(err)
	}
	if names, err := l.List(parent); err != nil || !slices.Equal(names, []string{"id"}) {
		t.Fatalf("in use: %v, %v", names, err)
	}
	if err := s.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := l.RemoveEmpty(parent); err != nil {
		t.Fatal(err)
	}
	dirs, _ := l.At(parent)
	for _, d := range dirs {
		if _, err := os.Stat(d); !os.IsNotExist(err) {
			t.Errorf("%s is left", d)
		}
	}
	stop := make(chan struct{})
	var remover sync.WaitGroup
	remover.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = l.RemoveEmpty(parent)
			}
		}
	})
	for range 100 {
		if err := errors.Join(s.Make(), s.Remove()); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	remover.Wait()
}
