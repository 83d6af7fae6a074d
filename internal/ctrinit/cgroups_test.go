package ctrinit

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/plan"
	"github.com/cove-engine/cove/internal/procfs"
)

// An ordinary user in the machine's first cgroup namespace, who can mount none, sees
// the host's cgroups as they are, and changes none of them.
func TestShownCgroups(t *testing.T) {
	if os.Getenv("COVE_TEST_USER") == "" {
		if !procfs.FirstCgroupNamespace("/proc/self/ns/cgroup") {
			t.Skip("not in the first cgroup namespace")
		}
		child := exec.Command("/proc/self/exe", "-test.run=^TestShownCgroups$", "-test.v")
		child.Env = append(os.Environ(), "COVE_TEST_USER=1")
		child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
		if out, err := child.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	mfd, err := cgroups(&plan.Mount{Type: "cgroup", Set: unix.MOUNT_ATTR_RDONLY})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(mfd)
	names, err := os.ReadDir("/sys/fs/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		var its, host unix.Statfs_t
		fd, err := unix.Openat(mfd, name.Name(), unix.O_PATH|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT && unix.Statfs("/sys/fs/cgroup/"+name.Name(), &host) == unix.ENOENT {
			continue // a cgroup of somebody's that is gone
		}
		if err != nil {
			t.Error(name.Name(), err)
			continue
		}
		if err := unix.Fstatfs(fd, &its); err != nil || its.Flags&unix.ST_RDONLY == 0 {
			t.Errorf("%s: %v, flags %#x", name.Name(), err, its.Flags)
		}
		if err := unix.Statfs("/sys/fs/cgroup/"+name.Name(), &host); err != unix.ENOENT && (err != nil || its.Type != host.Type) {
			t.Errorf("%s: %v, of type %#x, on the host %#x", name.Name(), err, its.Type, host.Type)
		}
		_ = unix.Close(fd)
	}
}
