package rootfs

import (
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// CopyTree copies what the directory src holds into the directory dst, which
// must be empty and nobody else's: owners, modes, times, extended attributes,
// hard links, links, devices, pipes and sockets. Both are any descriptors of
// directories. What is half copied on an error is the caller's to remove.
// Mounts below src are copied like directories.
func CopyTree(src, dst int) error {
	from, err := OpenEntry(src, ".")
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := OpenEntry(dst, ".")
	if err != nil {
		return err
	}
	defer to.Close()
	c := copier{root: to.FD, links: map[fileID]string{}}
	return c.dir(&from, &to, ".")
}

type fileID struct{ dev, ino uint64 }

type copier struct {
	root  int
	links map[fileID]string // files with several names: where they are below root
}

func (c *copier) dir(from, to *Entry, at string) error {
	names, err := from.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.entry(from, to, name, path.Join(at, name)); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) entry(from, to *Entry, name, at string) error {
	e, err := OpenEntry(from.FD, name)
	if err != nil {
		return err
	}
	defer e.Close()
	wrap := func(err error) error {
		if err == nil {
			return nil
		}
		if _, ok := err.(*os.PathError); ok {
			return err
		}
		return &os.PathError{Op: "copy", Path: at, Err: err}
	}
	id := fileID{e.Stat.Dev, e.Stat.Ino}
	several := e.Stat.Nlink > 1 && e.Type() != unix.S_IFDIR
	if first, ok := c.links[id]; several && ok {
		return wrap(unix.Linkat(c.root, first, to.FD, name, 0))
	}
	a, err := e.Attributes()
	if err != nil {
		return wrap(err)
	}
	switch e.Type() {
	case unix.S_IFDIR:
		err = unix.Mkdirat(to.FD, name, 0o700)
	case unix.S_IFREG:
		err = copyFile(&e, to.FD, name)
	case unix.S_IFLNK:
		var target string
		if target, err = e.Readlink(); err == nil {
			err = unix.Symlinkat(target, to.FD, name)
		}
	default:
		err = unix.Mknodat(to.FD, name, e.Type()|0o600, int(e.Stat.Rdev))
	}
	if err != nil {
		return wrap(err)
	}
	made, err := OpenEntry(to.FD, name)
	if err != nil {
		return wrap(err)
	}
	defer made.Close()
	if e.Type() == unix.S_IFDIR {
		if err := c.dir(&e, &made, at); err != nil {
			return err
		}
	} else if several {
		c.links[id] = at
	}
	return wrap(made.Set(a))
}

func copyFile(e *Entry, dir int, name string) error {
	from, err := e.Open()
	if err != nil {
		return err
	}
	defer from.Close()
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	to := os.NewFile(uintptr(fd), name)
	// copy_file_range(2) where the file systems can.
	_, err = io.Copy(to, from)
	if cerr := to.Close(); err == nil {
		err = cerr
	}
	return err
}
