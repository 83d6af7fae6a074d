package engine

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/procfs"
)

// That nobody could be asked does not tell that nobody listens.
func TestListenerDoubts(t *testing.T) {
	e, _ := engineWith(t)
	id := newID()
	if pid, err := e.listener(id); pid != 0 || err != nil {
		t.Errorf("without a socket: %d, %v", pid, err)
	}
	withoutDescriptors(t, func() {
		if pid, err := e.listener(id); err == nil {
			t.Errorf("without a descriptor to ask with: %d", pid)
		}
	})
}

// A monitor that cannot be looked at is none that has ended.
func TestMonitorDoubts(t *testing.T) {
	e, _ := engineWith(t)
	withoutDescriptors(t, func() {
		if id, err := e.monitorOf(os.Getpid()); err == nil {
			t.Errorf("its words: monitor of %q", id)
		}
		if ours, err := hasOurRights(os.Getpid()); err == nil {
			t.Errorf("its rights: %v", ours)
		}
		if names, err := opened(os.Getpid()); err == nil {
			t.Errorf("what it has open: %q", names)
		}
	})
	none := exec.Command("true")
	if err := none.Run(); err != nil {
		t.Fatal(err)
	}
	if id, err := e.monitorOf(none.Process.Pid); id != "" || err != nil {
		t.Errorf("one that is gone: %q, %v", id, err)
	}
}

// What a process has brought about by its root directory or its files tells that it is not
// ours: only our own want leaves a doubt.
func TestDoubt(t *testing.T) {
	for _, err := range []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		if ofOurs(os.NewSyscallError("openat", err)) == nil {
			t.Errorf("%v leaves no doubt", err)
		}
	}
	for _, err := range []error{nil, unix.ESRCH, unix.EACCES, unix.ENOTCONN, unix.EIO, unix.ESTALE} {
		if got := ofOurs(os.NewSyscallError("statx", err)); got != nil {
			t.Errorf("%v leaves a doubt: %v", err, got)
		}
	}
}

// withoutDescriptors does something while the process can open none.
func withoutDescriptors(t *testing.T, do func()) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := unix.Rlimit{Cur: 0, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	do()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
}

// Of the children of a conmon whose files are lost none is taken for the container that may
// not be it: a kernel of its own has others, and two may be of one age.
func TestWatchedBy(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: to have a root directory that is not ours")
	}
	e, _ := engineWith(t)
	made := func(runtime string) *cove.Container {
		program := filepath.Join(t.TempDir(), runtime)
		if err := os.WriteFile(program, nil, 0o755); err != nil {
			t.Fatal(err)
		}
		c := &cove.Container{ID: newID()}
		c.Spec.Runtime, c.Spec.Monitor = program, "conmon"
		return c
	}
	start := func() *exec.Cmd {
		p := &exec.Cmd{Path: "/bin/sleep", Args: []string{"sleep", "1000"}, Dir: "/", SysProcAttr: &syscall.SysProcAttr{Chroot: "/usr"}}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		return p
	}
	end := func(p *exec.Cmd) {
		_ = p.Process.Kill()
		_ = p.Wait()
	}
	runc, runsc := made("runc"), made("runsc")
	for range 1000 { // until two have begun in one tick
		first := start()
		if pid := e.watchedBy(runc, os.Getpid()); pid != first.Process.Pid {
			t.Errorf("of one child it is %d, not %d", pid, first.Process.Pid)
		}
		if pid := e.watchedBy(runsc, os.Getpid()); pid != 0 {
			t.Errorf("with a kernel of its own: %d", pid)
		}
		end(first)
		first = start()
		second := start()
		one, err1 := procfs.StartTime(first.Process.Pid)
		other, err2 := procfs.StartTime(second.Process.Pid)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		want := first.Process.Pid
		if one == other {
			want = 0
		}
		if pid := e.watchedBy(runc, os.Getpid()); pid != want {
			t.Errorf("of children since %d and %d: %d, want %d", one, other, pid, want)
		}
		end(first)
		end(second)
		if one == other || t.Failed() {
			break
		}
	}
}
