package test

import (
	"bytes"
	"context"
	"encoding/binary"
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
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// bundle is a bundle with busybox, and the OCI runtime to run it with.
type bundle struct {
	t    *testing.T
	dir  string
	root string // of the runtime
	bin  string
	specs.Spec
}

// cgroupTop is where the bundles' cgroups are.
const cgroupTop = "/cove-runtime-test"

// newBundle makes one whose command is sh -c script.
func newBundle(t *testing.T, script string) *bundle {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes namespaces, mounts and cgroups")
	}
	b := &bundle{t: t, bin: os.Getenv("COVE_RUNTIME_BINARY")}
	if b.bin == "" {
		b.bin = "../bin/cove-runtime"
	}
	var err error
	if b.bin, err = filepath.Abs(b.bin); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(b.bin); err != nil {
		t.Skip("needs cove-runtime (make build): ", err)
	}
	if b.dir, err = os.MkdirTemp("/tmp", "cb"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b.root = filepath.Join(b.dir, "state")
	t.Cleanup(b.clean)
	bin := filepath.Join(b.dir, "rootfs/bin")
	for _, d := range []string{"bin", "etc", "tmp", "root"} {
		if err := os.MkdirAll(filepath.Join(b.dir, "rootfs", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := copyProgram("/bin/busybox", filepath.Join(bin, "busybox")); err != nil {
		t.Skip("needs busybox-static: ", err)
	}
	for _, name := range strings.Fields("sh ls cat id mount umount ps sleep echo env head grep tail mkdir touch chroot stat test true false readlink kill wc ln rm dd tty hostname date nproc ulimit seq mknod chmod") {
		if err := os.Symlink("busybox", filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := b.try("spec", "--bundle", b.dir); err != nil {
		t.Fatal(err, out)
	}
	data, err := os.ReadFile(filepath.Join(b.dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &b.Spec); err != nil {
		t.Fatal(err)
	}
	b.Process.Terminal, b.Root.Readonly = false, false
	b.Process.Rlimits = nil
	b.Process.Args = []string{"sh", "-c", script}
	b.Linux.CgroupsPath = cgroupTop + "/" + filepath.Base(b.dir)
	return b
}

// clean removes what the test has left, and tells what cannot be removed.
func (b *bundle) clean() {
	if out, err := b.try("list", "-q"); err == nil {
		for _, id := range strings.Fields(out) {
			if out, err := b.try("delete", "--force", id); err != nil {
				b.t.Errorf("delete --force %s: %v: %s", id, err, out)
			}
		}
	}
	if !b.t.Failed() {
		b.leaks()
	}
	for _, m := range mountsBelow(b.dir, "") {
		b.t.Errorf("left behind: mount %s", m)
		_ = unix.Unmount(m, unix.MNT_DETACH)
	}
	_ = os.RemoveAll(b.dir)
	// Above the containers' cgroups, which no runtime removes.
	for _, d := range cgroupsAt(cgroupTop) {
		_ = unix.Rmdir(d)
	}
}

// leaks looks for what no container owns any more.
func (b *bundle) leaks() {
	for _, c := range cgroupsAt(cgroupTop + "/" + filepath.Base(b.dir) + "*") {
		b.t.Errorf("left behind: cgroup %s", c)
	}
	entries, _ := os.ReadDir(b.root)
	for _, e := range entries {
		if e.Name() != "@seccomp" {
			b.t.Errorf("left behind: %s in the runtime's root", e.Name())
		}
	}
	all, _ := filepath.Glob("/proc/[0-9]*/root")
	for _, p := range all {
		if to, err := os.Readlink(p); err == nil && strings.HasPrefix(to, b.dir) {
			b.t.Errorf("left behind: process %s with root %s", p, to)
		}
	}
}

// write writes the spec into the bundle.
func (b *bundle) write() {
	b.t.Helper()
	data, err := json.Marshal(&b.Spec)
	if err == nil {
		err = os.WriteFile(filepath.Join(b.dir, "config.json"), data, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// command is a call of the runtime.
func (b *bundle) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	b.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, b.bin, append([]string{"--root", b.root}, args...)...)
	cmd.WaitDelay = time.Second
	return cmd
}

func (b *bundle) try(args ...string) (string, error) {
	cmd := b.command(args...)
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // a container has our output
	}
	return string(out), err
}

// ok is try for what has to succeed.
func (b *bundle) ok(args ...string) string {
	b.t.Helper()
	out, err := b.try(args...)
	if err != nil {
		b.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// run writes the bundle and runs it in the foreground.
func (b *bundle) run() string {
	b.t.Helper()
	b.write()
	return b.ok("run", "--bundle", b.dir, "c")
}

// refused writes the bundle, which create must refuse with the words.
func (b *bundle) refused(words string) {
	b.t.Helper()
	b.write()
	out, err := b.try("create", "--bundle", b.dir, "c")
	if err == nil {
		b.t.Errorf("was created; want a refusal with %q", words)
	} else if !strings.Contains(out, words) {
		b.t.Errorf("refused with %q, want %q in it", out, words)
	}
}

// start creates and starts it in the background, with its output in a file.
func (b *bundle) start() (output func() string) {
	b.t.Helper()
	output = b.create()
	b.ok("start", "c")
	return output
}

// create is start without it.
func (b *bundle) create() (output func() string) {
	b.t.Helper()
	b.write()
	file, err := os.Create(filepath.Join(b.dir, "output"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer file.Close()
	cmd := b.command("create", "--bundle", b.dir, "c")
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(file.Name())
		b.t.Fatalf("create: %v\n%s", err, text)
	}
	return func() string {
		text, _ := os.ReadFile(file.Name())
		return string(text)
	}
}

type ociState struct {
	Status string `json:"status"`
	PID    int    `json:"pid"`
	Bundle string `json:"bundle"`
}

func (b *bundle) state() (s ociState) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(b.ok("state", "c")), &s); err != nil {
		b.t.Fatal(err)
	}
	return s
}

// until waits for something.
func (b *bundle) until(what string, holds func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("timed out: %s", what)
		}
	}
}

func (b *bundle) expect(got, want string) {
	b.t.Helper()
	if strings.TrimSpace(got) != want {
		b.t.Errorf("got %q, want %q", got, want)
	}
}

// drop takes a namespace away from the spec, and set gives it a path.
func (b *bundle) setNamespace(kind specs.LinuxNamespaceType, path string) {
	b.Linux.Namespaces = slices.DeleteFunc(b.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
	if path != "-" {
		b.Linux.Namespaces = append(b.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
	}
}

// users gives the container a user namespace.
func (b *bundle) users() {
	b.setNamespace(specs.UserNamespace, "")
	b.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	b.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
}

// places makes those of the mounts, which the root of a user namespace cannot.
func (b *bundle) places() {
	b.t.Helper()
	for _, d := range []string{"proc", "sys", "dev"} {
		if err := os.MkdirAll(filepath.Join(b.dir, "rootfs", d), 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
}

func TestRuntimeLife(t *testing.T) {
	b := newBundle(t, "trap 'echo term; exit 7' TERM; echo up; while :; do sleep 0.05; done")
	b.Annotations = map[string]string{"a": "b"}
	b.write()
	pidFile := filepath.Join(b.dir, "pid")
	cmd := b.command("create", "--bundle", b.dir, "--pid-file", pidFile, "c")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	s := b.state()
	pid, _ := os.ReadFile(pidFile)
	if s.Status != "created" || strconv.Itoa(s.PID) != string(pid) || s.Bundle != b.dir {
		t.Errorf("after create: %+v, pid file %s", s, pid)
	}
	if out, err := b.try("create", "--bundle", b.dir, "c"); err == nil || !strings.Contains(out, "already exists") {
		t.Errorf("a second create: %v %s", err, out)
	}
	b.ok("start", "c")
	if s := b.state(); s.Status != "running" {
		t.Errorf("after start: %+v", s)
	}
	if out, err := b.try("start", "c"); err == nil {
		t.Errorf("a second start: %s", out)
	}
	if out, err := b.try("delete", "c"); err == nil || !strings.Contains(out, "not stopped") {
		t.Errorf("delete of a running one: %v %s", err, out)
	}
	if out := b.ok("list", "-q"); out != "c\n" {
		t.Errorf("list: %q", out)
	}
	b.ok("pause", "c")
	if s := b.state(); s.Status != "paused" {
		t.Errorf("after pause: %+v", s)
	}
	if out, err := b.try("exec", "c", "true"); err == nil {
		t.Errorf("exec while paused: %s", out)
	}
	b.ok("resume", "c")
	b.expect(b.ok("exec", "c", "echo", "in"), "in")
	var pids []int
	if err := json.Unmarshal([]byte(b.ok("ps", "--format", "json", "c")), &pids); err != nil || !slices.Contains(pids, s.PID) {
		t.Errorf("ps: %v %v", pids, err)
	}
	if out := b.ok("ps", "c"); !strings.Contains(out, "trap") {
		t.Errorf("ps: %s", out)
	}
	b.ok("kill", "c", "TERM")
	b.until("it stops", func() bool { return b.state().Status == "stopped" })
	if out, err := b.try("kill", "c", "TERM"); err == nil || !strings.Contains(out, "container not running") {
		t.Errorf("kill of a stopped one: %v %s", err, out)
	}
	b.ok("delete", "c")
	if out, err := b.try("state", "c"); err == nil || !strings.Contains(out, "does not exist") {
		t.Errorf("state of none: %v %s", err, out)
	}
}

// What is wrong with the command is told by create, and with the code and the
// words that engines look for.
func TestRuntimeCommand(t *testing.T) {
	b := newBundle(t, "")
	for _, c := range []struct{ command, words string }{
		{"nowhere", "exec nowhere: executable file not found in $PATH"},
		{"/bin/nowhere", "exec /bin/nowhere: no such file or directory"},
		{"/etc", "exec /etc: permission denied"},
		{"/plain", "exec /plain: permission denied"},
	} {
		if err := os.WriteFile(filepath.Join(b.dir, "rootfs/plain"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		b.Process.Args = []string{c.command}
		b.refused(c.words)
	}
	// What only the kernel can say, start does.
	if err := os.WriteFile(filepath.Join(b.dir, "rootfs/garbage"), []byte("\x01\x02garbage"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.Process.Args = []string{"/garbage"}
	b.write()
	if out, err := b.try("run", "--bundle", b.dir, "c"); err == nil || !strings.Contains(out, "exec format error") {
		t.Errorf("garbage: %v %s", err, out)
	}
	b.Process.Args = []string{"sh", "-c", "exit 42"}
	b.write()
	_, err := b.try("run", "--bundle", b.dir, "c")
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 42 {
		t.Errorf("exit 42: %v", err)
	}
	b.Process.Args = []string{"sh", "-c", "kill -9 $$; sleep 1"}
	b.Linux.Namespaces = slices.DeleteFunc(b.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
	b.write()
	_, err = b.try("run", "--bundle", b.dir, "c")
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 137 {
		t.Errorf("SIGKILL: %v", err)
	}
}

func TestRuntimeLog(t *testing.T) {
	b := newBundle(t, "")
	b.Process.Args = []string{"/nowhere"}
	b.write()
	log := filepath.Join(b.dir, "log")
	if out, err := b.try("--log", log, "--log-format", "json", "create", "--bundle", b.dir, "c"); err == nil {
		t.Fatal(out)
	}
	text, _ := os.ReadFile(log)
	var line struct{ Level, Msg, Time string }
	if err := json.Unmarshal(text, &line); err != nil || line.Level != "error" || !strings.Contains(line.Msg, "no such file") {
		t.Errorf("log: %s (%v)", text, err)
	}
	if _, err := time.Parse(time.RFC3339, line.Time); err != nil {
		t.Error(err)
	}
}

// All six hooks, in their order, in their namespaces, each with the state.
func TestRuntimeHooks(t *testing.T) {
	b := newBundle(t, "echo run >> /trace")
	trace := filepath.Join(b.dir, "rootfs/trace")
	hook := func(name, file string) specs.Hook {
		return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c",
			fmt.Sprintf(`state=$(cat); s=${state#*\"status\":\"}; echo %s ${s%%%%\"*} $(hostname) $X >> %s`, name, file)}, Env: []string{"X=env", "PATH=/bin"}}
	}
	b.Hostname = "inside"
	b.Hooks = &specs.Hooks{
		Prestart:        []specs.Hook{hook("prestart", trace)},
		CreateRuntime:   []specs.Hook{hook("createRuntime", trace)},
		CreateContainer: []specs.Hook{hook("createContainer", trace)},
		StartContainer:  []specs.Hook{hook("startContainer", "/trace")},
		Poststart:       []specs.Hook{hook("poststart", trace)},
		Poststop:        []specs.Hook{hook("poststop", trace)},
	}
	// So that poststart comes before the end.
	b.Process.Args = []string{"sh", "-c", "while ! grep -q poststart /trace; do sleep 0.02; done; echo run >> /trace"}
	b.run()
	host, _ := os.Hostname()
	want := fmt.Sprintf("prestart creating %[1]s env\ncreateRuntime creating %[1]s env\ncreateContainer creating inside env\n"+
		"startContainer created inside env\npoststart running %[1]s env\nrun\npoststop stopped %[1]s env\n", host)
	got, _ := os.ReadFile(trace)
	if string(got) != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestRuntimeHookFails(t *testing.T) {
	b := newBundle(t, "true")
	bad := []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo because >&2; exit 3"}}}
	for point, hooks := range map[string]*specs.Hooks{
		"prestart": {Prestart: bad}, "createRuntime": {CreateRuntime: bad}, "createContainer": {CreateContainer: bad},
	} {
		b.Hooks = hooks
		b.refused(point + " hook #0, /bin/sh: exit status 3: because")
	}
	one := 1
	b.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sleep", Args: []string{"sleep", "60"}, Timeout: &one}}}
	b.refused("did not end within 1 seconds")
	for point, hooks := range map[string]*specs.Hooks{"startContainer": {StartContainer: bad}, "poststart": {Poststart: bad}} {
		b.Hooks = hooks
		b.Process.Args = []string{"sleep", "60"}
		b.write()
		if out, err := b.try("run", "--bundle", b.dir, "c"); err == nil || !strings.Contains(out, point+" hook #0") {
			t.Errorf("%s: %v %s", point, err, out)
		}
	}
}

// A create that is killed leaves nothing that delete does not find, and no
// process.
func TestRuntimeKilledCreate(t *testing.T) {
	b := newBundle(t, "true")
	b.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sleep", Args: []string{"sleep", "2"}}}}
	b.write()
	cmd := b.command("create", "--bundle", b.dir, "c")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.until("init is recorded", func() bool {
		out, err := b.try("state", "c")
		return err == nil && strings.Contains(out, `"creating"`) && !strings.Contains(out, `"pid": 0`)
	})
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	b.until("it is seen as stopped", func() bool { return b.state().Status == "stopped" })
	b.ok("delete", "c")
}

func TestRuntimeUserNamespace(t *testing.T) {
	b := newBundle(t, "id -u; cat /proc/self/uid_map; touch /tmp/mine && stat -c %u /tmp/mine; echo x > /secret/file && cat /secret/file; sleep 60")
	b.users()
	// Its root cannot reach the sources of its mounts.
	secret := filepath.Join(b.dir, "closed/secret")
	if err := os.MkdirAll(secret, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Chmod(filepath.Join(b.dir, "closed"), 0o700), os.Chmod(secret, 0o777), os.Chmod(filepath.Join(b.dir, "rootfs/tmp"), 0o777),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	b.Mounts = append(b.Mounts, specs.Mount{Destination: "/secret", Source: secret, Type: "bind", Options: []string{"bind"}})
	for _, d := range []string{"proc", "sys", "dev", "secret"} {
		if err := os.MkdirAll(filepath.Join(b.dir, "rootfs", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	output := b.start()
	b.until("it has run", func() bool { return strings.HasSuffix(output(), "x\n") || b.state().Status == "stopped" })
	if got := strings.Join(strings.Fields(output()), " "); got != "0 0 100000 65536 0 x" {
		t.Errorf("inside: %s", output())
	}
	// exec goes into it, too.
	got := b.ok("exec", "c", "sh", "-c", "id -u; cat /proc/self/uid_map; readlink /proc/self/ns/user")
	ns, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", b.state().PID))
	if got := strings.Join(strings.Fields(got), " "); got != "0 0 100000 65536 "+ns {
		t.Errorf("exec: %s, want namespace %s", got, ns)
	}
	// Another one in the same namespace, by its path.
	o := newBundle(t, "readlink /proc/self/ns/user; id -u; readlink /proc/self/ns/pid; mount -t tmpfs none /tmp 2>&1 || echo no; hostname")
	o.setNamespace(specs.UserNamespace, fmt.Sprintf("/proc/%d/ns/user", b.state().PID))
	o.setNamespace(specs.UTSNamespace, "")
	o.places()
	got = o.run()
	if f := strings.Fields(got); len(f) < 3 || f[0] != ns || f[1] != "0" {
		t.Errorf("by path: %s, want namespace %s", got, ns)
	}
}

func TestRuntimeTimeNamespace(t *testing.T) {
	b := newBundle(t, "cat /proc/uptime; sleep 60")
	b.setNamespace(specs.TimeNamespace, "")
	b.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1000000}, "monotonic": {Secs: 5, Nanosecs: 7}}
	output := b.start()
	b.until("it has run", func() bool { return output() != "" })
	if up, _ := strconv.ParseFloat(strings.Fields(output())[0], 64); up < 1000000 {
		t.Errorf("uptime: %s", output())
	}
	if up, _ := strconv.ParseFloat(strings.Fields(b.ok("exec", "c", "cat", "/proc/uptime"))[0], 64); up < 1000000 {
		t.Errorf("uptime for exec: %f", up)
	}
	o := newBundle(t, "cat /proc/uptime")
	o.setNamespace(specs.TimeNamespace, fmt.Sprintf("/proc/%d/ns/time", b.state().PID))
	if up, _ := strconv.ParseFloat(strings.Fields(o.run())[0], 64); up < 1000000 {
		t.Errorf("uptime by path: %f", up)
	}
	b.Linux.TimeOffsets["realtime"] = specs.LinuxTimeOffset{Secs: 1}
	b.ok("delete", "-f", "c")
	b.refused(`linux.timeOffsets: "realtime"`)
}

// Each namespace by the path of another container's.
func TestRuntimeNamespacePaths(t *testing.T) {
	b := newBundle(t, "sleep 60")
	b.start()
	pid := b.state().PID
	kinds := map[specs.LinuxNamespaceType]string{
		specs.PIDNamespace: "pid", specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.CgroupNamespace: "cgroup",
	}
	o := newBundle(t, "cd /proc/self/ns; for n in pid net ipc uts cgroup; do readlink $n; done")
	o.Hostname = ""
	var want []string
	for _, n := range []specs.LinuxNamespaceType{specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace} {
		path := fmt.Sprintf("/proc/%d/ns/%s", pid, kinds[n])
		o.setNamespace(n, path)
		ns, err := os.Readlink(path)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, ns)
	}
	if got := strings.Fields(o.run()); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	o.setNamespace(specs.PIDNamespace, fmt.Sprintf("/proc/%d/ns/net", pid))
	o.refused("namespace of another kind")
}

// Owners of a mount are mapped: by its own map, and by the container's.
func TestRuntimeIDMappedMount(t *testing.T) {
	b := newBundle(t, "stat -c %u:%g /m /m/f /n")
	src := filepath.Join(b.dir, "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(src, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(src, "f"), 5, 5); err != nil {
		t.Fatal(err)
	}
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 100}}
	b.Mounts = append(b.Mounts,
		specs.Mount{Destination: "/m", Source: src, Type: "bind", Options: []string{"bind"}, UIDMappings: ids, GIDMappings: ids},
		specs.Mount{Destination: "/n", Source: src, Type: "bind", Options: []string{"bind"}})
	if got := strings.Fields(b.run()); !slices.Equal(got, []string{"1000:1000", "1005:1005", "0:0"}) {
		t.Errorf("owners: %v", got)
	}
	b.Mounts[len(b.Mounts)-1] = specs.Mount{Destination: "/t", Type: "tmpfs", Options: []string{"idmap"}}
	b.refused("idmap")
}

// Fields of the process that few use.
func TestRuntimeProcess(t *testing.T) {
	b := newBundle(t, "id -u; id -G; ulimit -c; grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; cat /proc/self/oom_score_adj; umask; cat /proc/self/personality; sed 1d /dev/null; pwd")
	mask := uint32(0o27)
	adj := 321
	b.Process.User = specs.User{UID: 7, GID: 8, AdditionalGids: []uint32{9, 10}, Umask: &mask}
	b.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 1024, Hard: 1024}}
	b.Process.OOMScoreAdj = &adj
	b.Process.Cwd = "/tmp"
	b.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
	b.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 3}
	b.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	b.Linux.Namespaces = slices.DeleteFunc(b.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
	b.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL", "CAP_FROM_THE_FUTURE"}, Permitted: []string{"CAP_KILL", "CAP_FROM_THE_FUTURE"}, Effective: []string{"CAP_KILL"}}
	got := b.run()
	// An execve by somebody who is not root drops capabilities.
	want := "cove-runtime: warning: process.capabilities: CAP_FROM_THE_FUTURE is not a capability; ignored\n7\n8 9 10\n2\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000020\nNoNewPrivs:\t1\nSeccomp:\t0\n321\n0027\n00000008\n/tmp"
	b.expect(got, want)
	s := b.start
	b.Process.Args = []string{"sleep", "60"}
	s()
	pid := b.state().PID
	if prio, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, 1, uintptr(pid), 0); errno != 0 || prio != 2<<13|6 {
		t.Errorf("I/O priority: %d %v", prio, errno)
	}
	attr, err := unix.SchedGetAttr(pid, 0)
	if err != nil || attr.Policy != unix.SCHED_BATCH || attr.Nice != 3 {
		t.Errorf("scheduler: %+v %v", attr, err)
	}
}

// What is not carried out is refused by name.
func TestRuntimeRefusals(t *testing.T) {
	for words, change := range map[string]func(*bundle){
		"linux.intelRdt": func(b *bundle) { b.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "x"} },
		"freebsd":        func(b *bundle) { b.FreeBSD = &specs.FreeBSD{} },
		"linux.mountLabel: this host has no SELinux": func(b *bundle) { b.Linux.MountLabel = "system_u:object_r:x:s0" },
		"vm":                    func(b *bundle) { b.VM = &specs.VM{} },
		"linux.sysctl: vm.swap": func(b *bundle) { b.Linux.Sysctl = map[string]string{"vm.swappiness": "1"} },
		"linux.sysctl: net.core": func(b *bundle) {
			b.setNamespace(specs.NetworkNamespace, "-")
			b.Linux.Sysctl = map[string]string{"net.core.somaxconn": "1"}
		},
		"linux.sysctl: net.ipv4": func(b *bundle) {
			b.setNamespace(specs.NetworkNamespace, "/proc/self/ns/net")
			b.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
		},
		"there twice":                             func(b *bundle) { b.Linux.Namespaces = append(b.Linux.Namespaces, b.Linux.Namespaces[0]) },
		"hostname: there is no UTS":               func(b *bundle) { b.setNamespace(specs.UTSNamespace, "-") },
		"process.cwd":                             func(b *bundle) { b.Process.Cwd = "tmp" },
		"process.args":                            func(b *bundle) { b.Process.Args = nil },
		"ociVersion":                              func(b *bundle) { b.Version = "2.0.0" },
		"root.path":                               func(b *bundle) { b.Root.Path = "elsewhere" },
		"uidMappings":                             func(b *bundle) { b.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 1}} },
		"process.rlimits":                         func(b *bundle) { b.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_X"}} },
		"RLIMIT_CORE: its soft value, 2":          func(b *bundle) { b.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 2, Hard: 1}} },
		"/proc/sys/fs/nr_open":                    func(b *bundle) { b.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1 << 40}} },
		"NOFILE is not a limit":                   func(b *bundle) { b.Process.Rlimits = []specs.POSIXRlimit{{Type: "NOFILE", Hard: 1}} },
		`process.env: "X"`:                        func(b *bundle) { b.Process.Env = append(b.Process.Env, "X") },
		`process.env: "=x"`:                       func(b *bundle) { b.Process.Env = append(b.Process.Env, "=x") },
		"option remount":                          func(b *bundle) { b.Mounts[0].Options = []string{"remount"} },
		"process.terminal":                        func(b *bundle) { b.Process.Terminal = true },
		"linux.personality":                       func(b *bundle) { b.Linux.Personality = &specs.LinuxPersonality{Domain: "LINUX64"} },
		"process.ioPriority":                      func(b *bundle) { b.Process.IOPriority = &specs.LinuxIOPriority{Class: "IOPRIO_CLASS_X"} },
		"process.scheduler.policy":                func(b *bundle) { b.Process.Scheduler = &specs.Scheduler{Policy: "SCHED_ISO"} },
		"process.scheduler.nice":                  func(b *bundle) { b.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Nice: 20} },
		"process.execCPUAffinity.final":           func(b *bundle) { b.Process.ExecCPUAffinity = &specs.CPUAffinity{Final: "x"} },
		"process.args: ":                          func(b *bundle) { b.Process.Args = []string{"echo", "a\x00b"} },
		"process.env: ":                           func(b *bundle) { b.Process.Env = append(b.Process.Env, "A=b\x00c") },
		"process.user.uid: 4294967295":            func(b *bundle) { b.Process.User.UID = 1<<32 - 1 },
		"process.user.gid: 4294967295":            func(b *bundle) { b.Process.User.GID = 1<<32 - 1 },
		"process.user.additionalGids: 4294967295": func(b *bundle) { b.Process.User.AdditionalGids = []uint32{1, 1<<32 - 1} },
		"linux.cgroupsPath":                       func(b *bundle) { b.Linux.CgroupsPath = "/x/.." },
		"hooks.createContainer: path":             func(b *bundle) { b.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "bin/true"}}} },
		"hooks.poststop: timeout":                 func(b *bundle) { b.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/true", Timeout: ptr(0)}}} },
		"uidMappings and gidMappings": func(b *bundle) {
			b.Mounts = append(b.Mounts, specs.Mount{Destination: "/m", Source: "/tmp", Type: "bind", UIDMappings: []specs.LinuxIDMapping{{HostID: 1, Size: 1}}})
		},
		"linux.memoryPolicy": func(b *bundle) { b.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: "MPOL_X"} },
	} {
		t.Run(words, func(t *testing.T) {
			b := newBundle(t, "true")
			change(b)
			b.refused(words)
		})
	}
	// Limits that this kernel cannot set; internal/cgroup tries more of them.
	var has string
	if data, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		has = string(data)
	} else {
		mounts, _ := os.ReadFile("/proc/self/cgroup")
		has = "version1 " + strings.NewReplacer(":", " ", ",", " ").Replace(string(mounts))
	}
	classID, handles, swappiness, runtime := uint32(1), uint32(1), uint64(10), int64(1000)
	for _, row := range []struct {
		field, controller string
		change            func(*specs.LinuxResources)
	}{
		{"rdma", "rdma", func(r *specs.LinuxResources) { r.Rdma = map[string]specs.LinuxRdma{"mlx5_0": {HcaHandles: &handles}} }},
		{"hugepageLimits", "hugetlb", func(r *specs.LinuxResources) {
			r.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}
		}},
		{"network", "net_cls", func(r *specs.LinuxResources) { r.Network = &specs.LinuxNetwork{ClassID: &classID} }},
		{"network", "net_prio", func(r *specs.LinuxResources) {
			r.Network = &specs.LinuxNetwork{Priorities: []specs.LinuxInterfacePriority{{Name: "lo", Priority: 1}}}
		}},
		{"memory.swappiness", "version1", func(r *specs.LinuxResources) { r.Memory = &specs.LinuxMemory{Swappiness: &swappiness} }},
		{"cpu.realtimeRuntime", "version1", func(r *specs.LinuxResources) { r.CPU = &specs.LinuxCPU{RealtimeRuntime: &runtime} }},
	} {
		t.Run(row.field+" "+row.controller, func(t *testing.T) {
			if slices.Contains(strings.Fields(has), row.controller) {
				t.Skip("this host has it")
			}
			b := newBundle(t, "true")
			b.Linux.Resources = &specs.LinuxResources{}
			row.change(b.Linux.Resources)
			b.refused("linux.resources." + row.field)
		})
	}
	b := newBundle(t, "true")
	for _, id := range []string{"../x", "..", "a/b", "a b", ""} {
		b.write()
		if out, err := b.try("create", "--bundle", b.dir, id); err == nil {
			t.Errorf("ID %q was accepted: %s", id, out)
		}
	}
	if out, err := b.try("checkpoint", "c"); err == nil || !strings.Contains(out, "not supported") {
		t.Errorf("checkpoint: %v %s", err, out)
	}
}

