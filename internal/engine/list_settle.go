package engine

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
)

// listPatience is how long a list takes over containers whose monitor was killed: what
// has not been taken down by then is left to the next one, and no start and no hook is
// begun. Those that have begun are waited for: broken off, they would begin again with
// the next list.
const listPatience = time.Second

// listStartPatience is how long a start that a list has begun may take.
const listStartPatience = 10 * time.Second

// errListPatience is the cause that ends such a start. The restart stays due, and
// whoever names the container begins it without that limit; lists do not.
var errListPatience = fmt.Errorf("its restart by policy took longer than %s", listStartPatience)

// leaveDue leaves a restart that is due to who names the container, or to settleLost,
// which limits what a list may spend on one.
func leaveDue(_ context.Context, h *held) error {
	h.release()
	return nil
}

// settleLost settles those of a list whose monitor was killed, or whose restart by
// policy or --rm nobody is left to see to, or whose run file is conmon's to do without, and
// gives the list as it is then. No lock is waited for: whoever has it does the same. What
// cannot be settled is as it was found.
func (e *Engine) settleLost(ctx context.Context, list []Container) []Container {
	var lost []*Container
	for i := range list {
		if c := &list[i]; c.fileLost || (c.Status == cove.Exited || c.Status == cove.Removing) && c.unsettled() && !c.Run.RestartFails && !alive(c.Dir) {
			copied := *c // it may be looked at longer than we wait
			lost = append(lost, &copied)
		}
	}
	if len(lost) == 0 {
		return list
	}
	until := time.Now().Add(listPatience)
	for left := lost; len(left) > 0; {
		// Whose namespaces others share comes before them.
		var first, then []*Container
		for _, c := range left {
			if slices.ContainsFunc(left, func(other *Container) bool { return slices.Contains(c.DependsOn, other.ID) }) {
				then = append(then, c)
			} else {
				first = append(first, c)
			}
		}
		if len(first) == 0 { // damaged records lead round in a circle
			first, then = left, nil
		}
		e.settleTogether(ctx, until, first)
		left = then
	}
	now := list[:0]
	for _, c := range list {
		if slices.ContainsFunc(lost, func(l *Container) bool { return l.ID == c.ID }) {
			again, err := e.recorded(c.ID)
			switch {
			case err != nil:
			case again == nil:
				continue // it has gone with its end
			default:
				c = *again
			}
		}
		now = append(now, c)
	}
	return now
}

// settleTogether settles containers at the same time, as far as it comes until then;
// what is not to be broken off is waited for.
func (e *Engine) settleTogether(ctx context.Context, until time.Time, lost []*Container) {
	within, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	var whole sync.RWMutex // held to read by what is not to be broken off
	room := make(chan struct{}, 32)
	done := make(chan struct{}, len(lost))
	for _, c := range lost {
		go func() {
			room <- struct{}{}
			e.settleListed(lock.Track(ctx), until, c, &whole)
			<-room
			done <- struct{}{}
		}()
	}
	for range lost {
		select {
		case <-done:
		case <-within.Done():
		}
	}
	whole.Lock() // and none is begun any more
}

// settleListed settles one of them and starts it if its policy says so.
func (e *Engine) settleListed(ctx context.Context, until time.Time, c *Container, whole *sync.RWMutex) {
	within, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	if within.Err() != nil || c.dumping || !whole.TryRLock() { // CRIU is not waited for
		return
	}
	unlock := sync.OnceFunc(whole.RUnlock)
	defer unlock()
	if !c.Run.Poststop { // no hooks
		unlock()
	}
	l, err := e.locks.TryLock(within, lock.Container, c.ID)
	if err != nil {
		return
	}
	h, err := e.holdLocked(within, c.ID, l)
	if err != nil {
		return
	}
	defer h.release()
	unlock()
	if !h.due || within.Err() != nil || !whole.TryRLock() {
		return // it stays due
	}
	defer whole.RUnlock()
	start, cancelStart := context.WithTimeoutCause(ctx, listStartPatience, errListPatience)
	defer cancelStart()
	_, _ = e.startHeld(start, h, StartOptions{unasked: true}) // what is wrong with it is in its record
}
