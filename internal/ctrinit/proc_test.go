package ctrinit

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/plan"
)

// Kernels before 6.18 make no /proc of another process namespace: that of
// somebody in there is copied, if it is one of it.
func TestCopiedProc(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes namespaces")
	}
	// What is started dies with this thread, which no other goroutine may end.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, c := range []struct {
		script string
		has    bool
	}{
		{"mount --make-rprivate / && mount -t proc proc /proc; exec sleep 1000", true},
		{"sleep 1000", false}, // it has the host's
	} {
		cmd := exec.Command("sh", "-c", c.script)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
		ns, err := unix.Open("/proc/"+strconv.Itoa(cmd.Process.Pid)+"/ns/pid", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(ns)
		fd, err := copiedProc(ns)
		for end := time.Now().Add(time.Minute); c.has && err != nil && time.Now().Before(end); fd, err = copiedProc(ns) {
			time.Sleep(10 * time.Millisecond) // it is about to mount it
		}
		switch {
		case c.has && err != nil:
			t.Errorf("%s: %v", c.script, err)
		case !c.has && (err == nil || !strings.Contains(err.Error(), "nobody in the process namespace has a /proc of it")):
			t.Errorf("%s: %v", c.script, err)
		}
		if err == nil {
			_ = unix.Close(fd)
		}
		if fd, err := ProcOf(ns, &plan.Mount{Type: "proc", Set: unix.MOUNT_ATTR_RDONLY}); err == nil {
			var st unix.Statfs_t
			if !shows(fd, ns) || unix.Fstatfs(fd, &st) != nil || st.Flags&unix.ST_RDONLY == 0 {
				t.Errorf("%s: a new one shows others, or is writable", c.script)
			}
			_ = unix.Close(fd)
		} else if c.has {
			t.Error(err)
		}
	}
}
