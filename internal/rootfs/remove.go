package rootfs

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// RemoveAll removes name in the directory dir with all that is in it. Links
// are removed, not followed. What is not there is no error. Nothing is removed
// on which something is mounted, in whatever namespace that was seen: EBUSY; and
// nothing that is not a name in dir, as .. is not: EINVAL.
func RemoveAll(dir int, name string) error {
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return &os.PathError{Op: "remove", Path: name, Err: unix.EINVAL}
	}
	if mounted, err := MountedOn(dir, name); err != nil {
		if err == unix.ENOENT {
			return nil
		}
		return &os.PathError{Op: "remove", Path: name, Err: err}
	} else if mounted {
		return &os.PathError{Op: "remove", Path: name, Err: unix.EBUSY}
	}
	err := unix.Unlinkat(dir, name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.EISDIR && err != unix.EPERM {
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	fd, oerr := unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if oerr != nil {
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	e := Entry{FD: fd}
	defer e.Close()
	e.Stat.Mode = unix.S_IFDIR
	names, err := e.Names()
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := RemoveAll(fd, n); err != nil {
			return err
		}
	}
	if err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

// MountedOn tells whether name in the directory dir is where something is
// mounted. The kernel itself refuses to remove such a name only in the
// namespace that has the mount; in a tree of another one it would take the
// mount away from whoever uses it. name itself is not followed.
func MountedOn(dir int, name string) (bool, error) {
	var st unix.Statx_t
	if err := unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st); err != nil {
		return false, err
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}
