package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Who is the user of a container becomes the owner of its pipes and of files that
// it writes to, and of nothing else that happens to be a stream.
func TestRuntimeStreamsOwner(t *testing.T) {
	b := newBundle(t, "cat; echo out; echo err >&2; echo more > /dev/stderr")
	b.Process.User = specs.User{UID: 7, GID: 8}
	b.Process.Capabilities = nil
	b.write()
	owner := func(f *os.File) uint32 {
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		return st.Uid
	}
	open := func(name string, flags int) *os.File {
		f, err := os.OpenFile(name, flags, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	secret := filepath.Join(b.dir, "secret")
	if err := os.WriteFile(secret, []byte("in\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := open(secret, os.O_RDONLY)
	out := open(filepath.Join(b.dir, "written"), os.O_CREATE|os.O_WRONLY)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	cmd := b.command("run", "--bundle", b.dir, "c")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, w
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
	if got := []uint32{owner(in), owner(out), owner(w)}; got[0] != 0 || got[1] != 7 || got[2] != 7 {
		t.Errorf("owners: %v", got)
	}
	text, _ := os.ReadFile(filepath.Join(b.dir, "written"))
	b.expect(string(text), "in\nout")

	zero := filepath.Join(b.dir, "zero")
	if err := unix.Mknod(zero, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))); err != nil {
		t.Fatal(err)
	}
	b.Process.Args = []string{"true"}
	b.write()
	for _, name := range []string{zero, b.dir} {
		f := open(name, os.O_RDONLY)
		cmd := b.command("run", "--bundle", b.dir, "c")
		cmd.Stdin = f
		if out, err := cmd.CombinedOutput(); err != nil || owner(f) != 0 {
			t.Errorf("%s: %v %s, owner %d", name, err, out, owner(f))
		}
	}
}

// The pid file goes where it was asked for, whatever others have put beside it.
func TestRuntimePIDFileLink(t *testing.T) {
	b := newBundle(t, "sleep 60")
	b.write()
	victim, file := filepath.Join(b.dir, "victim"), filepath.Join(b.dir, "pid")
	if err := os.WriteFile(victim, []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".pid", "pid"} {
		if err := os.Symlink(victim, filepath.Join(b.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := b.command("run", "--detach", "--pid-file", file, "--bundle", b.dir, "c")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	pid, _ := os.ReadFile(file)
	b.expect(string(pid), strconv.Itoa(b.state().PID))
	text, _ := os.ReadFile(victim)
	b.expect(string(text), "untouched")
}

// What a record of another user's says is nothing to signal, remove or run by, and
// nobody waits for it.
func TestRuntimeRecordOfAnother(t *testing.T) {
	b := newBundle(t, "sleep 60")
	b.write()
	dir := filepath.Join(b.root, "c")
	if err := errors.Join(os.MkdirAll(dir, 0o755), unix.Mkfifo(filepath.Join(dir, "state.json"), 0o644), os.Chown(dir, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for _, args := range [][]string{{"state", "c"}, {"kill", "c"}, {"delete", "--force", "c"}, {"run", "--bundle", b.dir, "c"}} {
		out, err := b.command(args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "another user's (65534)") {
			t.Errorf("%v: %v %s", args, err, out)
		}
	}
}

// In a user namespace devices are the host's of the same path: it has to be the
// device that was asked for.
func TestRuntimeDeviceOfHost(t *testing.T) {
	b := newBundle(t, "stat -c %t:%T /dev/zero")
	b.users()
	b.places()
	b.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/zero", Type: "c", Major: 1, Minor: 3}}
	b.refused("the host has another device there")
	b.Linux.Devices[0].Minor = 5
	if out := strings.TrimSpace(b.run()); out != "1:5" {
		t.Error(out)
	}
}

// Who joins a process namespace is made in sight of those in it, who with
// CAP_SYS_PTRACE can have what he has: nothing but what the container's own
// processes are to have, from its making on. Debian's runc has that hole.
func TestCVEProcesses(t *testing.T) {
	a := newAttack(t)
	w := newBundle(t, watch+"\ntouch /ready; look & look")
	for _, set := range []*[]string{&w.Process.Capabilities.Bounding, &w.Process.Capabilities.Effective, &w.Process.Capabilities.Permitted} {
		*set = append(*set, "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE")
	}
	w.Process.Env = append(w.Process.Env, "HOST="+filepath.Join(w.dir, "config.json"))
	w.start()
	w.until("it watches", func() bool { return exists(filepath.Join(w.dir, "rootfs/ready")) })
	processes := fmt.Sprintf("/proc/%d/ns/pid", w.state().PID)
	for _, nnp := range []bool{false, true} {
		b := newBundle(t, "echo $$; readlink /proc/$$/ns/pid; exec sleep 60")
		b.Process.NoNewPrivileges = nnp
		b.setNamespace(specs.PIDNamespace, processes)
		b.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/bin/sleep", Args: []string{"sleep", "0.1"}}}}
		for range 3 {
			output := b.create()
			created := b.state()
			time.Sleep(300 * time.Millisecond) // it is looked at
			b.ok("start", "c")
			var lines []string
			b.until("it runs", func() bool {
				lines = strings.Fields(output())
				return len(lines) == 2
			})
			ns, _ := os.Readlink(processes)
			if created.PID != b.state().PID || lines[0] == "1" || lines[1] != ns {
				t.Errorf("created as %v, runs as %v with %v; want %s", created, b.state(), lines, ns)
			}
			b.ok("delete", "-f", "c")
		}
	}
	if found, err := os.ReadFile(filepath.Join(w.dir, "rootfs/found")); err == nil {
		a.fell("%s", found)
	}
}

// watch writes down who of its process namespace has the file HOST of the
// host's below its root, a program or descriptor of the runtime's, or more rights than a container.
const watch = `look() {
	while :; do
		for p in /proc/[0-9]*; do
			test -e $p/root$HOST && echo $p has the host >> /found
			for fd in $p/fd/*; do
				case $fd:$(readlink $fd) in *:/*start|*:/*waiting|*state.json*) echo $fd >> /found ;; esac
			done
			while read key value; do
				case $key$value in Name:cove*|CapPrm:000001ff*|CapPrm:000003ff*) echo $p $key $value >> /found ;; esac
			done < $p/status
		done
	done 2>/dev/null
}`

func exists(path string) bool { _, err := os.Lstat(path); return err == nil }

// cgroupsAt gives the directories of a cgroup, of either version.
func cgroupsAt(path string) []string {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + path)
	unified, _ := filepath.Glob("/sys/fs/cgroup" + path)
	all := append(dirs, unified...)
	for i, d := range all { // hierarchies with several controllers have a link for each
		all[i], _ = filepath.EvalSymlinks(d)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// A create whose cgroup is another's is refused, and harms nobody there: neither
// processes in it nor those in a cgroup below.
func TestRuntimeCgroupOfAnother(t *testing.T) {
	b := newBundle(t, "sleep 60")
	b.start()
	first := b.state().PID
	for _, d := range cgroupsAt(filepath.Dir(b.Linux.CgroupsPath)) {
		empty := d + "/empty"
		if err := os.Mkdir(empty, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
		defer func() {
			if err := os.Remove(empty); err != nil {
				t.Error("an empty cgroup beside: ", err)
			}
		}()
	}
	for _, path := range []string{b.Linux.CgroupsPath, filepath.Dir(b.Linux.CgroupsPath)} {
		o := newBundle(t, "sleep 60")
		o.Linux.CgroupsPath = path
		o.refused("make cgroup")
		if b.state().Status != "running" {
			t.Fatalf("a create in %s has ended the container there", path)
		}
		// A create that is killed just before: what it would have made is not its own.
		o.write()
		dir := filepath.Join(o.root, "c")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		cgroups := cgroupsAt(path)
		if len(cgroups) == 0 {
			t.Fatal("there is no cgroup ", path)
		}
		record, _ := json.Marshal(map[string]any{"version": 1, "id": "c", "cgroups": cgroups, "cgroupPath": path})
		if err := os.WriteFile(filepath.Join(dir, "state.json"), record, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := o.try("kill", "--all", "c", "KILL"); err == nil {
			t.Errorf("kill: %s", out)
		}
		o.ok("delete", "--force", "c")
		if s := b.state(); s.Status != "running" || s.PID != first {
			t.Fatalf("a delete in %s has ended the container there", path)
		}
	}
}

// A container that has ended has nothing to do with a later one in a cgroup of
// the same name.
func TestRuntimeCgroupAgain(t *testing.T) {
	for _, verb := range [][]string{{"delete", "c"}, {"kill", "--all", "c", "KILL"}, {"kill", "--all", "c", "TERM"}, {"delete", "--force", "c"}} {
		a, b := newBundle(t, "true"), newBundle(t, "sleep 60")
		a.start()
		a.until("it has ended", func() bool { return a.state().Status == "stopped" })
		b.Linux.CgroupsPath = a.Linux.CgroupsPath
		b.start()
		first := b.state().PID
		if out, _ := a.try("ps", "--format", "json", "c"); strings.Contains(out, strconv.Itoa(first)) {
			t.Errorf("ps: %s has another's process %d", out, first)
		}
		out, err := a.try(verb...)
		if s := b.state(); s.Status != "running" || s.PID != first {
			t.Fatalf("%v of one that had ended has ended another: %s %v", verb, out, err)
		}
		b.ok("delete", "--force", "c")
	}
}

// A capability that the runtime has not itself is told of by create, and by exec.
func TestRuntimeLackedCapability(t *testing.T) {
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip("needs setpriv")
	}
	lacking := func(cmd *exec.Cmd) (string, error) {
		cmd.Args = append([]string{"setpriv", "--bounding-set=-sys_time", "--inh-caps=-sys_time"}, cmd.Args...)
		cmd.Path = "/usr/bin/setpriv"
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	b := newBundle(t, "sleep 60")
	caps := b.Process.Capabilities
	for i, set := range []*[]string{&caps.Bounding, &caps.Permitted, &caps.Effective} {
		*set = append(*set, "CAP_SYS_TIME")
		if i == 0 {
			continue // which takes away, and gives nothing
		}
		b.write()
		if out, err := lacking(b.command("create", "--bundle", b.dir, "c")); err == nil || !strings.Contains(out, "set capabilities: operation not permitted") {
			t.Errorf("create: %v %s", err, out)
		}
	}
	b.start()
	if out, err := lacking(b.command("exec", "c", "true")); err == nil || !strings.Contains(out, "set capabilities: operation not permitted") {
		t.Errorf("exec: %v %s", err, out)
	}
}

// What is no spec is refused, without reading more than a spec can be.
func TestRuntimeHostileInput(t *testing.T) {
	b := newBundle(t, "sleep 60")
	config := filepath.Join(b.dir, "config.json")
	b.write()
	good, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(with ...string) string { return strings.NewReplacer(with...).Replace(string(good)) }
	text := func(text string) func() error {
		return func() error { return os.WriteFile(config, []byte(text), 0o644) }
	}
	for _, attempt := range []struct {
		make func() error
		want string
	}{
		{func() error { return unix.Mkfifo(config, 0o644) }, "not a regular file"},
		{func() error { return os.Symlink("/dev/zero", config) }, "not a regular file"},
		{func() error { return os.Mkdir(config, 0o755) }, "not a regular file"},
		{func() error { return os.Symlink(config, config) }, "too many levels of symbolic links"},
		{func() error { return errors.Join(text("{")(), os.Truncate(config, 1<<40)) }, "is longer than"},
		{text(""), "unexpected end"},
		{text(strings.Repeat(`{"linux":`, 100_000)), "exceeded max depth"},
		{text(strings.Repeat("[", 15<<20)), "exceeded max depth"},
		{text(replace(`"rootfs"`, `"root\u0000fs"`)), "invalid argument"},
		{text(replace(`"rootfs"`, "\"root\xfffs\"")), "no such file"},
		{text(replace(`"sleep 60"`, `"sleep\u0000 60"`)), "zero byte"},
		{text(replace(cgroupTop, `\u0000`)), "unprintable"},
		{text(replace(`"/proc/kcore"`, `"/proc/\u0000kcore"`)), "invalid argument"},
		{text(replace(`"/dev/shm"`, `"/dev/s\u0000hm"`)), "invalid argument"},
		{text(replace(`"hostname":`, `"hostname":"`+strings.Repeat("h", 65)+`","x":`)), "set hostname"},
	} {
		if err := errors.Join(os.RemoveAll(config), attempt.make()); err != nil {
			t.Fatal(err)
		}
		out, err := b.try("create", "--bundle", b.dir, "c")
		if err == nil || !strings.Contains(out, attempt.want) || len(out) > 10_000 {
			t.Errorf("want %q: %v %.1000s", attempt.want, err, out)
		}
		_, _ = b.try("delete", "--force", "c")
	}
	if err := os.RemoveAll(config); err != nil {
		t.Fatal(err)
	}
	b.start()
	for _, args := range [][]string{{"exec", "--process", "/dev/zero", "c"}, {"update", "--resources", "/dev/zero", "c"}} {
		if out, err := b.try(args...); err == nil || !strings.Contains(out, "is longer than") {
			t.Errorf("%v: %v %s", args, err, out)
		}
	}
}

// Who is to be sent a terminal and is no such listener is told of, and nothing is
// left; nobody is waited for for ever.
func TestRuntimeHostileConsole(t *testing.T) {
	b := newBundle(t, "sleep 60")
	b.Process.Terminal = true
	b.write()
	path := filepath.Join(b.dir, "console")
	socket := func(kind, backlog int) int {
		fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
		}
		if err == nil && kind != unix.SOCK_DGRAM {
			err = unix.Listen(fd, backlog)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		return fd
	}
	for _, attempt := range []struct {
		make func()
		want string
	}{
		{func() { socket(unix.SOCK_DGRAM, 0) }, "protocol wrong type"},
		{func() { socket(unix.SOCK_SEQPACKET, 1) }, "protocol wrong type"},
		{func() { _ = unix.Shutdown(socket(unix.SOCK_STREAM, 1), unix.SHUT_RDWR) }, "connection refused"},
		{func() { _ = unix.Mkfifo(path, 0o600) }, "connection refused"},
		{func() { _ = os.Symlink("nowhere", path) }, "no such file"},
		{func() { // it accepts nobody, and somebody is before us
			socket(unix.SOCK_STREAM, 0)
			first, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				err = unix.Connect(first, &unix.SockaddrUnix{Name: path})
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Close(first) })
		}, "nobody has accepted"},
	} {
		attempt.make()
		if out, err := b.try("create", "--bundle", b.dir, "--console-socket", path, "c"); err == nil || !strings.Contains(out, attempt.want) {
			t.Errorf("want %q: %v %s", attempt.want, err, out)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if out, err := b.try("state", "c"); err == nil {
			t.Error("it is left: ", out)
		}
	}
}
