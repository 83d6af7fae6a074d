package test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// joining makes a container, and another bundle that is to join its processes.
func joining(t *testing.T, script string) (host, b *bundle) {
	host = newBundle(t, "sleep 61")
	host.start()
	b = newBundle(t, script)
	b.setNamespace(specs.PIDNamespace, fmt.Sprintf("/proc/%d/ns/pid", host.state().PID))
	return host, b
}

// members are the processes of its cgroups.
func (b *bundle) members() []string {
	var all []string
	for _, top := range []string{"/sys/fs/cgroup/*", "/sys/fs/cgroup"} {
		files, _ := filepath.Glob(top + b.Linux.CgroupsPath + "/cgroup.procs")
		for _, f := range files {
			text, _ := os.ReadFile(f)
			all = append(all, strings.Fields(string(text))...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// What joins another's processes sees them, is what it was created as, and runs
// its hooks where they belong: with the rights of who makes it outside, with
// those of the command inside.
func TestRuntimeJoinedProcesses(t *testing.T) {
	_, b := joining(t, `echo self $$ $(readlink /proc/self/ns/pid); echo one $(cat /proc/1/cmdline); wc -c /proc/keys; ulimit -n; sleep 62`)
	record := func(point string) []specs.Hook {
		file := filepath.Join(b.dir, "rootfs/trace")
		if point == "startContainer" {
			file = "/trace"
		}
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c",
			fmt.Sprintf(`state=$(cat); pid=${state#*\"pid\":}; echo %s ${pid%%%%[,\}]*} $(readlink /proc/self/ns/pid) >> %s`, point, file)}, Env: []string{"PATH=/bin"}}}
	}
	b.Hooks = &specs.Hooks{CreateRuntime: record("createRuntime"), CreateContainer: record("createContainer"), StartContainer: record("startContainer"), Poststart: record("poststart")}
	b.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 5, Hard: 6}}
	output := b.create()
	pid := b.state().PID
	inside := status(t, pid, "NSpid")
	b.ok("start", "c")
	b.until("it has run", func() bool { return strings.Count(output(), "\n") == 4 })
	ns, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	own, _ := os.Readlink("/proc/self/ns/pid")
	number := inside[len(inside)-1]
	b.expect(output(), fmt.Sprintf("self %s %s\none sleep61\n0 /proc/keys\n5", number, ns))
	trace, _ := os.ReadFile(filepath.Join(b.dir, "rootfs/trace"))
	var maker int
	_, _ = fmt.Sscanf(string(trace), "createRuntime %d", &maker)
	b.expect(string(trace), fmt.Sprintf("createRuntime %[1]d %[2]s\ncreateContainer %[1]d %[2]s\nstartContainer %[3]s %[4]s\npoststart %[5]d %[2]s", maker, own, number, ns, pid))
	if maker == 0 || maker == pid {
		t.Errorf("init is the container's process %d", pid)
	}
	if slices.Contains(b.members(), strconv.Itoa(maker)) {
		t.Errorf("init %d is still there", maker)
	}
}

// status are the words of a line of /proc/PID/status.
func status(t *testing.T, pid int, key string) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(text), key+":")
	line, _, _ = strings.Cut(line, "\n")
	return strings.Fields(line)
}

// Whichever of the two processes of a created container ends, so does the other.
func TestRuntimeJoinedEnds(t *testing.T) {
	_, b := joining(t, "sleep 62")
	for name, end := range map[string]func(){
		"signal": func() { b.ok("kill", "c", "USR1") },
		"init":   func() { killOthers(t, b) },
		"delete": func() { b.ok("delete", "c") },
	} {
		b.create()
		end()
		b.until(name+": all have ended", func() bool { return len(b.members()) == 0 })
		if name != "delete" {
			b.until(name+": it is seen as stopped", func() bool { return b.state().Status == "stopped" })
			if out, err := b.try("start", "c"); err == nil || !strings.Contains(out, "cannot start a container in the stopped state") {
				t.Errorf("%s: %v %s", name, err, out)
			}
			b.ok("delete", "c")
		}
	}
	// What fails late is told by start.
	b.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo because >&2; exit 3"}}}}
	b.create()
	if out, err := b.try("start", "c"); err == nil || !strings.Contains(out, "startContainer hook #0, /bin/sh: exit status 3: because") {
		t.Errorf("hook: %v %s", err, out)
	}
	b.ok("delete", "c")
	b.Hooks = nil
	b.Process.Args = []string{"/bin/gone"}
	gone := filepath.Join(b.dir, "rootfs/bin/gone")
	if err := os.Link(filepath.Join(b.dir, "rootfs/bin/busybox"), gone); err != nil {
		t.Fatal(err)
	}
	b.create()
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	if out, err := b.try("start", "c"); err == nil || !strings.Contains(out, "exec /bin/gone: no such file or directory") {
		t.Errorf("command: %v %s", err, out)
	}
}

// killOthers kills who is in the container's cgroup but is not its process.
func killOthers(t *testing.T, b *bundle) {
	pid := b.state().PID
	killed := false
	for _, word := range b.members() {
		if other, _ := strconv.Atoi(word); other != pid && unix.Kill(other, unix.SIGKILL) == nil {
			killed = true
		}
	}
	if !killed {
		t.Error("nobody waits for the start")
	}
}

