package engine

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
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
