package test

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// engine is the program that the scripts run on.
type engine struct {
	name   string // cove, podman or docker
	binary string
	major  string // of its version
	user   *account
}

// underTest finds the engine that COVE_UNDER_TEST names.
func underTest(t *testing.T) engine {
	t.Helper()
	e := engine{name: os.Getenv("COVE_UNDER_TEST"), binary: os.Getenv("COVE_BINARY")}
	var err error
	switch e.name {
	case "", "cove":
		e.name = "cove"
		if e.binary == "" {
			e.binary = "../bin/cove"
		}
		if e.binary, err = filepath.Abs(e.binary); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(e.binary); err != nil {
			t.Skip("needs cove (make build): ", err)
		}
		return e
	case "podman", "docker":
		if e.binary, err = reference(e.name); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal("test/deps was to install it: ", err)
			}
			t.Skip("needs the reference engine: ", err)
		}
	default:
		t.Fatalf("COVE_UNDER_TEST=%q: must be cove, podman or docker", e.name)
	}
	out, err := exec.Command(e.binary, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if m := regexp.MustCompile(`version (\d+)\.`).FindSubmatch(out); m != nil {
		e.major = string(m[1])
	}
	return e
}

// reference finds a reference engine. docker's client is the one of the
// daemon's own release when that is installed: a newer one asks for what the
// daemon does not have.
func reference(name string) (string, error) {
	if name != "docker" {
		return exec.LookPath(name)
	}
	daemon, err := exec.LookPath("dockerd")
	if err != nil {
		return "", err
	}
	for _, dir := range []string{filepath.Dir(daemon), filepath.Join(filepath.Dir(daemon), "../bin")} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return exec.LookPath(name)
}

// house is where one script lives: its directories and its network.
type house struct {
	engine
	tb    testing.TB
	work  string
	root  string // graph root
	run   string // run root
	netns string // path of the script's network namespace
	out   string // path of the namespace outside
	env   []string
	seen  map[string]bool // container IDs
	// exported are the variables that the script has set.
	exported   []string
	registries map[string]func() // how to end them, by name
	closed     []func()
	journal    func() // ends the script's journal
}

// houseKey finds a script's house among its values.
type houseKey struct{}

func houseOf(ts *testscript.TestScript) *house { return ts.Value(houseKey{}).(*house) }

// hostAddr is the script's host as seen from outside, outAddr the other end.
const (
	hostAddr = "198.51.100.1"
	outAddr  = "198.51.100.2"
)

// setup furnishes a script's work directory and loads the image.
func setup(env *testscript.Env, e engine, images string) error {
	h := &house{engine: e, tb: env.T().(testing.TB), work: env.WorkDir, seen: map[string]bool{}}
	env.Values[houseKey{}] = h
	h.root, h.run = filepath.Join(h.work, ".root"), filepath.Join(h.work, ".run")
	env.Defer(h.close)
	id := strconv.FormatInt(time.Now().UnixNano()%1e9, 36)
	if err := h.network(id); err != nil {
		return err
	}
	for _, dir := range []string{".bin", ".etc", ".home", ".root", ".run", ".xdg"} {
		if err := os.MkdirAll(filepath.Join(h.work, dir), 0o755); err != nil {
			return err
		}
	}
	if err := h.configure(env); err != nil {
		return err
	}
	env.Setenv("IMAGES", images)
	if err := h.own(); err != nil {
		return err
	}
	h.env = append(slices.Clip(env.Vars), "PWD="+h.work) // not over what the script sets
	if e.name == "docker" {
		if err := h.dockerd(); err != nil {
			return err
		}
	}
	out, err := h.output(5*time.Minute, "ctr", "load", "-q", "-i", filepath.Join(images, "bb.tar"))
	if err != nil {
		return fmt.Errorf("load the image: %w\n%s", err, out)
	}
	return nil
}