// The processes of a user namespace are joined from it, and those of the host's
// from a new one.
func TestRuntimeJoinedUsers(t *testing.T) {
	top := newBundle(t, "sleep 61")
	top.start()
	host := newBundle(t, "sleep 61")
	host.places()
	host.users()
	host.start()
	path := func(name string) string { return fmt.Sprintf("/proc/%d/ns/%s", host.state().PID, name) }
	b := newBundle(t, "echo $(cat /proc/1/cmdline) 61 $(id -u); sleep 62")
	b.places()
	b.users()
	b.Linux.UIDMappings, b.Linux.GIDMappings = nil, nil
	b.setNamespace(specs.UserNamespace, path("user"))
	b.setNamespace(specs.PIDNamespace, path("pid"))
	output := b.create()
	if len(b.members()) < 2 {
		t.Error("it waits for its start in the process namespace")
	}
	b.ok("start", "c")
	b.until("it has run", func() bool { return strings.Contains(output(), "\n") })
	b.expect(output(), "sleep61 61 0")
	b.ok("delete", "-f", "c")

	// Those of the host's it cannot have a /proc of, as with any runtime.
	b = newBundle(t, "id -u; sleep 62")
	b.places()
	b.users()
	b.setNamespace(specs.PIDNamespace, fmt.Sprintf("/proc/%d/ns/pid", top.state().PID))
	b.refused("mount proc on /proc: operation not permitted")
	b.Mounts = slices.DeleteFunc(b.Mounts, func(m specs.Mount) bool { return m.Destination == "/proc" })
	b.Linux.MaskedPaths, b.Linux.ReadonlyPaths = nil, nil
	output = b.start()
	b.until("it has run", func() bool { return output() != "" })
	b.expect(output(), "0")
}

// A policy that is not inherited is the command's all the same.
func TestRuntimeJoinedScheduler(t *testing.T) {
	_, b := joining(t, "sleep 62")
	b.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 5, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}}
	b.start()
	attr, err := unix.SchedGetAttr(b.state().PID, 0)
	if err != nil || attr.Policy != unix.SCHED_BATCH || attr.Nice != 5 || attr.Flags != 1 {
		t.Errorf("%+v %v", attr, err)
	}
}

// A filter that is older than system calls of ours lets it be made, too, with
// and without no-new-privileges; what it cannot do without is told.
func TestRuntimeJoinedFilter(t *testing.T) {
	_, b := joining(t, "echo well; sleep 62")
	deny := func(names ...string) {
		b.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: names, Action: specs.ActErrno}}}
	}
	for _, nnp := range []bool{false, true} {
		b.Process.NoNewPrivileges = nnp
		deny("close_range", "accept4", "pidfd_open", "sendmsg", "recvmsg", "poll", "clone3")
		output := b.start()
		b.until("it has run", func() bool { return output() != "" })
		b.expect(output(), "well")
		b.ok("exec", "c", "true")
		b.ok("delete", "-f", "c")
	}
	b.Process.Args, b.Process.NoNewPrivileges = []string{"nosuch"}, false
	b.refused("executable file not found in $PATH")
	b.Process.Args = []string{"true"}
	deny("clone")
	b.refused("the seccomp profile has to allow clone")
}

// The process is given by descriptor, too, under runc's names.
func TestRuntimePIDFDSocket(t *testing.T) {
	for _, joins := range []bool{false, true} {
		b := newBundle(t, "sleep 62")
		if joins {
			_, b = joining(t, "sleep 62")
		}
		path := filepath.Join(b.dir, "pidfd")
		accept := listenFD(t, path)
		check := func(name string, pid int) int {
			t.Helper()
			f := accept()
			text, _ := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", f.Fd()))
			if f.Name() != name || !strings.Contains(string(text), fmt.Sprintf("\nPid:\t%d\n", pid)) {
				t.Errorf("got %s: %s, want %s of %d", f.Name(), text, name, pid)
			}
			return int(f.Fd())
		}
		b.write()
		b.ok("create", "--bundle", b.dir, "--pidfd-socket", path, "c")
		init := check("standard", b.state().PID)
		b.ok("start", "c")
		file := filepath.Join(b.dir, "pid")
		b.ok("exec", "--detach", "--pid-file", file, "--pidfd-socket", path, "c", "sleep", "63")
		text, _ := os.ReadFile(file)
		pid, _ := strconv.Atoi(string(text))
		check("setns", pid)
		if err := unix.PidfdSendSignal(init, unix.SIGKILL, nil, 0); err != nil {
			t.Error(err)
		}
		b.until("it has ended", func() bool { return b.state().Status == "stopped" })
		b.ok("delete", "c")
		b.ok("run", "--detach", "--bundle", b.dir, "--pidfd-socket", path, "c")
		check("standard", b.state().PID)
		b.ok("delete", "-f", "c")
		if out, err := b.try("create", "--bundle", b.dir, "--pidfd-socket", path+"x", "c"); err == nil || !strings.Contains(out, "send process descriptor to "+path+"x: no such file or directory") {
			t.Errorf("%v %s", err, out)
		}
	}
}
