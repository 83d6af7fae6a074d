package serve

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/coldjson"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// unifiedCgroup makes a cgroup of version 2.
func unifiedCgroup(t *testing.T) string {
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(mount + "/cgroup.procs"); err != nil {
			continue
		}
		dir, err := os.MkdirTemp(mount, "covetest-newborn-")
		if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if !removeCgroup(dir) {
				t.Error("somebody is left in ", dir)
			}
		})
		return dir
	}
	t.Skip("no cgroup of version 2 can be made here")
	return ""
}

// bornOf is bear of a shell command, with the other end of its control.
func bornOf(t *testing.T, cgroup string, flags uintptr, command string) (child, *os.File) {
	t.Helper()
	ours, theirs, err := wire.ChildPair()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := unix.Open(cgroup, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := child{socket: ours}
	// Each has to get to the other's place.
	files := []uintptr{2, ^uintptr(0), 0, uintptr(theirs)}
	c.pid, c.pidfd, err = bear("/bin/sh", []string{"sh", "-c", command}, []string{"A=b"}, files, 3, flags, dir)
	_ = unix.Close(theirs)
	_ = unix.Close(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c, os.NewFile(uintptr(ours), "control")
}

// ends tells how a child has ended, once it has.
func (c child) ends(t *testing.T, within time.Duration) (status unix.WaitStatus, ended bool) {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(c.pidfd), Events: unix.POLLIN}}
	if n, _ := unix.Poll(fds, int(within.Milliseconds())); n == 0 {
		return 0, false
	}
	if _, err := unix.Wait4(c.pid, &status, 0, nil); err != nil {
		t.Error(err)
	}
	_ = unix.Close(c.pidfd)
	return status, true
}

// TestNewbornFrozen: who starts a process in a frozen cgroup does not wait for it, and it
// is ended there, or goes on when the cgroup does.
func TestNewbornFrozen(t *testing.T) {
	dir := unifiedCgroup(t)
	freeze := func(word string) {
		if err := writeFile(dir+"/cgroup.freeze", []byte(word)); err != nil {
			t.Fatal(err)
		}
	}
	freeze("1")
	waited := time.AfterFunc(time.Minute, func() { freeze("0") })
	killed, control := bornOf(t, dir, 0, "exit 7")
	defer control.Close()
	// What the monitor is told by signals is not the child's to hear.
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, unix.SIGTERM)
	defer signal.Stop(heard)
	ended, third := bornOf(t, dir, 0, "exit 7")
	defer third.Close()
	thawed, other := bornOf(t, dir, 0, `test "$A" = b && ! test -e /proc/self/fd/1 && exit 7`)
	defer other.Close()
	if !waited.Stop() {
		t.Fatal("its maker waited for the thaw")
	}
	for _, c := range []child{killed, ended, thawed} {
		if status, ended := c.ends(t, 50*time.Millisecond); ended {
			t.Fatal("it does not stand still: ", status)
		}
	}
	if err := unix.PidfdSendSignal(killed.pidfd, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	if status, ended := killed.ends(t, time.Minute); !ended || status.Signal() != unix.SIGKILL {
		t.Errorf("killed: %v, %v", ended, status)
	}
	if err := unix.PidfdSendSignal(ended.pidfd, unix.SIGTERM, nil, 0); err != nil {
		t.Fatal(err)
	}
	freeze("0")
	if status, over := ended.ends(t, time.Minute); !over || status.Signal() != unix.SIGTERM {
		t.Errorf("ended: %v, %v", over, status)
	}
	if status, ended := thawed.ends(t, time.Minute); !ended || status.ExitStatus() != 7 {
		t.Errorf("thawed: %v, %v", ended, status)
	}
}

// TestNewbornNamespaces: it has the new namespaces that were asked for.
func TestNewbornNamespaces(t *testing.T) {
	ours, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	c, control := bornOf(t, unifiedCgroup(t), unix.CLONE_NEWNS, `test "$(readlink /proc/self/ns/mnt)" != "`+ours+`" && exit 7`)
	defer control.Close()
	if status, ended := c.ends(t, time.Minute); !ended || status.ExitStatus() != 7 {
		t.Errorf("%v, %v", ended, status)
	}
}

// TestNewbornNotExecuted: why there is no program is told.
func TestNewbornNotExecuted(t *testing.T) {
	dir := unifiedCgroup(t)
	cgroup, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(cgroup)
	ours, theirs, err := wire.ChildPair()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ours)
	var c child
	c.pid, c.pidfd, err = bear("/nowhere", []string{"nowhere"}, []string{""}, []uintptr{0, 1, 2, uintptr(theirs)}, 3, 0, cgroup)
	_ = unix.Close(theirs)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1024)
	kind, body, _, err := wire.AwaitFrom(c.pid, ours, buf)
	var f wire.Failure
	if err != nil || kind != wire.Failed || coldjson.Unmarshal(body, &f) != nil || !strings.HasSuffix(f.Error(), "error 002") {
		t.Errorf("%v, %v, %q", kind, err, body)
	}
	if _, _, _, err := wire.AwaitFrom(c.pid, ours, buf); err != io.EOF {
		t.Error(err)
	}
	if status, ended := c.ends(t, time.Minute); !ended || status.ExitStatus() != 1 {
		t.Errorf("%v, %v", ended, status)
	}
}
