package procfs

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// UserHZ is the unit of times in /proc on every architecture that Go knows, in
// ticks a second: time(7).
const UserHZ = 100

// Directory is a process held by its directory in /proc: what is read through
// it is of that process and not of a later one with the same number.
type Directory struct{ FD int }

// OpenDirectory opens a process's. False: there is no such process. The caller
// closes it.
func OpenDirectory(pid int) (Directory, bool) {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return Directory{fd}, err == nil
}

// Close lets go of the process.
func (d Directory) Close() { _ = unix.Close(d.FD) }

// Read gives the first max bytes of a file of the process's.
func (d Directory) Read(name string, max int) ([]byte, error) { return readAt(d.FD, name, max) }

// Read gives the first max bytes of a file of the kernel's, or of one that is always
// smaller. It waits for nobody, whatever is in the file's place.
func Read(path string, max int) ([]byte, error) { return readAt(unix.AT_FDCWD, path, max) }

func readAt(dir int, name string, max int) ([]byte, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return ReadFD(fd, max)
}

// ReadFD reads to the end of the file or until max bytes are read.
func ReadFD(fd, max int) ([]byte, error) {
	var data []byte
	for len(data) < max {
		data = slices.Grow(data, 4096)
		n, err := unix.Read(fd, data[len(data):min(cap(data), max)])
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return data, err
		}
		data = data[:len(data)+n]
	}
	return data, nil
}
