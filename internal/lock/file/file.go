// Package file keeps one lock file per object and locks it with flock(2).
//
// The files lie in one directory and are called after kind and ID. Whoever
// gets a lock makes sure that the file it locked is still the one at that
// path: forgetting an object unlinks its file.
package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/lock/queue"
	"github.com/cove-engine/cove/internal/ownplace"
)

// Manager is a lock.Manager on files.
type Manager struct {
	*queue.Manager
	dir string
}

// New gives a manager whose locks are files in dir. The files are made on
// demand (0600), the directory is not.
func New(dir string) *Manager { return &Manager{queue.New(kernel(dir)), dir} }

func path(dir string, k lock.Kind, id string) string {
	return filepath.Join(dir, k.String()+"-"+id)
}

// Forget removes the object's lock file.
func (m *Manager) Forget(k lock.Kind, id string) error {
	path := path(m.dir, k, id)
	err := unix.Unlink(path)
	if err == unix.EISDIR { // somebody else's work
		err = unix.Rmdir(path)
	}
	if err != nil && err != unix.ENOENT {
		return kernel(m.dir).fault(k, id, err)
	}
	return nil
}

// Known lists the lock files.
func (m *Manager) Known() ([]lock.Object, error) {
	all, err := lock.Files(m.dir)
	if err != nil {
		return nil, cove.E("list locks", m.dir, cove.Internal, err)
	}
	return all, nil
}

// Renumber removes what another kind of manager has left: files are not
// numbered. They are there by then, so that nobody takes the directory for a new
// one.
func (m *Manager) Renumber(objects []lock.Object) (err error) {
	entries, err := os.ReadDir(m.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, o := range objects {
		f, oerr := os.OpenFile(path(m.dir, o.Kind, o.ID), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err = errors.Join(err, oerr); oerr == nil {
			_ = f.Close()
		}
	}
	for _, e := range entries {
		if name, _, _ := strings.Cut(e.Name(), "-"); err == nil && lock.KindOf(name) == 0 {
			err = os.Remove(filepath.Join(m.dir, e.Name()))
		}
	}
	if err != nil {
		return cove.E("renumber locks", m.dir, cove.Internal, err)
	}
	return nil
}

// kernel is the directory, as a queue.Kernel.
type kernel string

// Try takes the flock of the object's file without waiting for others.
func (d kernel) Try(k lock.Kind, id string, make bool) (int, error) {
	path := path(string(d), k, id)
	for {
		fd, err := take(path, unix.LOCK_EX|unix.LOCK_NB, make)
		switch err {
		case nil:
			return d.counts(fd, k, id)
		case queue.ErrStale:
		case unix.EWOULDBLOCK:
			return -1, queue.ErrBusy
		default:
			return -1, d.fault(k, id, err)
		}
	}
}

// Wait waits for it.
func (d kernel) Wait(k lock.Kind, id string) (int, error) {
	fd, err := take(path(string(d), k, id), unix.LOCK_EX, true)
	if err == nil {
		return d.counts(fd, k, id)
	}
	if err != queue.ErrStale {
		err = d.fault(k, id, err)
	}
	return fd, err
}

// counts gives back a lock that was taken beside a table.
func (d kernel) counts(fd int, k lock.Kind, id string) (int, error) {
	if !lock.Tabled(string(d)) {
		return fd, nil
	}
	_ = unix.Unlink(path(string(d), k, id))
	_ = d.Release(fd)
	return -1, cove.E("lock "+k.String(), id, cove.Unavailable, lock.ErrOther)
}

// Release unlocks before it closes: a process being forked may share the open
// file for a moment.
func (d kernel) Release(fd int) error {
	return errors.Join(unix.Flock(fd, unix.LOCK_UN), unix.Close(fd))
}

func take(path string, how int, make bool) (fd int, err error) {
	const flags = unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NOCTTY | unix.O_NONBLOCK
	create := 0
	if make {
		create = unix.O_CREAT
	}
	err = eintr(func() error {
		fd, err = unix.Open(path, unix.O_RDWR|create|flags, 0o600)
		return err
	})
	if err == unix.EROFS { // what is there can be locked all the same
		err = eintr(func() error {
			fd, err = unix.Open(path, unix.O_RDONLY|flags, 0)
			return err
		})
		if err == unix.ENOENT {
			err = unix.EROFS
		}
	}
	switch err {
	case nil:
	case unix.ELOOP, unix.EISDIR, unix.ENXIO:
		return -1, displace(path, make, err)
	default:
		return -1, err
	}
	if err = eintr(func() error { return unix.Flock(fd, how) }); err == nil {
		err = same(fd, path)
	}
	if err == errNoFile {
		err = displace(path, make, err)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// displace takes away what somebody has put in a lock's place and is no file, so that nobody can
// hold it; the caller is to try again.
func displace(path string, make bool, why error) error {
	if !make || ownplace.Clear(path) != nil {
		return why
	}
	return queue.ErrStale
}

const errNoFile = unix.EINVAL

// same checks that fd is the file at path, and a file.
func same(fd int, path string) error {
	var mine, named unix.Stat_t
	if err := unix.Fstat(fd, &mine); err != nil {
		return err
	}
	if mine.Mode&unix.S_IFMT != unix.S_IFREG {
		return errNoFile
	}
	err := unix.Fstatat(unix.AT_FDCWD, path, &named, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT || err == nil && (mine.Ino != named.Ino || mine.Dev != named.Dev) {
		return queue.ErrStale
	}
	return err
}

// Locked reports whether some process holds the flock of the file at path; no
// file, or something else, means no. It asks with a shared lock that it drops at once, so those
// who ask do not see each other, but a holder-to-be must wait for the lock
// and not merely try.
func Locked(path string) (bool, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP || err == unix.ENXIO {
		return false, nil
	}
	if err != nil {
		return false, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, nil // flock(2) takes a directory, too
	}
	switch err := eintr(func() error { return unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) }); err {
	case nil:
		return false, unix.Flock(fd, unix.LOCK_UN)
	case unix.EWOULDBLOCK:
		return true, nil
	default:
		return false, &fs.PathError{Op: "flock", Path: path, Err: err}
	}
}

// fault gives an errno its kind.
func (d kernel) fault(k lock.Kind, id string, err error) error {
	kind := cove.Internal
	switch err {
	case unix.EISDIR, unix.ENOTEMPTY, unix.ELOOP, unix.ENXIO, errNoFile:
		err = fmt.Errorf("%s is no file, as a lock is: move it away", path(string(d), k, id))
	case unix.ENOENT:
		kind = cove.NoFile
		err = fmt.Errorf("there is no lock of the %s's", k)
		if ownplace.Dangling(string(d)) {
			kind, err = cove.Invalid, fmt.Errorf("%s: %w", string(d), ownplace.ErrDangling)
		}
	case unix.EACCES, unix.EPERM:
		kind = cove.Denied
	case unix.EMFILE, unix.ENFILE, unix.ENOSPC, unix.ENOLCK:
		kind = cove.Unavailable
	}
	return cove.E("lock "+k.String(), id, kind, err)
}

func eintr(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
