package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

const (
	errNoSpace = unix.ENOSPC
	errQuota   = unix.EDQUOT
	errTooBig  = unix.EFBIG
)

// errNoStore says that the file has not been made yet.
var errNoStore = fmt.Errorf("state has not been created: %w", fs.ErrNotExist)

// turnstile is the byte, far beyond any data, whose record lock each
// transaction passes through before it waits for the flock: a waiting writer
// stands in it, so readers that come later queue behind the writer.
const turnstile = math.MaxInt64 - 1

// lock opens the file and takes its flock, shared or exclusive, before the
// deadline. The file that is locked is the one that has the name.
func (s *Store) lock(write bool) (*os.File, error) {
	deadline := time.Now().Add(s.timeout)
	for {
		fd, err := open(s.path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errNoStore
		}
		if err != nil {
			return nil, s.fault("open state", err)
		}
		if err := s.flock(fd, write, deadline); err != nil {
			return nil, err
		}
		var mine, named unix.Stat_t
		if err := unix.Fstat(fd, &mine); err != nil {
			unix.Close(fd)
			return nil, s.fault("open state", err)
		}
		// Somebody may have put another file in its place meanwhile.
		err = unix.Fstatat(unix.AT_FDCWD, s.path, &named, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil || mine.Ino != named.Ino || mine.Dev != named.Dev {
			unix.Close(fd)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, s.fault("open state", err)
			}
			if time.Now().After(deadline) {
				return nil, s.late()
			}
			continue
		}
		if mine.Mode&unix.S_IFMT != unix.S_IFREG {
			unix.Close(fd)
			return nil, damaged(s.path, errors.New("it is not a regular file"))
		}
		return os.NewFile(uintptr(fd), s.path), nil
	}
}

// open opens for reading and writing, views too: the turnstile needs it. On a
// read-only file system a view does without.
func open(path string) (fd int, err error) {
	const flags = unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NOCTTY
	for _, mode := range []int{unix.O_RDWR, unix.O_RDONLY} {
		for {
			if fd, err = unix.Open(path, mode|flags, 0); err != unix.EINTR {
				break
			}
		}
		if err != unix.EROFS {
			break
		}
	}
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// flock takes the lock or closes fd. Nobody in the way is the usual case and
// costs no goroutine. A waiter that gave up cannot be called back from the
// kernel without a signal, so its goroutine stays, closes fd when its turn
// comes and thereby passes the turn on.
func (s *Store) flock(fd int, write bool, deadline time.Time) error {
	how := unix.LOCK_SH
	if write {
		how = unix.LOCK_EX
	}
	gate := unix.Flock_t{Type: unix.F_WRLCK, Whence: unix.SEEK_SET, Start: turnstile, Len: 1}
	if eintr(func() error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &gate) }) == nil {
		err := eintr(func() error { return unix.Flock(fd, how|unix.LOCK_NB) })
		if err == nil {
			openGate(fd)
			return nil
		}
	}
	done := make(chan error) // unbuffered: the waiter learns whether anybody still listens
	gone := make(chan struct{})
	go func() {
		err := eintr(func() error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLKW, &gate) })
		if err == unix.EBADF || err == unix.EINVAL || err == unix.ENOLCK {
			err = nil // a read-only descriptor or a file system without: do without
		}
		if err == nil {
			err = eintr(func() error { return unix.Flock(fd, how) })
		}
		openGate(fd)
		if err != nil {
			unix.Close(fd)
		}
		select {
		case done <- err:
		case <-gone:
			if err == nil {
				unix.Close(fd)
			}
		}
	}()
	late := time.NewTimer(time.Until(deadline))
	defer late.Stop()
	select {
	case err := <-done:
		if err != nil {
			return s.fault("lock state", err)
		}
		return nil
	case <-late.C:
		close(gone)
		return s.late()
	}
}

func openGate(fd int) {
	gate := unix.Flock_t{Type: unix.F_UNLCK, Whence: unix.SEEK_SET, Start: turnstile, Len: 1}
	_ = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &gate) // fails only where it was not held
}

func (s *Store) late() error {
	return cove.E("lock state", s.path, cove.Unavailable, fmt.Errorf("other processes held it for %s", s.timeout))
}

func eintr(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// unnamed gives a new file in dir that has no name, or where the file system
// cannot do that a temporary one. publish(true) links it to path, fs.ErrExist
// when that exists, and syncs the directory; it must be called once before
// the file is closed. publish(false) drops a temporary name.
func unnamed(dir, path string) (*os.File, func(bool) error, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		// The process may lose its descriptors' numbers but not /proc's
		// view of them: link through it, as AT_EMPTY_PATH needs a
		// capability.
		proc := "/proc/self/fd/" + strconv.Itoa(fd)
		if _, err := os.Stat(proc); err == nil {
			return os.NewFile(uintptr(fd), path), func(keep bool) error {
				if !keep {
					return nil
				}
				err := unix.Linkat(unix.AT_FDCWD, proc, unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
				if err != nil {
					return &fs.PathError{Op: "link", Path: path, Err: err}
				}
				return syncDir(dir)
			}, nil
		}
		unix.Close(fd)
	}
	file, err := os.CreateTemp(dir, "."+filepath.Base(path)+".new-") // 0600
	if err != nil {
		return nil, nil, err
	}
	return file, func(keep bool) error {
		var err error
		if keep {
			err = os.Link(file.Name(), path)
		}
		err = errors.Join(err, os.Remove(file.Name()))
		if err == nil && keep {
			err = syncDir(dir)
		}
		return err
	}, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
