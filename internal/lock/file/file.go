// Package file keeps one lock file per object and locks it with flock(2).
//
// A lock's file lies where its caller says, usually in the object's own
// directory, so that removing the object removes the lock. Whoever gets the
// lock makes sure that the file it locked is still the one at that path.
package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
)

// Manager is a lock.Manager on files.
type Manager struct {
	path func(k lock.Kind, id string) string

	mu    sync.Mutex
	files map[string]*queue // under mu; the paths that are held or waited for
}

// queue is this process's side of one lock: however many goroutines want it,
// one thread waits in the kernel.
type queue struct {
	users int           // under Manager.mu: goroutines in Lock or holding
	turn  chan struct{} // full while a goroutine holds or waits in the kernel
	wait  *wait         // under Manager.mu: a thread in the kernel, or nil
}

// wait is one thread blocked in flock. It cannot be called back without a
// signal, so when its goroutine gives up it stays for the next one to adopt;
// if nobody has when its turn comes it closes the file.
type wait struct {
	wanted bool // under Manager.mu
	done   chan got
}

type got struct {
	fd  int
	err error
}

// New gives a manager whose locks are the files that path names. The file is
// made on demand (0600), its directory is not.
func New(path func(k lock.Kind, id string) string) *Manager {
	return &Manager{path: path, files: map[string]*queue{}}
}

// Lock waits for the lock until ctx ends.
func (m *Manager) Lock(ctx context.Context, k lock.Kind, id string) (lock.Held, error) {
	if err := ctx.Err(); err != nil {
		return nil, late(ctx, k, id)
	}
	path := m.path(k, id)
	q := m.enter(path)
	select {
	case q.turn <- struct{}{}:
	case <-ctx.Done():
		m.leave(path, q)
		return nil, late(ctx, k, id)
	}
	fd, err := m.acquire(ctx, path, q, k, id)
	if err != nil {
		<-q.turn
		m.leave(path, q)
		return nil, err
	}
	return &held{m: m, path: path, q: q, fd: fd}, nil
}

// TryLock takes the lock if nobody has it.
func (m *Manager) TryLock(_ context.Context, k lock.Kind, id string) (lock.Held, error) {
	path := m.path(k, id)
	q := m.enter(path)
	busy := cove.E("lock "+k.String(), id, cove.InUse, errors.New("another process is working on it"))
	select {
	case q.turn <- struct{}{}:
	default:
		m.leave(path, q)
		return nil, busy
	}
	fd, err := try(path)
	if err != nil {
		<-q.turn
		m.leave(path, q)
		if err == unix.EWOULDBLOCK {
			return nil, busy
		}
		return nil, fault(k, id, err)
	}
	return &held{m: m, path: path, q: q, fd: fd}, nil
}

func (m *Manager) enter(path string) *queue {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.files[path]
	if q == nil {
		q = &queue{turn: make(chan struct{}, 1)}
		m.files[path] = q
	}
	q.users++
	return q
}

func (m *Manager) leave(path string, q *queue) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q.users--
	m.drop(path, q)
}

// drop forgets a queue that nobody uses; m.mu is held.
func (m *Manager) drop(path string, q *queue) {
	if q.users == 0 && q.wait == nil {
		delete(m.files, path)
	}
}

// acquire takes the flock; the caller has the turn.
func (m *Manager) acquire(ctx context.Context, path string, q *queue, k lock.Kind, id string) (int, error) {
	for {
		m.mu.Lock()
		w := q.wait
		if w != nil {
			w.wanted = true
		}
		m.mu.Unlock()
		if w == nil {
			fd, err := try(path)
			if err == nil {
				return fd, nil
			}
			if err != unix.EWOULDBLOCK {
				return -1, fault(k, id, err)
			}
			w = m.block(path, q)
		}
		select {
		case g := <-w.done:
			if g.err == errReplaced {
				continue
			}
			if g.err != nil {
				return -1, fault(k, id, g.err)
			}
			return g.fd, nil
		case <-ctx.Done():
			m.mu.Lock()
			w.wanted = false
			m.mu.Unlock()
			select {
			case g := <-w.done: // it came in the same moment
				if g.err == nil {
					_ = release(g.fd)
				}
			default:
			}
			return -1, late(ctx, k, id)
		}
	}
}

