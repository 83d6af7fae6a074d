package rootfs

import (
	"errors"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Entry is one file of a root, of any type, held by an O_PATH descriptor:
// whatever happens to its name, this is the file that was looked at.
type Entry struct {
	FD     int
	Stat   unix.Stat_t
	opened bool // FD is not O_PATH: calls need no name
}

// OpenEntry opens name in the directory dir; a link is itself. The caller
// closes the entry.
func OpenEntry(dir int, name string) (Entry, error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return Entry{FD: -1}, &os.PathError{Op: "open", Path: name, Err: err}
	}
	e, err := entryOf(fd)
	if err != nil {
		_ = unix.Close(fd)
	}
	return e, err
}

// EntryOf is the entry of a descriptor that was opened O_PATH and stays the
// caller's.
func EntryOf(fd int) (Entry, error) { return entryOf(fd) }

func entryOf(fd int) (Entry, error) {
	e := Entry{FD: fd}
	if err := unix.Fstat(fd, &e.Stat); err != nil {
		return e, os.NewSyscallError("fstat", err)
	}
	return e, nil
}

// Close closes the descriptor.
func (e *Entry) Close() {
	_ = unix.Close(e.FD)
	e.FD = -1
}

// Type is the S_IFMT part of the mode.
func (e *Entry) Type() uint32 { return e.Stat.Mode & unix.S_IFMT }

// link is the entry's name in /proc: following it leads to this very file,
// and, other than with AT_EMPTY_PATH, for each system call and for links.
func (e *Entry) link() string { return procLink(e.FD) }

func procLink(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// Open opens a regular file or a directory for reading.
func (e *Entry) Open() (*os.File, error) {
	var fd int
	var err error
	switch e.Type() {
	case unix.S_IFDIR:
		fd, err = unix.Openat(e.FD, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	case unix.S_IFREG:
		fd, err = e.openFile()
	default:
		return nil, os.ErrInvalid
	}
	if err != nil {
		return nil, os.NewSyscallError("open", err)
	}
	return os.NewFile(uintptr(fd), ""), nil
}

func (e *Entry) openFile() (int, error) {
	// Files of /proc may block, too.
	return unix.Open(e.link(), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
}

// Rewrite opens a regular file for writing and empties it.
func (e *Entry) Rewrite() (*os.File, error) {
	if e.Type() != unix.S_IFREG {
		return nil, os.ErrInvalid
	}
	fd, err := unix.Open(e.link(), unix.O_WRONLY|unix.O_TRUNC|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open", err)
	}
	return os.NewFile(uintptr(fd), ""), nil
}

// Names lists a directory, sorted by nothing.
func (e *Entry) Names() ([]string, error) {
	f, err := e.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// each calls f for all that a directory holds, opened for the call only. What
// is removed meanwhile is passed over.
func (e *Entry) each(f func(*Entry) error) error {
	names, err := e.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		below, err := OpenEntry(e.FD, name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = f(&below)
		below.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// Readlink gives a link's target.
func (e *Entry) Readlink() (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(e.FD, "", buf)
	if err != nil {
		return "", os.NewSyscallError("readlink", err)
	}
	return string(buf[:n]), nil
}

// xattrLimit is the kernel's for a value and for a list, xattr(7).
const xattrLimit = 64 << 10

// Xattrs gives the extended attributes. A file system without any, or one
// that does not let them be read, has none.
func (e *Entry) Xattrs() (map[string]string, error) {
	list := make([]byte, 1024)
	n, err := e.listxattr(list)
	if err == unix.ERANGE {
		list = make([]byte, xattrLimit)
		n, err = e.listxattr(list)
	}
	if err == unix.ENOTSUP || err == unix.EPERM || err == unix.EACCES || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("listxattr", err)
	}
	all := map[string]string{}
	value := make([]byte, xattrLimit)
	for name := range strings.SplitSeq(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		n, err := e.getxattr(name, value)
		if err == unix.ENODATA || err == unix.ENOTSUP {
			continue // gone meanwhile
		}
		if err != nil {
			return nil, os.NewSyscallError("getxattr "+name, err)
		}
		all[name] = string(value[:n])
	}
	return all, nil
}

func (e *Entry) listxattr(list []byte) (int, error) {
	if e.opened {
		return unix.Flistxattr(e.FD, list)
	}
	return unix.Listxattr(e.link(), list)
}

func (e *Entry) getxattr(name string, value []byte) (int, error) {
	if e.opened {
		return unix.Fgetxattr(e.FD, name, value)
	}
	return unix.Getxattr(e.link(), name, value)
}

func (e *Entry) setxattr(name string, value []byte) error {
	if e.opened {
		return unix.Fsetxattr(e.FD, name, value, 0)
	}
	return unix.Setxattr(e.link(), name, value, 0)
}

func (e *Entry) chmod(mode uint32) error {
	if e.opened {
		return unix.Fchmod(e.FD, mode)
	}
	return unix.Chmod(e.link(), mode)
}

// Attributes are what belongs to a file beside its content.
type Attributes struct {
	Mode     uint32 // permission bits; not of a link
	UID, GID int
	Mtime    unix.Timespec
	Xattrs   map[string]string
}

// Attributes reads the entry's.
func (e *Entry) Attributes() (Attributes, error) {
	x, err := e.Xattrs()
	return Attributes{
		Mode: e.Stat.Mode & 0o7777, UID: int(e.Stat.Uid), GID: int(e.Stat.Gid), Mtime: e.Stat.Mtim, Xattrs: x,
	}, err
}

// Set gives the attributes to the entry. Extended attributes that its file
// system does not know or that this process may not set are left out, and a
// security module's labels always are: the place decides on them.
func (e *Entry) Set(a Attributes) error {
	// The owner first: chown takes set-user-ID bits and capabilities away.
	if err := unix.Fchownat(e.FD, "", a.UID, a.GID, unix.AT_EMPTY_PATH); err != nil {
		return os.NewSyscallError("chown", err)
	}
	if e.Type() != unix.S_IFLNK {
		if err := e.chmod(a.Mode & 0o7777); err != nil {
			return os.NewSyscallError("chmod", err)
		}
	}
	for name, value := range a.Xattrs {
		if name == selinuxLabel || name == "security.ima" || name == "security.evm" {
			continue
		}
		err := e.setxattr(name, []byte(value))
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return os.NewSyscallError("setxattr "+name, err)
		}
	}
	return e.SetTime(a.Mtime)
}

// SetTime sets the time of the last change of the content, and that of the
// last access with it.
func (e *Entry) SetTime(t unix.Timespec) error {
	if err := unix.UtimesNanoAt(e.FD, "", []unix.Timespec{t, t}, unix.AT_EMPTY_PATH); err != nil {
		return os.NewSyscallError("utimensat", err)
	}
	return nil
}

func readLimited(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, unix.EFBIG
	}
	return data, err
}
