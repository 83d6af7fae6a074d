package wire_test

import (
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
)

// The limit is one however many signals come meanwhile, and none is an error.
func TestConnectSignalled(t *testing.T) {
	name := filepath.Join(t.TempDir(), "full")
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(listener)
	if err := unix.Bind(listener, &unix.SockaddrUnix{Name: name}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(listener, 0); err != nil { // one fits all the same
		t.Fatal(err)
	}
	file, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(file)
	connect := func(limit time.Duration) error {
		fd, err := wire.Connect(file, unix.SOCK_STREAM, limit)
		if err == nil {
			t.Cleanup(func() { _ = unix.Close(fd) })
		}
		return err
	}
	if err := connect(time.Second); err != nil {
		t.Fatal(err)
	}
	thread, done := make(chan int, 1), make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		thread <- unix.Gettid()
		done <- connect(200 * time.Millisecond)
	}()
	tid := <-thread
	// Each comes long before the limit, which would never end if it began anew.
	for deadline := time.Now().Add(time.Minute); ; {
		select {
		case err := <-done:
			if err != unix.EAGAIN {
				t.Errorf("connect: %v", err)
			}
			return
		case <-time.After(5 * time.Millisecond):
			_ = unix.Tgkill(unix.Getpid(), tid, unix.SIGURG) // it may have just ended
		}
		if time.Now().After(deadline) {
			t.Fatal("it still waits")
		}
	}
}