// block starts a thread that waits for the flock.
func (m *Manager) block(path string, q *queue) *wait {
	w := &wait{wanted: true, done: make(chan got, 1)}
	m.mu.Lock()
	q.wait = w
	m.mu.Unlock()
	go func() {
		fd, err := open(path)
		if err == nil {
			if err = eintr(func() error { return unix.Flock(fd, unix.LOCK_EX) }); err == nil {
				err = same(fd, path)
			}
			if err != nil {
				_ = release(fd)
			}
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		q.wait = nil
		if w.wanted {
			w.done <- got{fd, err}
			return
		}
		if err == nil {
			_ = release(fd)
		}
		m.drop(path, q)
	}()
	return w
}

// held is one lock of this process.
type held struct {
	m    *Manager
	path string
	q    *queue
	once sync.Once
	fd   int
}

// Unlock releases the lock.
func (h *held) Unlock() (err error) {
	h.once.Do(func() {
		err = release(h.fd)
		<-h.q.turn
		h.m.leave(h.path, h.q)
	})
	return err
}

// errReplaced says that the locked file is no longer the one at its path.
var errReplaced = errors.New("lock file was replaced")

// try takes the flock of the file at path without waiting for others.
func try(path string) (int, error) {
	for {
		fd, err := open(path)
		if err != nil {
			return -1, err
		}
		if err = eintr(func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) }); err == nil {
			err = same(fd, path)
		}
		if err == nil {
			return fd, nil
		}
		_ = unix.Close(fd)
		if err != errReplaced {
			return -1, err
		}
	}
}

func open(path string) (fd int, err error) {
	err = eintr(func() error {
		fd, err = unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NOCTTY|unix.O_NONBLOCK, 0o600)
		return err
	})
	return fd, err
}

// same checks that fd is the file at path.
func same(fd int, path string) error {
	var mine, named unix.Stat_t
	if err := unix.Fstat(fd, &mine); err != nil {
		return err
	}
	if mine.Mode&unix.S_IFMT != unix.S_IFREG {
		return unix.EINVAL
	}
	err := unix.Fstatat(unix.AT_FDCWD, path, &named, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT || err == nil && (mine.Ino != named.Ino || mine.Dev != named.Dev) {
		return errReplaced
	}
	return err
}

// release unlocks before it closes: a process being forked may share the open
// file for a moment.
func release(fd int) error {
	return errors.Join(unix.Flock(fd, unix.LOCK_UN), unix.Close(fd))
}

// Locked reports whether some process holds the flock of the file at path; no
// file means no. It asks with a shared lock that it drops at once, so those
// who ask do not see each other, but a holder-to-be must wait for the lock
// and not merely try.
func Locked(path string) (bool, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err == unix.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	switch err := eintr(func() error { return unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) }); err {
	case nil:
		return false, unix.Flock(fd, unix.LOCK_UN)
	case unix.EWOULDBLOCK:
		return true, nil
	default:
		return false, &fs.PathError{Op: "flock", Path: path, Err: err}
	}
}

func late(ctx context.Context, k lock.Kind, id string) error {
	return cove.E("lock "+k.String(), id, cove.Unavailable, fmt.Errorf("another process is working on it: %w", context.Cause(ctx)))
}

// fault gives an errno its kind: without its directory an object is gone.
func fault(k lock.Kind, id string, err error) error {
	kind := cove.Internal
	switch err {
	case unix.ENOENT, unix.ENOTDIR:
		kind = cove.NotFound
		err = fmt.Errorf("no such %s", k)
	case unix.EACCES, unix.EPERM, unix.ELOOP:
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
