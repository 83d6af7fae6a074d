package engine

import (
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
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := unix.Rlimit{Cur: 0, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	pid, err := e.listener(id)
	if rerr := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); rerr != nil {
		t.Fatal(rerr)
	}
	if err == nil {
		t.Errorf("without a descriptor to ask with: %d", pid)
	}
}
