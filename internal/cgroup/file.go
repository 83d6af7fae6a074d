package cgroup

import (
	"bytes"
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// kind classifies an error of the cgroup file system.
func kind(err error) cove.Kind {
	if e, ok := errors.AsType[*cove.Error](err); ok {
		return e.Kind
	}
	for _, c := range []struct {
		errno unix.Errno
		kind  cove.Kind
	}{
		{unix.ENOENT, cove.NoFile},
		{unix.EBUSY, cove.InUse},
		{unix.ENOTEMPTY, cove.InUse},
		{unix.EACCES, cove.Denied},
		{unix.EPERM, cove.Denied},
		{unix.EROFS, cove.Denied},
		{unix.EINVAL, cove.Invalid},
		{unix.ERANGE, cove.Invalid},
		{unix.EOPNOTSUPP, cove.Unsupported},
		{unix.ENOSPC, cove.Unavailable},
		{unix.EAGAIN, cove.Unavailable},
	} {
		if errors.Is(err, c.errno) {
			return c.kind
		}
	}
	return cove.Internal
}

// again repeats a call that a signal interrupted.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func open(name string, flags int) (fd int, err error) {
	err = again(func() (err error) {
		fd, err = unix.Open(name, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		return err
	})
	return fd, err
}

// readFile reads a file of the kernel's, at most limit bytes of it.
func readFile(name string, limit int) ([]byte, error) {
	fd, err := open(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return readAll(fd, limit)
}

func readAll(fd, limit int) ([]byte, error) {
	buf := make([]byte, 0, min(limit, 4096))
	for len(buf) < limit {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(limit, 4*cap(buf)))
			copy(grown, buf)
			buf = grown
		}
		var n int
		if err := again(func() (err error) { n, err = unix.Read(fd, buf[len(buf):cap(buf)]); return err }); err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		buf = buf[:len(buf)+n]
	}
	return buf, nil
}

// writeFile gives the kernel one value.
func writeFile(name, value string) error {
	fd, err := open(name, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return write(fd, value)
}

// write hands over value in one call, as the cgroup file system wants it.
func write(fd int, value string) error {
	var n int
	err := again(func() (err error) { n, err = unix.Write(fd, []byte(value)); return err })
	if err == nil && n != len(value) {
		return io.ErrShortWrite
	}
	return err
}

func openat(dir int, name string, flags int) (fd int, err error) {
	err = again(func() (err error) {
		fd, err = unix.Openat(dir, name, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		return err
	})
	return fd, err
}

// lines splits a stream into lines without reading further than asked.
type lines struct {
	r   io.Reader
	buf []byte
	at  int
	eof bool
	err error
}

// longest is more than any line of mountinfo takes.
const longest = 1 << 20

func (l *lines) next() ([]byte, bool) {
	for {
		if i := bytes.IndexByte(l.buf[l.at:], '\n'); i >= 0 {
			line := l.buf[l.at : l.at+i]
			l.at += i + 1
			return line, true
		}
		if l.eof || len(l.buf)-l.at > longest {
			return nil, false
		}
		rest := copy(l.buf, l.buf[l.at:])
		l.buf, l.at = l.buf[:rest], 0
		if cap(l.buf)-rest < 4096 {
			grown := make([]byte, rest, 2*cap(l.buf)+8192)
			copy(grown, l.buf)
			l.buf = grown
		}
		n, err := l.r.Read(l.buf[rest:cap(l.buf)])
		l.buf = l.buf[:rest+n]
		if err != nil {
			l.eof = true
			if err != io.EOF {
				l.err = err
			}
		}
	}
}
