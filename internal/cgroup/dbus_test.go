package cgroup

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Who talks of other things all the time is not listened to for ever.
func TestReceiveEnds(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := connection{fd: fds[0], limit: time.Second, end: time.Now().Add(time.Second)}
	go func() {
		defer unix.Close(fds[1])
		other := call("org.example.A", "/a", "org.example.B", "C", "s", []byte("\x01\x00\x00\x00x\x00"))
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			if unix.Send(fds[1], other, unix.MSG_NOSIGNAL) != nil {
				return
			}
		}
	}()
	for err = nil; err == nil; {
		_, err = c.receive()
	}
	c.close()
	if err.Error() != "systemd has not done it after 1s" {
		t.Error(err)
	}
}

// FuzzReceive hears answers that no systemd would give.
func FuzzReceive(f *testing.F) {
	f.Add(call("org.example.A", "/a", "org.example.B", "C", "s", []byte("\x01\x00\x00\x00x\x00")))
	f.Add([]byte("l\x02\x01\x01\x00\x00\x00\x00\x01\x00\x00\x00\xff\xff\x00\x00"))
	f.Add([]byte("B\x02\x01\x01\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00\x00\x08\x08\x01g\x00\x02as\x00\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, message []byte) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		c := connection{fd: fds[0], limit: time.Minute, end: time.Now().Add(time.Minute)}
		defer c.close()
		if len(message) > 1<<15 {
			return // more than the socket holds
		}
		if _, err := unix.Write(fds[1], message); err != nil {
			t.Skip(err)
		}
		unix.Close(fds[1])
		start := time.Now()
		for range 100 {
			if _, err := c.receive(); err != nil {
				break
			}
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}