// network makes the script's network namespace and one outside, with a link
// between.
func (h *house) network(id string) error {
	inner, outer := "cvt-"+id, "cvo-"+id
	h.netns, h.out = "/run/netns/"+inner, "/run/netns/"+outer
	h.closed = append(h.closed, func() {
		_ = exec.Command("ip", "netns", "del", inner).Run()
		_ = exec.Command("ip", "netns", "del", outer).Run()
	})
	script := fmt.Sprintf(`set -e
ip netns add %[1]s; ip netns add %[2]s
ip -n %[1]s link set lo up; ip -n %[2]s link set lo up
ip -n %[1]s link add up0 type veth peer name up0 netns %[2]s
ip -n %[1]s addr add %[3]s/24 dev up0; ip -n %[2]s addr add %[4]s/24 dev up0
ip -n %[1]s link set up0 up; ip -n %[2]s link set up0 up
ip -n %[1]s route add default via %[4]s
`, inner, outer, hostAddr, outAddr)
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		return fmt.Errorf("make network namespaces: %w: %s", err, out)
	}
	return nil
}

// runtimeLine is the line for COVE_TEST_RUNTIME. A path is taken as it is; a name
// could be what podman's library finds by itself.
func runtimeLine() string {
	if r := os.Getenv("COVE_TEST_RUNTIME"); r != "" {
		return fmt.Sprintf("runtime = %q\n", r)
	}
	return ""
}

// monitorLine is the line for COVE_TEST_MONITOR, conmon.
func monitorLine() string {
	if m := os.Getenv("COVE_TEST_MONITOR"); m != "" {
		return fmt.Sprintf("monitor = %q\n", m)
	}
	return ""
}

// configure writes the configuration files, the same for every engine, and
// the commands ctr, host and outside that scripts may call from a shell.
func (h *house) configure(env *testscript.Env) error {
	etc := filepath.Join(h.work, ".etc")
	bin := filepath.Join(h.work, ".bin")
	files := map[string]string{
		etc + "/containers.conf": "[containers]\ndefault_ulimits = [\"nofile=1024:4096\", \"nproc=4096:8192\"]\nlog_driver = \"k8s-file\"\n" +
			"[engine]\ncgroup_manager = \"" + cmp.Or(os.Getenv("COVE_TEST_CGROUP_MANAGER"), "cgroupfs") + "\"\nevents_logger = \"file\"\nlock_type = \"file\"\n" + runtimeLine(),
		etc + "/storage.conf":    fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n", h.root, h.run),
		etc + "/auth.json":       "{}\n",
		etc + "/registries.conf": "unqualified-search-registries = []\n",
	}
	if h.name == "podman" {
		files[etc+"/containers.conf"] += "[network]\nnetwork_backend = \"netavark\"\n"
		if !nat() {
			files[etc+"/containers.conf"] += "firewall_driver = \"none\"\n"
		}
	}
	var flags string
	switch h.name {
	case "cove":
		files[etc+"/containers.conf"] += monitorLine()
		flags = fmt.Sprintf("--root %s --runroot %s", h.root, h.run)
	case "podman":
		flags = fmt.Sprintf("--root %s --runroot %s --tmpdir %s/.tmpdir --network-config-dir %s/.networks --runtime %s", h.root, h.run, h.work, h.work, ociRuntime())
	case "docker":
		flags = "-H unix://" + h.work + "/.docker.sock"
	}
	enter := "#!/bin/sh\nexec nsenter --net=" + h.netns + " "
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if h.user != nil {
		enter += h.user.prefix()
		for _, p := range []*string{&self, &h.binary} {
			to := filepath.Join(bin, filepath.Base(*p)+"-copy")
			if err := copyProgram(*p, to); err != nil {
				return err
			}
			*p = to
		}
		env.Setenv("XDG_RUNTIME_DIR", h.work+"/.xdg")
		env.Setenv("USER", ordinary.Name)
		env.Setenv("USERID", strconv.Itoa(ordinary.ID))
		env.Setenv("SUBIDS", strconv.Itoa(ordinary.SubIDs))
	}
	ctr := h.binary + " " + flags + " \"$@\"\n"
	files[bin+"/ctr"] = enter + ctr
	if h.name == "docker" { // its rm -f kills at once and takes no time-out
		files[bin+"/ctr"] = "#!/bin/sh\ncase \"$1 $2 $3 $4\" in 'rm -f -t 0') shift 4; set -- rm -f \"$@\" ;; esac\n" + strings.TrimPrefix(enter, "#!/bin/sh\n") + ctr
	}
	if h.user != nil {
		// Called by the user himself, it is in the namespace already.
		files[bin+"/ctr"] = "#!/bin/sh\n[ \"$(id -u)\" = 0 ] || exec " + ctr + strings.TrimPrefix(enter, "#!/bin/sh\n") + ctr
	}
	files[bin+"/host"] = enter + "\"$@\"\n"
	files[bin+"/roots"] = "#!/bin/sh\nexec nsenter --net=" + h.netns + " \"$@\"\n"
	files[bin+"/outside"] = "#!/bin/sh\nexec nsenter --net=" + h.out + " \"$@\"\n"
	for path, text := range files {
		write := writeProgram
		if !strings.HasPrefix(path, bin) {
			write = func(path, text string) error { return os.WriteFile(path, []byte(text), 0o644) }
		}
		if err := write(path, text); err != nil {
			return err
		}
	}
	path := bin
	if dir, err := criu(); err == nil {
		path += ":" + dir
	}
	for k, v := range map[string]string{
		"SELF":                            self,
		"PATH":                            path + ":" + os.Getenv("PATH"),
		"HOME":                            h.work + "/.home",
		"DOCKER_CONFIG":                   h.work + "/.home/docker",
		"CONTAINERS_CONF":                 etc + "/containers.conf",
		"CONTAINERS_STORAGE_CONF":         etc + "/storage.conf",
		"CONTAINERS_REGISTRIES_CONF":      etc + "/registries.conf",
		"REGISTRY_AUTH_FILE":              etc + "/auth.json",
		"ROOT":                            h.root,
		"RUNROOT":                         h.run,
		"HOSTADDR":                        hostAddr,
		"ENGINE":                          h.name,
		"COVE_TEST_LOCK_ORDER":            "1",
		"PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
		"ENGINE_BINARY":                   h.binary,
		"RUNTIME":                         ociRuntime(),
		"bb":                              "localhost/bb:latest",
	} {
		env.Setenv(k, v)
	}
	return nil
}

