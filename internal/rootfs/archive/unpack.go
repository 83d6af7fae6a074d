package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/rootfs"
)

// ErrRefused is in the chain of errors that are the stream's fault: it is no
// tar stream, or holds an entry that may not be unpacked.
var ErrRefused = errors.New("refused")

// noArchive is an [ErrRefused] of what is no tar stream from its beginning.
type noArchive struct{}

func (noArchive) Error() string        { return "source must be a (compressed) tar archive" }
func (noArchive) Is(target error) bool { return target == ErrRefused }

// Options say how a stream is unpacked.
type Options struct {
	// Owner, when not nil, is given to everything: user, group. Otherwise
	// the stream's owners stay.
	Owner *[2]int
	// Overwrite lets a directory replace a file and the reverse.
	Overwrite bool
	// WholeRoot says that the directory is the container's root, where
	// absolute links lead to places inside.
	WholeRoot bool
}

// Unpack writes what the tar stream r holds into the directory dir, an O_PATH
// descriptor. The stream may be compressed by gzip or bzip2. No entry's name,
// link target or link on the way leads out of dir: those that would end it,
// with what came before already there.
func Unpack(ctx context.Context, dir int, r io.Reader, o Options) error {
	plain, err := decompress(r)
	if err != nil {
		return err
	}
	u := unpacker{Options: o, dir: dir, parent: -1, buf: make([]byte, 128<<10)}
	defer u.forgetParent()
	tr := tar.NewReader(plain)
	begun := false
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return u.setTimes()
		}
		if !begun && (errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF)) {
			return noArchive{}
		}
		if err != nil {
			return refuse("read archive", err)
		}
		begun = true
		if err := u.entry(h, cancelled{ctx, tr}); err != nil {
			return fmt.Errorf("unpack %q: %w", h.Name, err)
		}
	}
}

func refuse(what string, err error) error { return fmt.Errorf("%s: %w (%w)", what, err, ErrRefused) }

func decompress(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	magic, _ := b.Peek(3)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, noArchive{}
		}
		return z, nil
	case bytes.HasPrefix(magic, []byte("BZh")):
		return bzip2.NewReader(b), nil
	}
	return b, nil
}

type unpacker struct {
	Options
	dir int
	// The directory of the entry before: the next one mostly is there too.
	parent     int
	parentName string
	dirs       []dirTime
	buf        []byte
}

type dirTime struct {
	name string
	time unix.Timespec
}

// clean gives a name relative to the directory unpacked in. An absolute one
// is taken from there, as tar(1) does; one with ".." that leads above is
// refused.
func clean(name string) (string, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("its name holds a zero byte (%w)", ErrRefused)
	}
	depth := 0
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return "", fmt.Errorf("it leads out of the directory (%w)", ErrRefused)
			}
		default:
			depth++
		}
	}
	return path.Clean("/" + name)[1:], nil
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	default:
		return fmt.Errorf("unknown type of entry %q (%w)", h.Typeflag, ErrRefused)
	}
	if name == "" {
		if h.Typeflag != tar.TypeDir {
			return fmt.Errorf("it would replace the directory itself (%w)", ErrRefused)
		}
		return nil
	}
	parent, err := u.openParent(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if h.Typeflag == tar.TypeDir {
		return u.directory(parent, base, name, h)
	}
	exists, mounted, err := u.makeRoom(parent, base)
	if err != nil {
		return err
	}
	if mounted && h.Typeflag != tar.TypeReg {
		return unix.EBUSY
	}
	as := base
	if exists {
		// The old file stays whole until the new one is.
		as = ".cove-" + rand.Text()
	}
	if err := u.make(parent, as, h, content); err != nil {
		if removal := unix.Unlinkat(parent, as, 0); !errors.Is(err, removal) {
			err = errors.Join(err, ignoreGone(removal))
		}
		return err
	}
	if !exists {
		return nil
	}
	if mounted {
		// Like /etc/hosts: it is filled where it is.
		return errors.Join(overwrite(parent, as, base), unix.Unlinkat(parent, as, 0))
	}
	// rename(2) of two names of one file does nothing, hence the unlink.
	return errors.Join(os.NewSyscallError("rename", unix.Renameat(parent, as, parent, base)), ignoreGone(unix.Unlinkat(parent, as, 0)))
}

