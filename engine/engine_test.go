package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/engine"
	"github.com/cove-engine/cove/internal/companion/monitor"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/stage"
)

func TestMain(m *testing.M) {
	if engine.Init() {
		return
	}
	os.Exit(m.Run())
}

const busybox = "cove.test/busybox"

// open opens an engine on a root of its own, with an image, and sees to it that
// nothing is left.
func open(t *testing.T, o engine.Options) *engine.Engine {
	t.Helper()
	dir := roots(t, &o)
	e, err := engine.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leave(t, e) })
	if !o.WithoutImages {
		layer := filepath.Join(dir, "layer.tar")
		if err := stage.WriteLayer(layer); err != nil {
			t.Fatal(err)
		}
		if _, err := e.ImportImage(t.Context(), layer, engine.ImportOptions{Reference: busybox}); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// roots gives options directories of their own.
func roots(t *testing.T, o *engine.Options) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := monitor.Program.Open(); err != nil {
		t.Skip("needs make build:", err)
	}
	dir = t.TempDir()
	o.Root, o.RunRoot = filepath.Join(dir, "root"), filepath.Join(dir, "run")
	return dir
}

// leave removes the containers, with which everything has to be gone.
func leave(t *testing.T, e *engine.Engine) {
	ctx := context.WithoutCancel(t.Context())
	all, err := e.List(ctx, engine.ListOptions{All: true})
	if err != nil {
		t.Error(err)
	}
	for _, c := range all {
		if err := e.Remove(ctx, c.ID, engine.RemoveOptions{Force: true, Volumes: true}); err != nil && !cove.Is(err, cove.NotFound) {
			t.Error(err)
		}
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		diff, err := e.Check(ctx, false, false)
		if err == nil && len(diff) == 0 {
			break
		}
		if err != nil || time.Now().After(end) { // a monitor ends a moment after its container has gone
			t.Errorf("left: %v, %v", diff, err)
			break
		}
	}
	if err := e.Close(ctx); err != nil {
		t.Error(err)
	}
}

// output runs a command in a container of its own and gives what it wrote.
func output(t *testing.T, e *engine.Engine, spec cove.ContainerSpec) (string, error) {
	t.Helper()
	var out, stderr bytes.Buffer
	spec.Remove, spec.Network = true, "none"
	if spec.Image == "" && spec.Rootfs == "" {
		spec.Image = busybox
	}
	r, err := e.Run(t.Context(), spec, engine.RunOptions{Attach: engine.AttachOptions{Streams: engine.Streams{Out: &out, Err: &stderr}}})
	if err == nil && r.ExitCode != 0 {
		err = fmt.Errorf("exit code %d: %s", r.ExitCode, stderr.String())
	}
	return strings.TrimSpace(out.String()), err
}

