package runtime

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
)

// Who may not look at a container's namespaces is told so, not that it has ended.
func TestExecNamespacesDenied(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: gives up rights")
	}
	denied := make(chan error)
	go func() {
		runtime.LockOSThread() // and ends with it
		var none [2]unix.CapUserData
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		_, err := unix.SetfsuidRetUid(65534)
		if err == nil {
			err = unix.Capset(&header, &none[0])
		}
		if err == nil {
			_, err = (&Container{record: record{PID: os.Getppid()}}).apart()
		}
		denied <- err
	}()
	if err := <-denied; !cove.Is(err, cove.Denied) {
		t.Errorf("another's: %v", err)
	}
	if _, err := (&Container{record: record{PID: 1 << 30}}).apart(); !cove.Is(err, cove.WrongStatus) {
		t.Errorf("nobody's: %v", err)
	}
}

// An exec enters the cgroups that were made for its container, not what is in their
// place when it has ended.
func TestExecCgroups(t *testing.T) {
	dir := t.TempDir()
	inodes, err := cgroup.Inodes([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	c := &Container{record: record{Cgroups: []string{dir}, Inodes: inodes}}
	if dirs, err := c.below(nil); err != nil || len(dirs) != 1 || dirs[0] != dir {
		t.Errorf("its own: %v %v", dirs, err)
	}
	c.Inodes[0]++
	for _, names := range []map[string]string{nil, {"": "inner"}} {
		if dirs, err := c.below(names); !cove.Is(err, cove.WrongStatus) {
			t.Errorf("another's, below %v: %v %v", names, dirs, err)
		}
	}
}
