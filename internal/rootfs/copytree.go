package rootfs

import (
	"errors"
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
	c := copier{root: to.FD, links: map[fileID]string{}, buf: make([]byte, 64<<10)}
	return c.dir(&from, &to, ".")
}

type fileID struct{ dev, ino uint64 }

func (e *Entry) id() fileID { return fileID{e.Stat.Dev, e.Stat.Ino} }

type copier struct {
	root  int
	links map[fileID]string // files with several names: where they are below root
	depth int
	buf   []byte
}

// heldDepth is how many directories of a path are kept open, of either tree. A
// tree may be deeper than a process may have descriptors.
const heldDepth = 100

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
	several := e.Stat.Nlink > 1 && e.Type() != unix.S_IFDIR
	if first, ok := c.links[e.id()]; several && ok {
		return wrap(unix.Linkat(c.root, first, to.FD, name, 0))
	}
	if e.Type() == unix.S_IFREG {
		err = c.file(&e, to, name)
	} else {
		err = c.special(&e, from, to, name, at)
	}
	if err == nil && several {
		c.links[e.id()] = at
	}
	return wrap(err)
}

// special copies what is no regular file.
func (c *copier) special(e, from, to *Entry, name, at string) error {
	a, err := e.Attributes()
	if err != nil {
		return err
	}
	switch e.Type() {
	case unix.S_IFDIR:
		err = unix.Mkdirat(to.FD, name, 0o700)
	case unix.S_IFLNK:
		var target string
		if target, err = e.Readlink(); err == nil {
			err = unix.Symlinkat(target, to.FD, name)
		}
	default:
		err = unix.Mknodat(to.FD, name, e.Type()|0o600, int(e.Stat.Rdev))
	}
	if err != nil {
		return err
	}
	made, err := OpenEntry(to.FD, name)
	if err != nil {
		return err
	}
	defer made.Close()
	if e.Type() == unix.S_IFDIR {
		if err := c.below(e, &made, from, to, at); err != nil {
			return err
		}
	}
	return made.Set(a)
}

// below copies the directory e, which is in from, to made, which is in to. Far
// down it does so with from and to closed.
func (c *copier) below(e, made, from, to *Entry, at string) error {
	if c.depth++; c.depth > heldDepth {
		from.Close()
		to.Close()
	}
	if err := c.dir(e, made, at); err != nil {
		return err
	}
	if c.depth--; c.depth >= heldDepth {
		return errors.Join(from.reopenAbove(e), to.reopenAbove(made))
	}
	return nil
}

// reopenAbove opens the directory again that was closed while below was
// copied, unless somebody has put below elsewhere meanwhile.
func (e *Entry) reopenAbove(below *Entry) error {
	above, err := OpenEntry(below.FD, "..")
	if err == nil && above.id() != e.id() {
		above.Close()
		err = os.NewSyscallError("open the directory above", unix.ESTALE)
	}
	if err == nil {
		*e = above
	}
	return err
}

// file copies a regular file, with its attributes, by descriptors alone once
// both are open.
func (c *copier) file(e, to *Entry, name string) error {
	in, err := e.openFile()
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	from := Entry{FD: in, Stat: e.Stat, opened: true}
	defer from.Close()
	a, err := from.Attributes()
	if err != nil {
		return err
	}
	out, err := unix.Openat(to.FD, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	made := Entry{FD: out, Stat: unix.Stat_t{Mode: unix.S_IFREG}, opened: true}
	if err := c.content(out, in, e.Stat.Size); err != nil {
		made.Close()
		return err
	}
	err = made.Set(a)
	// Some file systems tell what a write has come to when it is closed.
	if cerr := unix.Close(out); err == nil {
		err = cerr
	}
	return err
}

// content copies what in holds behind its position; size is what it is said to
// hold.
func (c *copier) content(out, in int, size int64) error {
	for size > int64(len(c.buf)) { // where the file systems can, without reading
		n, err := unix.CopyFileRange(in, nil, out, nil, 1<<30, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			break // whether that is the end, and what is wrong, the calls below say
		}
	}
	for {
		n, err := unix.Read(in, c.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("read", err)
		}
		if n == 0 {
			return nil
		}
		for data := c.buf[:n]; len(data) > 0; {
			n, err := unix.Write(out, data)
			if err != nil && err != unix.EINTR {
				return os.NewSyscallError("write", err)
			}
			data = data[max(n, 0):]
		}
	}
}