func ignoreGone(err error) error {
	if err == unix.ENOENT {
		return nil
	}
	return err
}

func isGone(err error) bool { return errors.Is(err, unix.ENOENT) }

// makeRoom looks at what has the name of a new file, and removes it if it is
// a directory and may be replaced. It tells whether a file is there, and
// whether that is mounted there.
func (u *unpacker) makeRoom(parent int, base string) (exists, mounted bool, err error) {
	var st unix.Stat_t
	switch err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == unix.ENOENT:
		return false, false, nil
	case err != nil:
		return false, false, os.NewSyscallError("stat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		mounted, err := rootfs.MountedOn(parent, base)
		return true, mounted, err
	}
	if !u.Overwrite {
		return false, false, fmt.Errorf("cannot replace a directory by a file without --overwrite (%w)", ErrRefused)
	}
	return false, false, rootfs.RemoveAll(parent, base)
}

// openParent opens the directory name below the one unpacked in, and makes
// what is missing of it. The descriptor stays the unpacker's.
func (u *unpacker) openParent(name string) (int, error) {
	if name == "." {
		return u.dir, nil
	}
	if u.parent >= 0 && u.parentName == name {
		return u.parent, nil
	}
	u.forgetParent()
	fd, err := u.open(name, unix.O_PATH|unix.O_DIRECTORY)
	if err == unix.ENOENT {
		if fd, err = u.makeParents(name); err != nil {
			return -1, err
		}
	}
	if err == unix.EXDEV {
		return -1, fmt.Errorf("a link on its way leads out of the directory (%w)", ErrRefused)
	}
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: name, Err: err}
	}
	u.parent, u.parentName = fd, name
	return fd, nil
}

func (u *unpacker) open(name string, flags uint64) (int, error) {
	if u.WholeRoot {
		return rootfs.OpenIn(u.dir, name, flags)
	}
	return rootfs.OpenBeneath(u.dir, name, flags)
}

// makeParents makes the missing directories one by one, each held by its
// descriptor, so a link that somebody puts there meanwhile ends it.
func (u *unpacker) makeParents(name string) (int, error) {
	at, have := u.dir, ""
	parts := strings.Split(name, "/")
	for i, part := range parts {
		next, err := u.open(path.Join(have, part), unix.O_PATH|unix.O_DIRECTORY)
		if err == unix.ENOENT {
			if err = unix.Mkdirat(at, part, 0o755); err == nil {
				next, err = unix.Openat(at, part, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			}
			if err == nil && u.Owner != nil {
				err = unix.Fchownat(next, "", u.Owner[0], u.Owner[1], unix.AT_EMPTY_PATH)
			}
		}
		if at != u.dir {
			_ = unix.Close(at)
		}
		if err != nil {
			if err == unix.EXDEV {
				return -1, fmt.Errorf("a link on its way leads out of the directory (%w)", ErrRefused)
			}
			return -1, &os.PathError{Op: "make directory", Path: path.Join(parts[:i+1]...), Err: err}
		}
		at, have = next, path.Join(have, part)
	}
	return at, nil
}

func (u *unpacker) forgetParent() {
	if u.parent >= 0 {
		_ = unix.Close(u.parent)
		u.parent = -1
	}
}

func (u *unpacker) attributes(h *tar.Header) rootfs.Attributes {
	a := rootfs.Attributes{Mode: uint32(h.Mode & 0o7777), UID: h.Uid, GID: h.Gid}
	if u.Owner != nil {
		a.UID, a.GID = u.Owner[0], u.Owner[1]
	}
	a.Mtime = timespec(h)
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, xattrKey); ok && carried(name) {
			if a.Xattrs == nil {
				a.Xattrs = map[string]string{}
			}
			a.Xattrs[name] = value
		}
	}
	return a
}

func timespec(h *tar.Header) unix.Timespec {
	if t, err := unix.TimeToTimespec(h.ModTime); err == nil {
		return t
	}
	return unix.Timespec{}
}

