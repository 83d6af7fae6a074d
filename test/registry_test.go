package test

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cove-engine/cove/internal/image/registrytest"
)

// registryVar marks a process that is only a registry; its value says which.
const registryVar = "COVE_TEST_REGISTRY"

// TestRegistry is no test: run again by the registry command inside a
// script's network namespace, it is a registry until its standard input ends.
func TestRegistry(t *testing.T) {
	kind := os.Getenv(registryVar)
	if kind == "" {
		t.Skip("is the registry of other tests")
	}
	var o registrytest.Options
	if err := json.Unmarshal([]byte(kind), &o); err != nil {
		t.Fatal(err)
	}
	r := registrytest.Start(t, o)
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// cmdRegistry: registry NAME [tls] [USER PASSWORD] — starts a registry on the
// loopback of the script's namespace. $NAME is its address, $NAME_CERTS the
// directory with its CA. Without tls, registries.conf is told that it is
// insecure. registry -stop NAME ends it.
func cmdRegistry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: registry [-stop] name [tls] [user password]")
	}
	h := houseOf(ts)
	if args[0] == "-stop" {
		stop := h.registries[args[1]]
		if stop == nil {
			ts.Fatalf("no registry %s", args[1])
		}
		stop()
		return
	}
	name, args := args[0], args[1:]
	var o registrytest.Options
	if len(args) > 0 && args[0] == "tls" {
		o.TLS, args = true, args[1:]
	}
	if len(args) == 2 {
		o.User, o.Password = args[0], args[1]
	}
	if _, err := exec.LookPath("docker-registry"); err != nil {
		ts.Fatalf("needs docker-registry: %v", err)
	}
	r := startRegistry(ts, h, name, o)
	ts.Setenv(name, r.Addr)
	ts.Setenv(name+"_CERTS", r.CertDir)
	ts.Setenv(name+"_STORAGE", r.Storage)
	h.exported = append(h.exported, name, name+"_CERTS", name+"_STORAGE")
	if !o.TLS {
		f, err := os.OpenFile(ts.Getenv("CONTAINERS_REGISTRIES_CONF"), os.O_APPEND|os.O_WRONLY, 0)
		ts.Check(err)
		_, err = f.WriteString("[[registry]]\nlocation = \"" + r.Addr + "\"\ninsecure = true\n")
		ts.Check(err)
		ts.Check(f.Close())
	}
}

func startRegistry(ts *testscript.TestScript, h *house, name string, o registrytest.Options) registrytest.Registry {
	kind, err := json.Marshal(o)
	ts.Check(err)
	cmd := exec.Command("nsenter", "--net="+h.netns, "/proc/self/exe", "-test.run=^TestRegistry$", "-test.timeout=0")
	cmd.Path, err = exec.LookPath("nsenter")
	ts.Check(err)
	if self, err := os.Executable(); err == nil {
		cmd.Args[2] = self
	}
	// Not the script's directories in its environment: it is not the engine's.
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, insideVar+"=") }), registryVar+"="+string(kind))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	ts.Check(err)
	stdout, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			stdin.Close()
			_, _ = io.Copy(io.Discard, stdout)
			_ = cmd.Wait()
		}
	}
	h.closed = append(h.closed, stop)
	if h.registries == nil {
		h.registries = map[string]func(){}
	}
	h.registries[name] = stop
	line, err := bufio.NewReader(stdout).ReadString('\n')
	var r registrytest.Registry
	if err == nil {
		err = json.Unmarshal([]byte(line), &r)
	}
	if err != nil {
		stop()
		ts.Fatalf("registry: %v: %s", err, line)
	}
	if h.user != nil {
		// Its certificates are root's alone, and the directory above them.
		if o.TLS {
			ts.Check(os.Chmod(filepath.Join(r.CertDir, "ca.crt"), 0o644))
		}
		for dir := filepath.Dir(r.Storage); len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
			ts.Check(os.Chmod(dir, 0o755))
		}
	}
	return r
}