// TestSharedWithCommand: the program and the command work on the same
// containers.
func TestSharedWithCommand(t *testing.T) {
	e := open(t, engine.Options{})
	home := filepath.Dir(info(t, e).Store.GraphRoot)
	cli := func(args ...string) string {
		t.Helper()
		return command(t, home, args...)
	}
	id, _, err := e.Create(t.Context(), cove.ContainerSpec{Name: "shared", Image: busybox, Network: "none", Command: []string{"sleep", "1000"}}, engine.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Start(t.Context(), id, engine.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := cli("ps", "--format", "{{.Names}} {{.State}}"); got != "shared running" {
		t.Errorf("ps: %q", got)
	}
	if got := cli("exec", "shared", "echo", "hello"); got != "hello" {
		t.Errorf("exec: %q", got)
	}
	cli("kill", "shared")
	if code, err := e.Wait(t.Context(), id, engine.WaitOptions{}); err != nil || code != 137 {
		t.Errorf("wait: %d, %v", code, err)
	}
	cli("rm", "shared")
	if _, err := e.Container(t.Context(), id, false); !cove.Is(err, cove.NotFound) {
		t.Errorf("after rm: %v", err)
	}
}

// command runs cove on the roots below home.
func command(t *testing.T, home string, args ...string) string {
	t.Helper()
	program, err := filepath.Abs("../bin/cove")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		t.Skip("needs bin/cove")
	}
	out, err := exec.Command(program, append([]string{"--root", home + "/root", "--runroot", home + "/run"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func info(t *testing.T, e *engine.Engine) engine.Info {
	t.Helper()
	i, err := e.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestGoroutines: one engine, many callers, and reloads in between.
func TestGoroutines(t *testing.T) {
	for _, o := range []engine.Options{{}, {State: "sqlite", Locks: "shm"}, {State: "memory"}} {
		t.Run(o.State, func(t *testing.T) {
			e := open(t, o)
			var wg sync.WaitGroup
			for i := range 6 {
				wg.Go(func() {
					for j := range 3 {
						word := fmt.Sprintf("%d.%d", i, j)
						got, err := output(t, e, cove.ContainerSpec{Command: []string{"echo", word}})
						if err != nil || got != word {
							t.Errorf("run %s: %q, %v", word, got, err)
						}
						if err := e.Reload(); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// TestReload: files that change while the engine is open.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("containers.conf", "")
	write("registries.conf", "")
	write("storage.conf", "[storage]\ndriver = \"overlay\"\n")
	t.Setenv("CONTAINERS_CONF", dir+"/containers.conf")
	t.Setenv("CONTAINERS_REGISTRIES_CONF", dir+"/registries.conf")
	t.Setenv("CONTAINERS_STORAGE_CONF", dir+"/storage.conf")
	e := open(t, engine.Options{})
	// The additional store is another process's, this one may only read it.
	other := engine.Options{}
	home := roots(t, &other)
	command(t, home, "import", "-q", "--change", "LABEL store=other", filepath.Dir(info(t, e).Store.GraphRoot)+"/layer.tar", "cove.test/other")
	env := func() string {
		t.Helper()
		got, err := output(t, e, cove.ContainerSpec{Command: []string{"sh", "-c", "echo $GREETING"}})
		if err != nil {
			t.Error(err)
		}
		return got
	}
	if got := env(); got != "" {
		t.Errorf("before: %q", got)
	}

	write("containers.conf", "[containers]\nenv = [\"GREETING=hello\"]\n")
	write("storage.conf", fmt.Sprintf("[storage]\ndriver = \"overlay\"\n[storage.options]\nadditionalimagestores = [%q]\n", other.Root))
	write("registries.conf", "unqualified-search-registries = [\"one.test\"]\n")
	if got := env(); got != "" {
		t.Errorf("before the reload: %q", got)
	}
	if err := e.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := env(); got != "hello" {
		t.Errorf("containers.conf: %q", got)
	}
	if there, err := e.ImageExists(t.Context(), "cove.test/other"); err != nil || !there {
		t.Errorf("storage.conf: %v, %v", there, err)
	}
	if _, err := e.PullImage(t.Context(), "short", engine.PullOptions{Policy: "never"}); err == nil {
		t.Error("an image of nowhere was found")
	}

	for name, text := range map[string]string{
		"containers.conf": "[containers\n",
		"storage.conf":    "[storage\n",
		"registries.conf": "unqualified-search-registries = 7\n",
	} {
		was, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		write(name, text)
		if err := e.Reload(); !cove.Is(err, cove.Invalid) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), ": line ") {
			t.Errorf("broken %s: %v", name, err)
		}
		if got := env(); got != "hello" {
			t.Errorf("after a broken %s: %q", name, got)
		}
		write(name, string(was))
	}
	write("containers.conf", "[engine]\nlock_type = \"shm\"\n")
	if err := e.Reload(); !cove.Is(err, cove.InUse) || !strings.Contains(err.Error(), "lock_type") {
		t.Errorf("other locks: %v", err)
	}
}

// TestReloadEnv: the variables of [engine] env are those of the file that was read last.
func TestReloadEnv(t *testing.T) {
	file := filepath.Join(t.TempDir(), "containers.conf")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("[engine]\n"+text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	is := func(name, want string) {
		t.Helper()
		if got := os.Getenv(name); got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	t.Setenv("COVE_TEST_GIVEN", "given")
	write(`env = ["COVE_TEST_GIVEN=file", "COVE_TEST_ONE=1", "COVE_TEST_TWO=1"]`)
	o := engine.Options{ContainersConf: file, WithoutImages: true}
	roots(t, &o)
	e, err := engine.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	is("COVE_TEST_GIVEN", "given")
	is("COVE_TEST_ONE", "1")
	is("COVE_TEST_TWO", "1")
	write(`env = ["COVE_TEST_ONE=2"]`)
	if err := e.Reload(); err != nil {
		t.Error(err)
	}
	is("COVE_TEST_ONE", "2")
	is("COVE_TEST_TWO", "")
	write("env = [\"COVE_TEST_TWO=3\"]\nlock_type = \"shm\"")
	if err := e.Reload(); !cove.Is(err, cove.InUse) {
		t.Errorf("other locks: %v", err)
	}
	is("COVE_TEST_ONE", "2")
	is("COVE_TEST_TWO", "")
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	is("COVE_TEST_ONE", "")
	is("COVE_TEST_GIVEN", "given")
}

// TestReloadOthers: what is made after a reload is otherwise, what was made before
// stays as it is, running or not.
func TestReloadOthers(t *testing.T) {
	dir := t.TempDir()
	asked := make([]atomic.Int32, 2)
	mirrors := make([]string, 2)
	for i := range mirrors {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked[i].Add(1)
			w.WriteHeader(http.StatusNotFound)
		}))
		defer server.Close()
		mirrors[i] = strings.TrimPrefix(server.URL, "http://")
	}
	configure := func(n int) {
		t.Helper()
		for name, text := range map[string]string{
			"containers.conf": fmt.Sprintf(`[containers]
default_ulimits = ["nofile=%d:900"]
env = ["GREETING=hello %[1]d"]
log_driver = "%s"
stop_timeout = 7
[network]
default_subnet_pools = [{base = "10.%[1]d.0.0/16", size = 24}]
`, 201+n, []string{"k8s-file", "json-file"}[n]),
			"registries.conf": fmt.Sprintf(`[[registry]]
prefix = "reg.test/app"
location = "127.0.0.1:1/app"
insecure = true
[[registry.mirror]]
location = "%s/app"
insecure = true
`, mirrors[n]),
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	configure(0)
	t.Setenv("CONTAINERS_CONF", dir+"/containers.conf")
	t.Setenv("CONTAINERS_REGISTRIES_CONF", dir+"/registries.conf")
	e := open(t, engine.Options{})
	const look = "ulimit -n; echo $GREETING"
	create := func(name, command string) string {
		t.Helper()
		id, _, err := e.Create(t.Context(), cove.ContainerSpec{Name: name, Image: busybox, Network: "none", Command: []string{"sh", "-c", command}}, engine.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	see := func(id string) string {
		t.Helper()
		var out bytes.Buffer
		if _, err := e.Start(t.Context(), id, engine.StartOptions{Attach: &engine.AttachOptions{Streams: engine.Streams{Out: &out}}}); err != nil {
			t.Fatal(err)
		}
		c, err := e.Container(t.Context(), id, false)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(out.String()), " ") + " " + c.Inspect().HostConfig.LogConfig.Type
	}
	made := func(name string) string {
		t.Helper()
		n, err := e.CreateNetwork(t.Context(), cove.Network{Name: name}, false)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if _, err := e.RemoveNetwork(context.WithoutCancel(t.Context()), name, engine.RemoveOptions{}); err != nil {
				t.Error(err)
			}
		})
		return n.Subnets[0].Subnet.String()
	}
	pull := func() {
		t.Helper()
		none := uint(0)
		if _, err := e.PullImage(t.Context(), "reg.test/app:1", engine.PullOptions{Policy: "always", Transfer: image.Transfer{Retries: &none}}); err == nil {
			t.Error("there is an image")
		}
	}

	running := create("running", "sleep 1000")
	if _, err := e.Start(t.Context(), running, engine.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	before, err := e.Container(t.Context(), running, false)
	if err != nil {
		t.Fatal(err)
	}
	waiting := create("waiting", look)
	pull()
	if got := made("first"); got != "10.201.0.0/24" {
		t.Errorf("network before: %s", got)
	}

	configure(1)
	if err := e.Reload(); err != nil {
		t.Fatal(err)
	}
	if got, want := see(create("new", look)), "202 hello 202 json-file"; got != want {
		t.Errorf("made after it: %q, want %q", got, want)
	}
	if got, want := see(waiting), "201 hello 201 k8s-file"; got != want {
		t.Errorf("made before it: %q, want %q", got, want)
	}
	if got := made("second"); got != "10.202.0.0/24" {
		t.Errorf("network after: %s", got)
	}
	pull()
	if a, b := asked[0].Load(), asked[1].Load(); a == 0 || b == 0 {
		t.Errorf("mirrors were asked %d and %d times", a, b)
	}
	var out bytes.Buffer
	r, err := e.Exec(t.Context(), running, engine.ExecSpec{Command: []string{"sh", "-c", look}}, engine.AttachOptions{Streams: engine.Streams{Out: &out}})
	if got := strings.Join(strings.Fields(out.String()), " "); err != nil || r.ExitCode != 0 || got != "201 hello 201" {
		t.Errorf("in the one that runs: %q, %v", got, err)
	}
	after, err := e.Container(t.Context(), running, false)
	if err != nil || after.Status != cove.Running || after.Run.PID != before.Run.PID || after.Run.Generation != before.Run.Generation {
		t.Errorf("the one that runs was %v, is %v: %v", before.Run, after.Run, err)
	}

	if err := os.WriteFile(filepath.Join(dir, "containers.conf"), []byte("[containers]\n# fine\nenv = 7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := e.Reload(); !cove.Is(err, cove.Invalid) || !strings.Contains(err.Error(), dir+"/containers.conf") || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("a broken file: %v", err)
	}
	if got, want := see(create("still", look)), "202 hello 202 json-file"; got != want {
		t.Errorf("after a broken file: %q, want %q", got, want)
	}
}

// TestDefaults: a program's containers are as the command's, if it wants that.
func TestDefaults(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text := fmt.Sprintf(`[containers]
init = true
no_hosts = true
read_only = true
env_host = true
mounts = ["type=tmpfs,destination=/scratch"]
volumes = ["%[1]s/a:/a", "%[1]s/a:/b"]
[engine]
env = ["ENGINE_OWN=1"]
`, dir)
	if err := os.WriteFile(filepath.Join(dir, "containers.conf"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONTAINERS_CONF", filepath.Join(dir, "containers.conf"))
	t.Setenv("CALLERS_OWN", "2")
	e := open(t, engine.Options{})
	defer os.Unsetenv("ENGINE_OWN")
	const look = "cat /proc/1/comm /a /b; touch /file || echo; echo $ENGINE_OWN $CALLERS_OWN; grep -c scratch /proc/mounts; grep -c some.internal /etc/hosts"
	for _, c := range []struct {
		asked func(*cove.ContainerSpec)
		want  string
	}{
		{func(s *cove.ContainerSpec) {}, "podman-init aa 1 2 1"},
		{func(s *cove.ContainerSpec) {
			s.Init, s.ReadOnly, s.HostEnv = false, false, nil
			s.Mounts = []cove.Mount{{Type: "bind", Source: dir + "/b", Destination: "/b"}}
			s.AddHosts = []string{"some.internal:192.0.2.1"}
		}, "sh ab 1 1"},
		{func(s *cove.ContainerSpec) { *s = cove.ContainerSpec{} }, "sh 0 0"},
	} {
		spec, err := e.Defaults()
		if err != nil {
			t.Fatal(err)
		}
		c.asked(&spec)
		spec.Command = []string{"sh", "-c", "{ " + look + "; } 2>/dev/null; true"}
		got, err := output(t, e, spec)
		if got := strings.Join(strings.Fields(got), " "); err != nil || got != c.want {
			t.Errorf("%q, %v; want %q", got, err, c.want)
		}
	}
}

// TestMemory: nothing is left of an engine whose records are in memory.
func TestMemory(t *testing.T) {
	o := engine.Options{State: "memory"}
	roots(t, &o)
	e, err := engine.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	layer := filepath.Join(t.TempDir(), "layer.tar")
	if err := stage.WriteLayer(layer); err != nil {
		t.Fatal(err)
	}
	if _, err := e.ImportImage(t.Context(), layer, engine.ImportOptions{Reference: busybox}); err != nil {
		t.Fatal(err)
	}
	id, _, err := e.Create(t.Context(), cove.ContainerSpec{
		Image: busybox, Network: "none", Command: []string{"sleep", "1000"},
		Mounts: []cove.Mount{{Type: "volume", Source: "data", Destination: "/data"}},
	}, engine.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Start(t.Context(), id, engine.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	c, err := e.Container(t.Context(), id, false)
	if err != nil || c.Status != cove.Running {
		t.Fatalf("%v, %v", c.Status, err)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("kill", "-0", fmt.Sprint(c.Run.PID)).Run(); err == nil {
		t.Error("the container runs on")
	}
	if _, err := os.Stat(filepath.Join(o.Root, "cove")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is there: %v", err)
	}

	o.State = ""
	onDisk, err := engine.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer onDisk.Close(t.Context())
	if _, err := onDisk.CreateVolume(t.Context(), cove.Volume{Name: "kept"}, false); err != nil {
		t.Fatal(err)
	}
	o.State = "memory"
	if _, err := engine.Open(o); !cove.Is(err, cove.InUse) {
		t.Errorf("beside a store: %v", err)
	}
}

// TestWithoutImages: containers of a directory, and no store.
func TestWithoutImages(t *testing.T) {
	e := open(t, engine.Options{WithoutImages: true})
	if _, err := output(t, e, cove.ContainerSpec{Image: busybox}); !cove.Is(err, cove.Unsupported) {
		t.Errorf("an image: %v", err)
	}
	for name, err := range calls(t, e, "Image") {
		if !cove.Is(err, cove.Unsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	root := t.TempDir()
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs busybox-static")
	}
	if err := os.WriteFile(root+"/busybox", program, 0o755); err != nil {
		t.Fatal(err)
	}
	got, err := output(t, e, cove.ContainerSpec{Rootfs: root, Command: []string{"/busybox", "echo", "hello"}})
	if err != nil || got != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	entries, err := os.ReadDir(info(t, e).Store.GraphRoot)
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(entries, func(d os.DirEntry) bool { return d.Name() != "cove" }); i >= 0 {
		t.Errorf("there is %s", entries[i].Name())
	}
}

// TestBadOptions: said at once.
func TestBadOptions(t *testing.T) {
	for _, o := range []engine.Options{{State: "postgres"}, {Locks: "paper"}} {
		roots(t, &o)
		if _, err := engine.Open(o); !cove.Is(err, cove.Invalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestExample builds the program that the documentation points to and runs it.
func TestExample(t *testing.T) {
	e := open(t, engine.Options{})
	home := filepath.Dir(info(t, e).Store.GraphRoot)
	program := filepath.Join(home, "embed")
	build := exec.Command("go", "build", "-buildvcs=false", "-tags", "containers_image_openpgp,exclude_graphdriver_btrfs", "-o", program, "../examples/embed")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	conf := filepath.Join(home, "storage.conf")
	text := fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n", home+"/root", home+"/run")
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	run := exec.Command(program, busybox, "sh", "-c", "echo hello; exit 7")
	run.Env = append(os.Environ(), "CONTAINERS_STORAGE_CONF="+conf, "CONTAINERS_CONF=/dev/null")
	out, err := run.CombinedOutput()
	if string(out) != "hello\n" || run.ProcessState.ExitCode() != 7 {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestFiles: configuration by path, for as long as an engine is open.
func TestFiles(t *testing.T) {
	dir := roots(t, new(engine.Options))
	write := func(name, text string) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	theirs := write("theirs", "[containers]\nenv = [\"GREETING=theirs\"]\n")
	t.Setenv("CONTAINERS_CONF", theirs)
	o := engine.Options{
		ContainersConf: write("containers", "[containers]\nenv = [\"GREETING=ours\"]\n"),
		StorageConf:    write("storage", "[storage]\ndriver = \"vfs\"\n"),
		RegistriesConf: write("registries", "unqualified-search-registries = [\"one.test\"]\n"),
	}
	other := engine.Options{ContainersConf: os.DevNull}
	t.Run("open", func(t *testing.T) {
		e := open(t, o)
		greet := func(want string) {
			t.Helper()
			got, err := output(t, e, cove.ContainerSpec{Command: []string{"sh", "-c", "echo $GREETING"}})
			if err != nil || got != want {
				t.Errorf("%q, %v; want %q", got, err, want)
			}
		}
		greet("ours")
		i := info(t, e)
		if i.Store.GraphDriverName != "vfs" || i.Store.ConfigFile != o.StorageConf {
			t.Errorf("storage.conf: %s by %s", i.Store.GraphDriverName, i.Store.ConfigFile)
		}
		if search := fmt.Sprint(i.Registries["search"]); search != "[one.test]" {
			t.Errorf("registries.conf: %s", search)
		}
		write("containers", "[containers]\nenv = [\"GREETING=again\"]\n")
		if err := e.Reload(); err != nil {
			t.Fatal(err)
		}
		greet("again")
		roots(t, &other)
		if _, err := engine.Open(other); !cove.Is(err, cove.InUse) {
			t.Errorf("other files beside it: %v", err)
		}
	})
	if now := os.Getenv("CONTAINERS_CONF"); now != theirs {
		t.Errorf("afterwards CONTAINERS_CONF is %q", now)
	}
	if _, err := engine.Open(engine.Options{ContainersConf: filepath.Join(dir, "none")}); !cove.Is(err, cove.Invalid) {
		t.Errorf("a file that is not there: %v", err)
	}
	e, err := engine.Open(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestMonitor: conmon where it is asked for.
func TestMonitor(t *testing.T) {
	needConmon(t)
	conf := filepath.Join(t.TempDir(), "containers.conf")
	if err := os.WriteFile(conf, []byte("[engine]\nmonitor = \"conmon\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		options engine.Options
		want    string
	}{
		{engine.Options{Monitor: "conmon"}, "conmon"},
		{engine.Options{ContainersConf: conf}, "conmon"},
		{engine.Options{ContainersConf: conf, Monitor: "native"}, "cove-monitor"},
	} {
		t.Run(c.want, func(t *testing.T) {
			e := open(t, c.options)
			id, _, err := e.Create(t.Context(), cove.ContainerSpec{Image: busybox, Network: "none", Command: []string{"sh", "-c", "sleep 1000"}}, engine.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := e.Start(t.Context(), id, engine.StartOptions{}); err != nil {
				t.Fatal(err)
			}
			seen, err := e.Container(t.Context(), id, false)
			if err != nil {
				t.Fatal(err)
			}
			comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", seen.Run.MonitorPID))
			if got := strings.TrimSpace(string(comm)); err != nil || got != c.want {
				t.Errorf("%+v: %q, %v", c.options, got, err)
			}
		})
	}
}

// TestUpdate: limits of a container that runs.
func TestUpdate(t *testing.T) {
	e := open(t, engine.Options{})
	id, _, err := e.Create(t.Context(), cove.ContainerSpec{Name: "u", Image: busybox, Network: "none", Command: []string{"sleep", "1000"}}, engine.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Start(t.Context(), id, engine.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	const memory = 64 << 20
	got, _, err := e.Update(t.Context(), "u", func(s *cove.ContainerSpec) error {
		s.Resources.Memory = memory
		return nil
	})
	if err != nil || got != id {
		t.Errorf("%q, %v", got, err)
	}
	stats, err := e.Stats(t.Context(), []string{"u"}, false)
	if err != nil || len(stats) != 1 || stats[0].MemLimit != memory {
		t.Errorf("%+v, %v", stats, err)
	}
	if _, err := e.Checkpoint(t.Context(), "u", engine.CheckpointOptions{}); !cove.Is(err, cove.Unsupported) {
		t.Errorf("checkpoint by cove's own runtime: %v", err)
	}
	if _, err := e.Restore(t.Context(), "u", engine.RestoreOptions{}); !cove.Is(err, cove.Unsupported) {
		t.Errorf("restore by cove's own runtime: %v", err)
	}
}

// TestReport: how far copies are.
func TestReport(t *testing.T) {
	e := open(t, engine.Options{})
	dir := "oci:" + t.TempDir()
	var told []engine.BlobProgress
	transfer := engine.Transfer{Report: func(p engine.BlobProgress) { told = append(told, p) }}
	check := func(what string, skipped bool) {
		t.Helper()
		ended := 0
		for _, p := range told {
			if p.Ended {
				ended++
				if p.Skipped != skipped || !skipped && p.Done == 0 || !strings.HasPrefix(p.Digest, "sha256:") && !skipped {
					t.Errorf("%s: %+v", what, p)
				}
			}
		}
		if ended < 1 || ended == len(told) && !skipped {
			t.Errorf("%s: %+v", what, told)
		}
		told = nil
	}
	if _, err := e.PushImage(t.Context(), busybox, dir, engine.PushOptions{Transfer: transfer}); err != nil {
		t.Fatal(err)
	}
	check("push", false)
	if _, err := e.RemoveImages(t.Context(), []string{busybox}, engine.RemoveImageOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.PullImage(t.Context(), dir, engine.PullOptions{Transfer: transfer}); err != nil {
		t.Fatal(err)
	}
	check("pull", false)
}

// TestVolumeArchive: a volume's content, out and in.
func TestVolumeArchive(t *testing.T) {
	e := open(t, engine.Options{})
	for _, name := range []string{"from", "to"} {
		if _, err := e.CreateVolume(t.Context(), cove.Volume{Name: name}, false); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if _, err := e.RemoveVolume(context.WithoutCancel(t.Context()), name, engine.RemoveOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	in := func(volume, command string) string {
		t.Helper()
		got, err := output(t, e, cove.ContainerSpec{Mounts: []cove.Mount{{Type: "volume", Source: volume, Destination: "/data"}}, Command: []string{"sh", "-c", command}})
		if err != nil {
			t.Error(err)
		}
		return got
	}
	in("from", "echo hello > /data/file")
	var archive bytes.Buffer
	if err := e.ExportVolume(t.Context(), "from", &archive); err != nil {
		t.Fatal(err)
	}
	if err := e.ImportVolume(t.Context(), "to", &archive); err != nil {
		t.Fatal(err)
	}
	if got := in("to", "cat /data/file"); got != "hello" {
		t.Errorf("%q", got)
	}
}
