// Package turnstile is how the back ends that keep one file take turns at it.
//
// The file is locked for each transaction with a blocking flock that has a
// deadline, so a long-lived server and short commands share it and a killed
// process leaves nothing locked. Beside the flock a turnstile keeps readers
// that arrive in a stream from shutting a writer out for ever.
//
// A file is made complete under no name and then linked, so it is never seen
// half-made; an empty, truncated or foreign file is therefore damage and is
// refused untouched.
package turnstile

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
	"github.com/cove-engine/cove/internal/syncdir"
)

// ErrNone says that the file has not been made yet.
var ErrNone = fmt.Errorf("state has not been created: %w", fs.ErrNotExist)

// DefaultTimeout is how long a transaction waits for others by default.
const DefaultTimeout = time.Minute

// File is a store's file.
type File struct {
	Path    string
	Timeout time.Duration // for the lock; 0 is DefaultTimeout
}

// gateByte is the byte, far beyond any data, whose record lock each
// transaction passes through before it waits for the flock: a waiting writer
// stands in it, so readers that come later queue behind the writer.
const gateByte = math.MaxInt64 - 1

// Lock opens the file and takes its flock, shared or exclusive, before the
// deadline. The file that is locked is the one that has the name. ErrNone when
// none has.
func (f File) Lock(write bool) (*os.File, error) {
	deadline := time.Now().Add(f.timeout())
	for {
		fd, err := open(f.Path, write)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, ErrNone
		}
		if err != nil {
			return nil, f.fault("open state", err)
		}
		if err := f.flock(fd, write, deadline); err != nil {
			return nil, err
		}
		var mine, named unix.Stat_t
		if err := unix.Fstat(fd, &mine); err != nil {
			unix.Close(fd)
			return nil, f.fault("open state", err)
		}
		// Somebody may have put another file in its place meanwhile.
		err = unix.Fstatat(unix.AT_FDCWD, f.Path, &named, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil || mine.Ino != named.Ino || mine.Dev != named.Dev {
			unix.Close(fd)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, f.fault("open state", err)
			}
			if time.Now().After(deadline) {
				return nil, f.late()
			}
			continue
		}
		if mine.Mode&unix.S_IFMT != unix.S_IFREG {
			unix.Close(fd)
			return nil, Damaged(f.Path, errors.New("it is not a regular file"))
		}
		return os.NewFile(uintptr(fd), f.Path), nil
	}
}

// open opens for reading and writing, views too: the turnstile needs it. On a
// read-only file system a view does without.
func open(path string, write bool) (fd int, err error) {
	const flags = unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NOCTTY
	for _, mode := range []int{unix.O_RDWR, unix.O_RDONLY} {
		for {
			if fd, err = unix.Open(path, mode|flags, 0); err != unix.EINTR {
				break
			}
		}
		if err != unix.EROFS || write {
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
func (f File) flock(fd int, write bool, deadline time.Time) error {
	how := unix.LOCK_SH
	if write {
		how = unix.LOCK_EX
	}
	gate := unix.Flock_t{Type: unix.F_WRLCK, Whence: unix.SEEK_SET, Start: gateByte, Len: 1}
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
			return f.fault("lock state", err)
		}
		return nil
	case <-late.C:
		close(gone)
		return f.late()
	}
}

func openGate(fd int) {
	gate := unix.Flock_t{Type: unix.F_UNLCK, Whence: unix.SEEK_SET, Start: gateByte, Len: 1}
	_ = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &gate) // fails only where it was not held
}

func (f File) late() error {
	return cove.E("lock state", f.Path, cove.Unavailable, fmt.Errorf("other processes held it for %s", f.timeout()))
}

func (f File) timeout() time.Duration {
	if f.Timeout <= 0 {
		return DefaultTimeout
	}
	return f.Timeout
}

func (f File) fault(op string, err error) error { return Fault(op, f.Path, err) }

func eintr(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// Creatable tells whether the file could be made: where it could not,
// "nothing" would be a wrong answer to what there is.
func (f File) Creatable() error {
	dir := filepath.Dir(f.Path)
	for {
		err := unix.Access(dir, unix.W_OK|unix.X_OK)
		if err == nil {
			return nil
		}
		if err != unix.ENOENT || dir == "/" {
			return f.fault("open state", &fs.PathError{Op: "write to", Path: dir, Err: err})
		}
		dir = filepath.Dir(dir)
	}
}

// Remove takes the file's name away for good.
func (f File) Remove() error {
	err := os.Remove(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncdir.Sync(filepath.Dir(f.Path))
	}
	if err != nil {
		return f.fault("remove state", err)
	}
	return nil
}

// Unnamed gives a new file (0600) in the folder (0700, made when it is missing)
// that has no name, or where the file system cannot do that a temporary one. publish(true) links it to path, fs.ErrExist
// when that exists, and syncs the directory; it must be called once before
// the file is closed. publish(false) drops a temporary name.
func (f File) Unnamed() (*os.File, func(bool) error, error) {
	dir, path := filepath.Dir(f.Path), f.Path
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
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
				return syncdir.Sync(dir)
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
			err = syncdir.Sync(dir)
		}
		return err
	}, nil
}

// Fault gives a system error its kind.
func Fault(op, path string, err error) error {
	kind := cove.Internal
	switch {
	case errors.Is(err, fs.ErrPermission):
		kind = cove.Denied
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		kind = cove.Unavailable
	}
	return cove.E(op, path, kind, err)
}

// Damaged is the error for a file that is not a whole store.
func Damaged(path string, cause error) error {
	return cove.E("open state", path, cove.Internal, fmt.Errorf(
		"the file is damaged and has been left as it is (%w): put a copy back, or move it away (mv %s %s.damaged) to begin with an empty store",
		cause, path, path))
}
