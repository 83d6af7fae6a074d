// Package syncdir has the disk know what names a directory has: a file that was synced
// may be without its name after a power loss.
//
// It is linked into the monitor: standard library and x/sys only.
package syncdir

import (
	"os"

	"golang.org/x/sys/unix"
)

// Sync syncs a directory. What is in its place and none is not waited for.
func Sync(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for err == unix.EINTR { // of file systems that wait for another process or machine
		fd, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	if err == nil {
		for err = unix.Fsync(fd); err == unix.EINTR; {
			err = unix.Fsync(fd)
		}
		_ = unix.Close(fd)
	}
	if err != nil {
		return &os.PathError{Op: "sync", Path: dir, Err: err}
	}
	return nil
}