// writeProgram writes a script. A process that another script's test forks
// meanwhile would hold it open for writing, and it could not be executed
// (ETXTBSY).
func writeProgram(path, text string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, []byte(text), 0o755)
}

// ociRuntime is the one that podman can use here: crun wants cgroup version 2
// alone.
// COVE_TEST_RUNTIME is another one to be tried, docker's too.
func ociRuntime() string {
	if path := os.Getenv("COVE_TEST_RUNTIME"); path != "" {
		return path
	}
	if unified() {
		return "crun"
	}
	return "runc"
}

// criu gives the directory of a CRIU that works with this kernel.
var criu = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("./criu").Output()
	return strings.TrimSpace(string(out)), err
})

func unified() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// nat says whether the kernel can translate addresses by nftables, which
// published ports need. It is tried in this process's own network namespace.
var nat = sync.OnceValue(func() bool {
	return exec.Command("nft", "add table inet probe; add chain inet probe c { type nat hook postrouting priority 100; }; delete table inet probe").Run() == nil
})

// dockerd starts a daemon of the script's own.
func (h *house) dockerd() error {
	conf := filepath.Join(h.work, ".etc", "daemon.json")
	settings := "{}\n"
	if path := os.Getenv("COVE_TEST_RUNTIME"); path != "" {
		settings = fmt.Sprintf("{\"runtimes\": {\"other\": {\"path\": %q}}, \"default-runtime\": \"other\"}\n", path)
	}
	if err := os.WriteFile(conf, []byte(settings), 0o644); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(h.work, ".dockerd.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("nsenter", "--net="+h.netns, "dockerd", "--config-file", conf, "-H", "unix://"+h.work+"/.docker.sock",
		"--data-root", h.root, "--exec-root", h.run, "-p", h.work+"/.docker.pid", "--iptables=true")
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, h.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	h.closed = append(h.closed, func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		select {
		case <-ended:
		case <-time.After(time.Minute):
			_ = cmd.Process.Kill()
			<-ended
		}
	})
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if _, err := h.output(30*time.Second, "ctr", "version"); err == nil {
			return nil
		}
	}
	text, _ := os.ReadFile(log.Name())
	return errors.Join(errors.New("dockerd does not answer"), errors.New(string(text)))
}
