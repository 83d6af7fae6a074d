package monitor_test

import (
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/conmon"
)

// Who waits for a monitor that accepts nobody just now goes on waiting when a signal
// comes, as that of a terminal's new size.
func TestSignalWhileConnecting(t *testing.T) {
	for name, connect := range map[string]func(dir string) error{
		"native": func(dir string) error {
			c, err := monitor.Dial(filepath.Join(dir, "attach"))
			if err == nil {
				c.Close()
			}
			return err
		},
		"conmon": func(dir string) error { _, err := conmon.Attach(dir); return err },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(listener)
			if err := unix.Bind(listener, &unix.SockaddrUnix{Name: filepath.Join(dir, "attach")}); err != nil {
				t.Fatal(err)
			}
			if err := unix.Listen(listener, 0); err != nil { // one fits all the same
				t.Fatal(err)
			}
			if err := connect(dir); err != nil {
				t.Fatal(err)
			}
			thread, done := make(chan int, 1), make(chan error, 1)
			go func() {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				thread <- unix.Gettid()
				done <- connect(dir)
			}()
			tid := <-thread
			for range 20 {
				time.Sleep(10 * time.Millisecond)
				if err := unix.Tgkill(unix.Getpid(), tid, unix.SIGURG); err != nil {
					t.Fatal(err)
				}
			}
			first, _, err := unix.Accept(listener) // there is room again
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(first)
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}
