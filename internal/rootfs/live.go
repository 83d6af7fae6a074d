package rootfs

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/procfs"
)

// OpenLive gives the root of a running container as its init sees it, with
// everything mounted in it when mounts is set and the bare root file system
// otherwise. A writable layer must not be mounted twice, so the live mount is
// cloned; what is done to the clone is done to the container. start is when
// the process pid was started, in clock ticks since boot; a process that took
// over its number gives os.ErrProcessDone.
func OpenLive(pid int, start uint64, mounts bool) (int, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return -1, os.ErrProcessDone
	}
	if err != nil {
		return -1, os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(pidfd)
	// Read after it was opened: if this is the one, the descriptor is too.
	if now, err := procfs.StartTime(pid); err != nil || now != start {
		return -1, os.ErrProcessDone
	}
	return onOwnThread(func() (int, error) {
		// setns(2): the file system attributes must not be shared.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return -1, os.NewSyscallError("unshare", err)
		}
		if err := unix.Setns(pidfd, unix.CLONE_NEWNS); err != nil {
			if err == unix.ESRCH {
				return -1, os.ErrProcessDone
			}
			return -1, os.NewSyscallError("setns", err)
		}
		flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
		if mounts {
			flags |= unix.AT_RECURSIVE
		}
		fd, err := unix.OpenTree(unix.AT_FDCWD, "/", flags)
		if err != nil {
			return -1, os.NewSyscallError("open_tree", err)
		}
		return fd, nil
	})
}