func TestRuntimePreservedFDs(t *testing.T) {
	b := newBundle(t, "ls /proc/self/fd; cat <&3; cat <&4")
	b.write()
	open := func(text string) *os.File {
		file := filepath.Join(b.dir, text)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for keep, want := range map[string]string{"2": "0\n1\n2\n3\n4\n5\nonetwo", "0": "0\n1\n2\n3"} {
		cmd := b.command("run", "--preserve-fds", keep, "--bundle", b.dir, "c")
		cmd.ExtraFiles = []*os.File{open("one"), open("two"), open("three")}
		out, err := cmd.Output()
		if keep == "2" && err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("%s: %v\n%s", keep, err, out)
		}
	}
	// What the caller has not opened may be the runtime's own by then.
	b.Process.Args = []string{"sleep", "60"}
	b.start()
	for _, keep := range []string{"1", "3", "7", "-1"} {
		for _, args := range [][]string{{"run", "--bundle", b.dir, "--preserve-fds", keep, "d"}, {"exec", "--preserve-fds", keep, "c", "true"}} {
			cmd := b.command(append([]string{"--log", filepath.Join(b.dir, "log")}, args...)...)
			if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "--preserve-fds: "+keep+": the descriptors that are open are 0") {
				t.Errorf("%v: %v %s", args, err, out)
			}
		}
	}
}

