package serve

import (
	"testing"

	"golang.org/x/sys/unix"
)

// A timer that is due again whenever it was called leaves room for events.
func TestTimersLeaveRoomForEvents(t *testing.T) {
	var l loop
	if err := l.open(); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l.epoll)
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	l.watch(p[0], unix.EPOLLIN, func(uint32) { l.forget(p[0]) })
	calls := 0
	var again func()
	again = func() {
		if calls++; calls == 1 {
			_ = unix.Close(p[1]) // the event
		}
		if calls > 1000 {
			t.Fatal("the event was not handled among a thousand calls")
		}
		l.after(0, again)
	}
	l.after(0, again)
	for range 3 {
		l.step()
	}
	if len(l.handlers) != 0 {
		t.Errorf("the event was not handled in three steps, after %d calls", calls)
	}
}
