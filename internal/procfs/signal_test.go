package procfs

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// first starts a shell as the first process of a process namespace. Its script
// forks nothing: meanwhile a shell blocks signals.
func first(t *testing.T, script string) (pid int) {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Pdeathsig: unix.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	err = cmd.Start()
	if err != nil {
		t.Skip("a process namespace cannot be made: ", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

func TestDrops(t *testing.T) {
	deaf := first(t, "echo; read x")
	hears := first(t, "trap 'exit' TERM; echo; read x")
	for name, c := range map[string]struct {
		pid  int
		sig  unix.Signal
		want bool
	}{
		"without a handler": {deaf, unix.SIGTERM, true},
		"SIGKILL":           {deaf, unix.SIGKILL, false},
		"handled":           {hears, unix.SIGTERM, false},
		"another signal":    {hears, unix.SIGUSR1, true},
		"not the first":     {os.Getpid(), unix.SIGTERM, false},
		"no process":        {1 << 30, unix.SIGTERM, false},
	} {
		if got := Drops(c.pid, c.sig); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestExecuted(t *testing.T) {
	// The fork executes when it is told to: what it reads ends.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	cmd := exec.Command("sh", "-c", "(read x; exec sleep 1000) <&3 3<&- >/dev/null 2>&1 & echo $!")
	cmd.ExtraFiles = []*os.File{r}
	out, err := cmd.Output()
	r.Close()
	pid, _ := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil || pid == 0 {
		t.Fatalf("%q, %v", out, err)
	}
	defer func() { _ = unix.Kill(pid, unix.SIGKILL) }()
	if Executed(pid) {
		t.Error("a fork that has not executed anything yet")
	}
	w.Close()
	for limit := time.Now().Add(time.Minute); !Executed(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("it has executed sleep by now")
		}
	}
}