// directory makes a directory, or takes the one that is there.
func (u *unpacker) directory(parent int, base, name string, h *tar.Header) error {
	err := unix.Mkdirat(parent, base, 0o700)
	if err == unix.EEXIST {
		var st unix.Stat_t
		if err = unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if !u.Overwrite {
				return fmt.Errorf("cannot replace a file by a directory without --overwrite (%w)", ErrRefused)
			}
			if err = rootfs.RemoveAll(parent, base); err == nil {
				err = unix.Mkdirat(parent, base, 0o700)
			}
		}
	}
	if err != nil {
		return os.NewSyscallError("mkdir", err)
	}
	e, err := rootfs.OpenEntry(parent, base)
	if err != nil {
		return err
	}
	defer e.Close()
	if e.Type() != unix.S_IFDIR {
		return unix.ENOTDIR // exchanged just now
	}
	u.dirs = append(u.dirs, dirTime{name, timespec(h)})
	return e.Set(u.attributes(h))
}

// make makes any other file under a name that is free.
func (u *unpacker) make(parent int, name string, h *tar.Header, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeLink:
		return u.link(parent, name, h.Linkname)
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, parent, name); err != nil {
			return os.NewSyscallError("symlink", err)
		}
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		mode := uint32(unix.S_IFIFO)
		if h.Typeflag == tar.TypeChar {
			mode = unix.S_IFCHR
		} else if h.Typeflag == tar.TypeBlock {
			mode = unix.S_IFBLK
		}
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return fmt.Errorf("device %d:%d cannot be (%w)", h.Devmajor, h.Devminor, ErrRefused)
		}
		if h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0 {
			// To overlay this would say that a file was deleted.
			return fmt.Errorf("device 0:0 cannot be (%w)", ErrRefused)
		}
		if err := unix.Mknodat(parent, name, mode|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))); err != nil {
			return os.NewSyscallError("mknod", err)
		}
	default:
		return u.file(parent, name, h, content)
	}
	e, err := rootfs.OpenEntry(parent, name)
	if err != nil {
		return err
	}
	defer e.Close()
	return e.Set(u.attributes(h))
}

func (u *unpacker) file(parent int, name string, h *tar.Header, content io.Reader) error {
	fd, err := unix.Openat(parent, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if _, err := io.CopyBuffer(holes{f}, content, u.buf); err != nil {
		return err
	}
	// A hole at the end is made by the length.
	if err := f.Truncate(h.Size); err != nil {
		return err
	}
	e, err := rootfs.EntryOf(fd)
	if err != nil {
		return err
	}
	if err := e.Set(u.attributes(h)); err != nil {
		return err
	}
	return f.Close()
}

// holes writes a file and leaves out long runs of zeros: a short stream can
// describe a sparse file bigger than any disk.
type holes struct{ f *os.File }

func (w holes) Write(b []byte) (int, error) {
	if len(b) < 4096 || len(bytes.Trim(b, "\x00")) > 0 {
		return w.f.Write(b)
	}
	_, err := w.f.Seek(int64(len(b)), io.SeekCurrent)
	return len(b), err
}

// link gives a file of the stream one more name.
func (u *unpacker) link(parent int, name, target string) error {
	target, err := clean(target)
	if err != nil {
		return err
	}
	if target == "" {
		return fmt.Errorf("its target is the directory itself (%w)", ErrRefused)
	}
	dir, err := u.open(path.Dir(target), unix.O_PATH|unix.O_DIRECTORY)
	if err == unix.EXDEV {
		return fmt.Errorf("a link on its target's way leads out of the directory (%w)", ErrRefused)
	}
	if err != nil {
		return &os.PathError{Op: "link", Path: target, Err: err}
	}
	defer unix.Close(dir)
	if err := unix.Linkat(dir, path.Base(target), parent, name, 0); err != nil {
		return &os.PathError{Op: "link", Path: target, Err: err}
	}
	return nil
}

// overwrite copies the file from into the file to, both in dir.
func overwrite(dir int, from, to string) error {
	src, err := rootfs.OpenEntry(dir, from)
	if err != nil {
		return err
	}
	defer src.Close()
	r, err := src.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	dst, err := rootfs.OpenEntry(dir, to)
	if err != nil {
		return err
	}
	defer dst.Close()
	w, err := dst.Rewrite()
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}

// setTimes gives the directories their times once nothing is put into them
// any more. One that has gone meanwhile needs none.
func (u *unpacker) setTimes() error {
	for i := len(u.dirs) - 1; i >= 0; i-- {
		fd, err := u.open(u.dirs[i].name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if err != nil {
			continue
		}
		e := rootfs.Entry{FD: fd}
		err = e.SetTime(u.dirs[i].time)
		e.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
