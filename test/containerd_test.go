package test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// containerd starts one of the test's own, and gives what calls its client.
func containerd(t *testing.T, dir string) func(args ...string) (string, int) {
	t.Helper()
	for _, name := range []string{"containerd", "ctr", "containerd-shim-runc-v2"} {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip("needs ", err)
		}
	}
	socket := filepath.Join(dir, "grpc")
	conf := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n[ttrpc]\naddress = %q\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "run"), socket, filepath.Join(dir, "ttrpc"))
	file := filepath.Join(dir, "containerd.toml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command("containerd", "--config", file)
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
	})
	ctr := func(args ...string) (string, int) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, "ctr", append([]string{"--address", socket, "--timeout", patience.String()}, args...)...)
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended && !errors.Is(err, exec.ErrWaitDelay) {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		out, code := ctr("version")
		if code == 0 {
			return ctr
		}
		if time.Now().After(deadline) {
			t.Fatal(out)
		}
	}
}

// TestRuntimeContainerd has containerd's shim run containers with the runtime. With
// COVE_RUNTIME_BINARY it is another one, as runc.
func TestRuntimeContainerd(t *testing.T) {
	b := newBundle(t, "")
	ctr := containerd(t, b.dir)
	run := func(id string, args ...string) []string {
		with := []string{"run", "--runc-binary", b.bin, "--cgroup", b.Linux.CgroupsPath + "-" + id, "--env", "PATH=/bin", "--rootfs"}
		flags := 0
		for flags < len(args) && strings.HasPrefix(args[flags], "-") {
			flags++
		}
		with = append(append(with, args[:flags]...), filepath.Join(b.dir, "rootfs"), id)
		return append(with, args[flags:]...)
	}
	const box = "cove-test-box"
	t.Cleanup(func() { // before the daemon, whose end its shim and the box outlive
		_, _ = ctr("task", "kill", "--signal=SIGKILL", box)
		_, _ = ctr("task", "delete", "--force", box)
		_, _ = ctr("container", "delete", box)
	})
	steps := []struct {
		args []string
		code int
		says string
	}{
		{run("cove-test-1", "--rm", "sh", "-c", "echo hello; exit 7"), 7, "hello\n"},
		{run("cove-test-2", "--rm", "nowhere"), 1, "executable file not found in $PATH"},
		{run("cove-test-3", "--rm", "--seccomp", "grep", "Seccomp:", "/proc/self/status"), 0, "2\n"},
		{run(box, "--detach", "--memory-limit=67108864", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done"), 0, ""},
		{[]string{"task", "ls"}, 0, "RUNNING"},
		{[]string{"task", "exec", "--exec-id=one", box, "sh", "-c", "echo inside; exit 5"}, 5, "inside\n"},
		{[]string{"task", "exec", "--exec-id=two", box, "nowhere"}, 1, "executable file not found in $PATH"},
		{[]string{"task", "pause", box}, 0, ""},
		{[]string{"task", "ls"}, 0, "PAUSED"},
		{[]string{"task", "resume", box}, 0, ""},
		{[]string{"task", "metrics", box}, 0, "67108864"},
		{[]string{"task", "ps", box}, 0, "PID"},
		{[]string{"task", "kill", "--signal=SIGTERM", box}, 0, ""},
		{[]string{"task", "delete", box}, 0, "code 3"},
		{[]string{"container", "delete", box}, 0, ""},
		{[]string{"container", "ls", "--quiet"}, 0, ""},
	}
	for _, s := range steps {
		out, code := ctr(s.args...)
		for deadline := time.Now().Add(patience); strings.Contains(out, "must be stopped") && time.Now().Before(deadline); out, code = ctr(s.args...) {
			time.Sleep(20 * time.Millisecond) // its signal was just sent
		}
		if code != s.code || !strings.Contains(out, s.says) {
			t.Errorf("%q: %d %s, want %d %q", s.args, code, out, s.code, s.says)
		}
	}
}