// listenFD listens where a terminal or process is to be sent by descriptor, and
// accept takes it with its name.
func listenFD(t *testing.T, path string) (accept func() *os.File) {
	t.Helper()
	l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(l); _ = os.Remove(path) })
	if err := errors.Join(unix.Bind(l, &unix.SockaddrUnix{Name: path}), unix.Listen(l, 1)); err != nil {
		t.Fatal(err)
	}
	return func() *os.File {
		t.Helper()
		conn, _, err := unix.Accept(l)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(conn)
		buf, oob := make([]byte, 100), make([]byte, 100)
		text, n, _, _, err := unix.Recvmsg(conn, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		messages, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil || len(messages) != 1 {
			t.Fatal(messages, err)
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fds[0]), string(buf[:text]))
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
}

func TestRuntimeConsoleSocket(t *testing.T) {
	b := newBundle(t, "tty; test -t 0 && test -c /dev/console && stty size 2>/dev/null; echo done")
	b.Process.Terminal = true
	b.write()
	path := filepath.Join(b.dir, "console")
	accept := listenFD(t, path)
	b.ok("create", "--bundle", b.dir, "--console-socket", path, "c")
	master := accept()
	b.ok("start", "c")
	var text bytes.Buffer
	part := make([]byte, 1000)
	for !strings.Contains(text.String(), "done") {
		n, err := master.Read(part)
		text.Write(part[:n])
		if err != nil {
			break
		}
	}
	if !strings.HasPrefix(text.String(), "/dev/pts/0") && !strings.HasPrefix(text.String(), "/dev/console") || !strings.Contains(text.String(), "done") {
		t.Errorf("on the terminal: %q", text.String())
	}
}

