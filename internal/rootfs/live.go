package rootfs

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/ownthread"
	"github.com/cove-engine/cove/internal/procfs"
)

// OpenLive gives the root of a running container as its init, or its [Resident],
// sees it, with everything mounted in it when mounts is set and the bare root
// file system otherwise. A writable layer must not be mounted twice, so the live mount is
// cloned; what is done to the clone is done to the container. start is when
// the process pid was started, in clock ticks since boot; a process that took
// over its number gives os.ErrProcessDone.
// place is where the root is in the process's mount namespace.
func OpenLive(pid int, start uint64, place string, mounts bool) (int, error) {
	pidfd, err := openProcess(pid, start)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pidfd)
	return ownthread.Run(func() (int, error) {
		flags := uint(0)
		if mounts {
			flags = unix.AT_RECURSIVE
		}
		return cloneMount(pidfd, place, flags)
	})
}

// Writable lets the caller write to the root that [OpenLive] gave, but not to what
// else is mounted there. To the container it stays read-only.
func Writable(live int) error {
	attr := unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
	return os.NewSyscallError("mount_setattr", unix.MountSetattr(live, "", unix.AT_EMPTY_PATH, &attr))
}

// Alone gives a mount namespace in which there is nothing but what the running
// container has mounted at place. It lasts as long as somebody has it open,
// whatever becomes of the container, and keeps nothing else of it.
func Alone(pid int, start uint64, place string) (int, error) {
	pidfd, err := openProcess(pid, start)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pidfd)
	return ownthread.Run(func() (int, error) {
		own, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: "/proc/thread-self/ns/mnt", Err: err}
		}
		defer unix.Close(own)
		mount, err := cloneMount(pidfd, place, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			return -1, err
		}
		defer unix.Close(mount)
		if err := unix.Setns(own, unix.CLONE_NEWNS); err != nil {
			return -1, os.NewSyscallError("setns", err)
		}
		return namespaceOf(mount)
	})
}

// namespaceOf makes a new mount namespace for the calling thread whose only
// mount is the given one.
func namespaceOf(mount int) (int, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return -1, os.NewSyscallError("unshare", err)
	}
	ns, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: "/proc/thread-self/ns/mnt", Err: err}
	}
	const at = "/dev" // a directory that every host has
	err = unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, "")
	if err == nil {
		err = unix.MoveMount(mount, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	if err == nil {
		err = unix.Chdir(at)
	}
	if err == nil {
		err = unix.PivotRoot(".", ".") // pivot_root(2): the old root is on top now
	}
	if err == nil {
		err = unix.Unmount(".", unix.MNT_DETACH)
	}
	if err != nil {
		_ = unix.Close(ns)
		return -1, os.NewSyscallError("make mount namespace", err)
	}
	return ns, nil
}

// openProcess opens the process that was started at start.
func openProcess(pid int, start uint64) (int, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return -1, os.ErrProcessDone
	}
	if err != nil {
		return -1, os.NewSyscallError("pidfd_open", err)
	}
	// Read after it was opened: if this is the one, the descriptor is too.
	if now, err := procfs.StartTime(pid); err != nil || now != start {
		_ = unix.Close(pidfd)
		return -1, os.ErrProcessDone
	}
	return pidfd, nil
}

// cloneMount takes the calling thread into the mount namespace of a process
// and clones what is mounted at place there.
func cloneMount(pidfd int, place string, flags uint) (int, error) {
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
	fd, err := unix.OpenTree(unix.AT_FDCWD, place, flags|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, &os.PathError{Op: "open_tree", Path: place, Err: err}
	}
	return fd, nil
}
