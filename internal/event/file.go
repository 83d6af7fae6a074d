package event

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// File is the Writer to a log file.
type File struct {
	// Path is containers.conf's events_logfile_path.
	Path string
	// MaxSize is events_logfile_max_size in bytes, for the file and its
	// predecessor together; 0 is no limit.
	MaxSize int64
}

// Write appends e with one write. The file and its directory are made on
// first use (0600, 0700).
func (f File) Write(e cove.Event) error {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	raw, err := encode(e)
	if err != nil {
		return cove.E("write event", f.Path, cove.Internal, err)
	}
	for {
		again, err := f.append(raw)
		if err != nil {
			return cove.E("write event", f.Path, kind(err), err)
		}
		if !again {
			return nil
		}
	}
}

// append writes raw while it holds the file's lock shared, which keeps the
// file from being rotated; again asks to open the file anew.
func (f File) append(raw []byte) (again bool, err error) {
	fd, err := f.open()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	// An unlock of its own: a process being forked may share the file.
	defer func() { _ = unix.Flock(fd, unix.LOCK_UN) }()
	// Without the lock all that may happen is that the event is in the file's
	// predecessor, where one who follows the log misses it.
	if err := flock(fd, unix.LOCK_SH); err != nil && err != unix.EWOULDBLOCK {
		return false, err
	}
	size, present, err := f.look(fd)
	if err != nil || !present {
		return true, err
	}
	if f.MaxSize > 0 && size > 0 && size+int64(len(raw)) > f.MaxSize/2 {
		// While somebody does not get done with his event the file grows.
		if err := f.rotate(fd, size); err != unix.EWOULDBLOCK {
			return true, err
		}
	}
	for {
		n, err := unix.Write(fd, raw)
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && n < len(raw):
			// Half a line: end it, so that only this event is lost.
			_, _ = unix.Write(fd, []byte{'\n'})
			return false, unix.ENOSPC
		}
		return false, err
	}
}

func (f File) open() (int, error) {
	const flags = unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NOCTTY | unix.O_NONBLOCK
	for {
		fd, err := unix.Open(f.Path, flags, 0o600)
		switch err {
		case nil:
			return fd, nil
		case unix.EINTR:
		case unix.ENOENT:
			if err := os.MkdirAll(filepath.Dir(f.Path), 0o700); err != nil {
				return -1, err
			}
		default:
			return -1, err
		}
	}
}

// look gives the file's size and whether it still is the one at Path.
func (f File) look(fd int) (size int64, present bool, err error) {
	var mine, named unix.Stat_t
	if err := unix.Fstat(fd, &mine); err != nil {
		return 0, false, err
	}
	if mine.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0, false, errors.New("it is not a regular file")
	}
	err = unix.Fstatat(unix.AT_FDCWD, f.Path, &named, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return 0, false, nil
	}
	return mine.Size, err == nil && mine.Ino == named.Ino && mine.Dev == named.Dev, err
}

// rotate makes the full file the predecessor, once nobody writes to it any
// more; whoever comes later finds another file at Path.
func (f File) rotate(fd int, size int64) error {
	// flock's conversion may let another one in between: look again.
	if err := flock(fd, unix.LOCK_EX); err != nil {
		return err
	}
	now, present, err := f.look(fd)
	if err != nil || !present || now < size {
		return err
	}
	return os.Rename(f.Path, f.Path+".1")
}

// patience is how long the lock is waited for: it is held for microseconds, or
// by a process that was stopped with it. Tests change it.
var patience = 100 * time.Millisecond

// flock is flock(2), EWOULDBLOCK after patience.
func flock(fd, how int) error {
	for began := time.Now(); ; {
		err := unix.Flock(fd, how|unix.LOCK_NB)
		if err != unix.EINTR && (err != unix.EWOULDBLOCK || time.Since(began) > patience) {
			return err
		}
		if err == unix.EWOULDBLOCK {
			time.Sleep(100 * time.Microsecond)
		}
	}
}

func kind(err error) cove.Kind {
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.ELOOP):
		return cove.Denied
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EMFILE):
		return cove.Unavailable
	}
	return cove.Internal
}