func TestRuntimeUpdateAndEvents(t *testing.T) {
	b := newBundle(t, "sleep 60")
	limit := int64(64 << 20)
	pids := int64(100)
	b.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
	b.Linux.Resources.Pids = &specs.LinuxPids{Limit: &pids}
	b.start()
	var e struct {
		Type string
		Data struct {
			Memory struct {
				Usage struct{ Limit, Usage int64 }
				Swap  *struct{ Limit, Usage uint64 }
				Raw   map[string]uint64
			}
			CPUSet struct{ CPUs, Mems []int }
			Pids   struct{ Current, Limit int64 }
		}
	}
	stats := func() {
		t.Helper()
		if err := json.Unmarshal([]byte(b.ok("events", "--stats", "c")), &e); err != nil {
			t.Fatal(err)
		}
	}
	stats()
	if e.Type != "stats" || e.Data.Memory.Usage.Limit != limit || e.Data.Pids.Limit != 100 || e.Data.Pids.Current < 1 {
		t.Errorf("before: %+v", e)
	}
	_, v2 := os.Stat("/sys/fs/cgroup/cpuset") // there a controller may be off
	if d := e.Data; d.Memory.Raw["pgfault"] == 0 || v2 == nil && (len(d.CPUSet.CPUs) == 0 || len(d.CPUSet.Mems) == 0) {
		t.Errorf("what the kernel counts: %+v", d)
	}
	b.ok("update", "--memory", "128m", "--pids-limit", "50", "c")
	stats()
	if e.Data.Memory.Usage.Limit != 128<<20 || e.Data.Pids.Limit != 50 {
		t.Errorf("after flags: %+v", e)
	}
	// Memory and swap together, where the kernel counts that.
	if s := e.Data.Memory.Swap; s != nil {
		if s.Limit != 1<<63-4096 && s.Limit != ^uint64(0) || s.Usage < uint64(e.Data.Memory.Usage.Usage)/2 {
			t.Errorf("swap before: %+v", s)
		}
		b.ok("update", "--memory-swap", "256m", "--memory", "128m", "c")
		if stats(); e.Data.Memory.Swap.Limit != 256<<20 {
			t.Errorf("swap after: %+v", e.Data.Memory.Swap)
		}
	} else if _, err := os.Stat("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"); err == nil {
		t.Error("no word of swap")
	}
	if out, err := b.try("update", "--l3-cache-schema", "L3:0=f", "c"); err == nil || !strings.Contains(out, "linux.intelRdt") {
		t.Errorf("a cache's schema: %v %s", err, out)
	}
	cmd := b.command("update", "--resources", "-", "c")
	cmd.Stdin = strings.NewReader(`{"pids": {"limit": 20}}`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	stats()
	if e.Data.Memory.Usage.Limit != 128<<20 || e.Data.Pids.Limit != 20 {
		t.Errorf("after a file: %+v", e)
	}
}

// A process goes to cgroups below the container's, all of them or by controller.
func TestRuntimeExecCgroup(t *testing.T) {
	b := newBundle(t, "sleep 60")
	b.start()
	arg, at := "pids,memory:sub", []string{"pids", "memory"}
	if cgroup2() {
		arg, at = "sub", []string{""}
	}
	for _, controller := range at {
		dir := filepath.Join("/sys/fs/cgroup", controller, b.Linux.CgroupsPath, "sub")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out := b.ok("exec", "--cgroup", arg, "c", "cat", "/proc/self/cgroup")
	for line := range strings.Lines(out) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if want := slices.Contains(at, f[1]) && (f[1] != "" || len(at) == 1); want != strings.HasSuffix(f[2], "/sub") {
			t.Errorf("the process is in %s", line)
		}
	}
	for _, bad := range []string{"nothing:sub", "pids:../..", ":sub", "none"} {
		if out, err := b.try("exec", "--cgroup", bad, "c", "true"); err == nil {
			t.Errorf("%s was accepted: %s", bad, out)
		}
	}
}

// A mount of type cgroup2 is that of version 2, on a host of both too.
func TestRuntimeCgroup2Mount(t *testing.T) {
	// The options behind relatime are the hierarchy's, and the host's to choose.
	b := newBundle(t, "while read -r _ at type o _; do case $at in /sys/fs/cgroup) echo $at $type ${o%,relatime*};; esac; done </proc/self/mounts; test -e /sys/fs/cgroup/cgroup.controllers && echo controllers")
	b.Mounts = slices.DeleteFunc(b.Mounts, func(m specs.Mount) bool { return strings.HasPrefix(m.Type, "cgroup") })
	b.Mounts = append(b.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup2", Source: "cgroup2", Options: []string{"ro", "nosuid", "noexec", "nodev"}})
	b.expect(b.run(), "/sys/fs/cgroup cgroup2 ro,nosuid,nodev,noexec\ncontrollers")
	// In the host's cgroup namespace it is the host's mount: a new one would set
	// the options of that. They differ by what they name as their source.
	source := "cgroup"
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[2] == "cgroup2" && strings.HasPrefix(f[1], "/sys/fs/cgroup") {
			source = f[0]
		}
	}
	b.setNamespace(specs.CgroupNamespace, "-")
	b.Process.Args = []string{"sh", "-c", "while read -r from at type _; do case $at in /sys/fs/cgroup) echo $from $at $type;; esac; done </proc/self/mounts"}
	b.expect(b.run(), source+" /sys/fs/cgroup cgroup2")
}

// cgroup2 tells whether this host has cgroups of version 2 alone.
func cgroup2() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

func TestRuntimeFeatures(t *testing.T) {
	b := newBundle(t, "true")
	var f struct {
		OCIVersionMax string   `json:"ociVersionMax"`
		Hooks         []string `json:"hooks"`
		MountOptions  []string `json:"mountOptions"`
	}
	if err := json.Unmarshal([]byte(b.ok("features")), &f); err != nil {
		t.Fatal(err)
	}
	if f.OCIVersionMax != specs.Version || len(f.Hooks) != 6 || !slices.Contains(f.MountOptions, "rro") || !slices.Contains(f.MountOptions, "ridmap") {
		t.Errorf("%+v", f)
	}
}

// kill --all reaches every process, also where the container shares the
// host's process namespace.
func TestRuntimeKillAll(t *testing.T) {
	b := newBundle(t, "sleep 1234 & sleep 1234 & wait")
	b.setNamespace(specs.PIDNamespace, "-")
	b.start()
	var pids []int
	b.until("three processes", func() bool {
		_ = json.Unmarshal([]byte(b.ok("ps", "--format", "json", "c")), &pids)
		return len(pids) == 3
	})
	b.ok("kill", "--all", "c", "KILL")
	b.until("it stops", func() bool { return b.state().Status == "stopped" })
	b.ok("delete", "c")
	for _, pid := range pids {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && strings.Contains(string(text), "1234") {
			t.Errorf("%d is alive", pid)
		}
	}
}

// The agent of SCMP_ACT_NOTIFY gets the listener with the state, and decides.
func TestRuntimeSeccompNotify(t *testing.T) {
	b := newBundle(t, "mkdir /tmp/x; echo end")
	agent := filepath.Join(b.dir, "agent")
	b.Linux.Seccomp = &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow, ListenerPath: agent, ListenerMetadata: "words",
		Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActNotify}},
	}
	l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l)
	if err := errors.Join(unix.Bind(l, &unix.SockaddrUnix{Name: agent}), unix.Listen(l, 1)); err != nil {
		t.Fatal(err)
	}
	for _, nnp := range []bool{true, false} {
		b.Process.NoNewPrivileges = nnp
		output := b.start()
		conn, _, err := unix.Accept(l)
		if err != nil {
			t.Fatal(err)
		}
		text, oob := make([]byte, 4096), make([]byte, 100)
		n, oobn, _, _, err := unix.Recvmsg(conn, text, oob, 0)
		_ = unix.Close(conn)
		if err != nil {
			t.Fatal(err)
		}
		var s specs.ContainerProcessState
		if err := json.Unmarshal(text[:n], &s); err != nil || s.Metadata != "words" || s.State.ID != "c" || s.Pid != b.state().PID || !slices.Equal(s.Fds, []string{"seccompFd"}) {
			t.Errorf("the agent was told %s (%v)", text[:n], err)
		}
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(messages) != 1 {
			t.Fatal(messages, err)
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil {
			t.Fatal(err)
		}
		// struct seccomp_notif and seccomp_notif_resp, seccomp_unotify(2)
		var notif [80]byte
		var resp struct {
			id    uint64
			val   int64
			errno int32
			flags uint32
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fds[0]), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&notif))); errno != 0 {
			t.Fatal(errno)
		}
		resp.id, resp.errno = binary.NativeEndian.Uint64(notif[:]), -int32(unix.EXDEV)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fds[0]), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&resp))); errno != 0 {
			t.Fatal(errno)
		}
		_ = unix.Close(fds[0])
		b.until("it ends", func() bool { return b.state().Status == "stopped" })
		if out := output(); !strings.Contains(out, "cross-device") || !strings.Contains(out, "end") {
			t.Errorf("no_new_privs %v: %s", nnp, out)
		}
		b.ok("delete", "c")
	}
	b.Linux.Seccomp.ListenerPath = ""
	b.refused("linux.seccomp.listenerPath")
}
