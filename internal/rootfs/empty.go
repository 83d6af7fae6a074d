package rootfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// deepest is how far Empty goes down before it moves what is below to the top:
// a descriptor is held for each level, and a container may nest directories
// until they, or the stack, run out.
const deepest = 100

// Empty removes everything in the directory dir, which may be what a container
// has left: links are removed, not followed, and no depth is too deep. Where
// something cannot be removed it goes on and gives the first error at the end.
// A directory that is not there is empty.
func Empty(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err == nil {
		defer unix.Close(fd)
		e := emptying{top: fd}
		for {
			moved := e.moved
			if err = e.level(fd, 0); e.moved == moved {
				break // nothing new has come to the top
			}
		}
	}
	if err != nil {
		return &os.PathError{Op: "empty", Path: dir, Err: err}
	}
	return nil
}

// RemoveTree is Empty, and then the directory itself goes; so does a file or a
// link in its place.
func RemoveTree(dir string) error {
	err := Empty(dir)
	remove := unix.Rmdir
	if errors.Is(err, unix.ENOTDIR) {
		err, remove = nil, unix.Unlink
	}
	if rerr := remove(dir); err == nil && rerr != nil && rerr != unix.ENOENT {
		err = &os.PathError{Op: "remove", Path: dir, Err: rerr}
	}
	return err
}

type emptying struct {
	top   int
	moved int // directories moved to the top
}

// level empties the directory fd. Reading on after removing is allowed to pass
// over entries, so it reads until there is nothing more that can be removed.
func (e *emptying) level(fd, depth int) error {
	buf := make([]byte, 4<<10)
	for {
		var first error
		removed := false
		if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
			return err
		}
		for {
			n, err := unix.ReadDirent(fd, buf)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
			for rest := buf[:n]; len(rest) > 0; {
				var entry dirent
				entry, rest = nextEntry(rest)
				if entry.name == "." || entry.name == ".." {
					continue
				}
				err := e.remove(fd, entry, depth)
				if err == nil {
					removed = true
				} else if err != unix.ENOENT && first == nil {
					first = err
				}
			}
		}
		if !removed {
			return first
		}
	}
}

func (e *emptying) remove(parent int, entry dirent, depth int) error {
	if !entry.dir {
		err := unix.Unlinkat(parent, entry.name, 0)
		if err != unix.EISDIR { // not every file system tells types
			return err
		}
	}
	if depth >= deepest {
		e.moved++
		return unix.Renameat(parent, entry.name, e.top, ".cove-removing-"+strconv.Itoa(os.Getpid())+"-"+strconv.Itoa(e.moved))
	}
	fd, err := unix.Openat(parent, entry.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = e.level(fd, depth+1)
	_ = unix.Close(fd)
	if rerr := unix.Unlinkat(parent, entry.name, unix.AT_REMOVEDIR); rerr == nil || err == nil {
		err = rerr
	}
	return err
}

type dirent struct {
	name string
	dir  bool
}

// nextEntry takes the first entry off what getdents64(2) gave: inode and offset
// of eight bytes each, length of the entry in two, type in one, the name.
func nextEntry(b []byte) (dirent, []byte) {
	length := int(binary.NativeEndian.Uint16(b[16:]))
	name := b[19:length]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	return dirent{string(name), b[18] == unix.DT_DIR}, b[length:]
}
