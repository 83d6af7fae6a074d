// Package queue makes a lock.Manager of locks that the kernel keeps and
// releases when their holder dies.
//
// A thread that waits in the kernel cannot be called back without a signal,
// so there is one per object at most, whatever number of goroutines want it,
// and one that its goroutine has given up stays for the next to adopt.
package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
)

// Kernel is a set of locks that are the kernel's. A lock taken is known by an
// open file. The errors of Try and Wait become the Manager's: they have kinds.
type Kernel interface {
	// Try takes the lock if nobody has it; [ErrBusy] when somebody has. Only
	// with make is one made that is not there, else that is NoFile.
	Try(k lock.Kind, id string, make bool) (fd int, err error)
	// Wait waits for the lock, for ever. [ErrStale] says that what it has
	// got is no longer the object's lock, and that nothing is held.
	Wait(k lock.Kind, id string) (fd int, err error)
	// Release gives a lock back.
	Release(fd int) error
}

// What a Kernel may answer beside faults.
var (
	ErrBusy  = errors.New("another process is working on it")
	ErrStale = errors.New("the lock was replaced")
)

// Manager hands out locks of a Kernel: the Lock and TryLock of a lock.Manager.
type Manager struct {
	kernel Kernel

	mu     sync.Mutex
	queues map[object]*queue // under mu; the objects that are held or waited for
}

type object struct {
	kind lock.Kind
	id   string
}

// queue is this process's side of one lock: however many goroutines want it,
// one thread waits in the kernel.
type queue struct {
	users int           // under Manager.mu: goroutines in Lock or holding
	turn  chan struct{} // full while a goroutine holds or waits in the kernel
	wait  *wait         // under Manager.mu: a thread in the kernel, or nil
}

// wait is one thread blocked in the kernel. When its goroutine gives up it
// stays for the next one to adopt; if nobody has when its turn comes it
// releases the lock.
type wait struct {
	wanted bool // under Manager.mu
	done   chan got
}

type got struct {
	fd  int
	err error
}

// New gives a manager of k's locks.
func New(k Kernel) *Manager { return &Manager{kernel: k, queues: map[object]*queue{}} }

// Lock waits for the lock until ctx ends.
func (m *Manager) Lock(ctx context.Context, k lock.Kind, id string) (lock.Held, error) {
	if err := ctx.Err(); err != nil {
		return nil, late(ctx, k, id)
	}
	o := object{k, id}
	q := m.enter(o)
	select {
	case q.turn <- struct{}{}:
	case <-ctx.Done():
		m.leave(o, q)
		return nil, late(ctx, k, id)
	}
	fd, err := m.acquire(ctx, o, q)
	if err != nil {
		<-q.turn
		m.leave(o, q)
		return nil, err
	}
	return &held{m: m, o: o, q: q, fd: fd}, nil
}

// TryLock takes the lock if nobody has it.
func (m *Manager) TryLock(_ context.Context, k lock.Kind, id string) (lock.Held, error) {
	return m.try(k, id, true)
}

// TryKnown takes the lock if it is there and nobody has it.
func (m *Manager) TryKnown(_ context.Context, k lock.Kind, id string) (lock.Held, error) {
	return m.try(k, id, false)
}

func (m *Manager) try(k lock.Kind, id string, make bool) (lock.Held, error) {
	o := object{k, id}
	q := m.enter(o)
	busy := cove.E("lock "+k.String(), id, cove.InUse, ErrBusy)
	select {
	case q.turn <- struct{}{}:
	default:
		m.leave(o, q)
		return nil, busy
	}
	fd, err := m.kernel.Try(k, id, make)
	if err != nil {
		<-q.turn
		m.leave(o, q)
		if err == ErrBusy {
			return nil, busy
		}
		return nil, err
	}
	return &held{m: m, o: o, q: q, fd: fd}, nil
}

// Idle tells whether nothing is held or waited for.
func (m *Manager) Idle() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.queues) == 0
}

func (m *Manager) enter(o object) *queue {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.queues[o]
	if q == nil {
		q = &queue{turn: make(chan struct{}, 1)}
		m.queues[o] = q
	}
	q.users++
	return q
}

func (m *Manager) leave(o object, q *queue) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q.users--
	m.drop(o, q)
}

// drop forgets a queue that nobody uses; m.mu is held.
func (m *Manager) drop(o object, q *queue) {
	if q.users == 0 && q.wait == nil {
		delete(m.queues, o)
	}
}

// acquire takes the kernel's lock; the caller has the turn.
func (m *Manager) acquire(ctx context.Context, o object, q *queue) (int, error) {
	for {
		m.mu.Lock()
		w := q.wait
		if w != nil {
			w.wanted = true
		}
		m.mu.Unlock()
		if w == nil {
			fd, err := m.kernel.Try(o.kind, o.id, true)
			if err != ErrBusy {
				return fd, err
			}
			w = m.block(o, q)
		}
		select {
		case g := <-w.done:
			if g.err == ErrStale {
				continue
			}
			return g.fd, g.err
		case <-ctx.Done():
			m.mu.Lock()
			w.wanted = false
			m.mu.Unlock()
			select {
			case g := <-w.done: // it came in the same moment
				if g.err == nil {
					_ = m.kernel.Release(g.fd)
				}
			default:
			}
			return -1, late(ctx, o.kind, o.id)
		}
	}
}

// block starts a thread that waits in the kernel.
func (m *Manager) block(o object, q *queue) *wait {
	w := &wait{wanted: true, done: make(chan got, 1)}
	m.mu.Lock()
	q.wait = w
	m.mu.Unlock()
	go func() {
		fd, err := m.kernel.Wait(o.kind, o.id)
		m.mu.Lock()
		defer m.mu.Unlock()
		q.wait = nil
		if w.wanted {
			w.done <- got{fd, err}
			return
		}
		if err == nil {
			_ = m.kernel.Release(fd)
		}
		m.drop(o, q)
	}()
	return w
}

// held is one lock of this process.
type held struct {
	m    *Manager
	o    object
	q    *queue
	once sync.Once
	fd   int
}

// Unlock releases the lock.
func (h *held) Unlock() (err error) {
	h.once.Do(func() {
		err = h.m.kernel.Release(h.fd)
		<-h.q.turn
		h.m.leave(h.o, h.q)
	})
	return err
}

func late(ctx context.Context, k lock.Kind, id string) error {
	return cove.E("lock "+k.String(), id, cove.Unavailable, fmt.Errorf("%w: %w", ErrBusy, context.Cause(ctx)))
}
