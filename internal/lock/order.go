package lock

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Ordered is a Manager that also checks the order of locks, for tests. Locks
// are attributed to the context made by [Track] that they were taken with, or
// else not checked.
type Ordered struct {
	Manager
	// Fail is called with a description of each lock out of order, before
	// it is taken; testing.T's Error fits.
	Fail func(args ...any)
}

type trackKey struct{}

// track is what one actor holds.
type track struct {
	mu   sync.Mutex
	held []ranked // under mu
}

type ranked struct {
	kind Kind
	id   string
}

func (r ranked) String() string { return r.kind.String() + " " + r.id }

// after reports whether r may be taken while s is held.
func (r ranked) after(s ranked) bool {
	return r.kind > s.kind || r.kind == s.kind && r.id > s.id
}

// Track gives a context for one actor, whose locks must be in order among
// themselves.
func Track(ctx context.Context) context.Context {
	return context.WithValue(ctx, trackKey{}, &track{})
}

// Lock checks and passes on.
func (o Ordered) Lock(ctx context.Context, k Kind, id string) (Held, error) {
	o.check(ctx, ranked{k, id})
	h, err := o.Manager.Lock(ctx, k, id)
	return o.note(ctx, ranked{k, id}, h, err)
}

// TryLock passes on: an attempt cannot deadlock, but what it got counts for
// the locks after it.
func (o Ordered) TryLock(ctx context.Context, k Kind, id string) (Held, error) {
	h, err := o.Manager.TryLock(ctx, k, id)
	return o.note(ctx, ranked{k, id}, h, err)
}

func (o Ordered) check(ctx context.Context, r ranked) {
	t, _ := ctx.Value(trackKey{}).(*track)
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.held {
		if !r.after(h) {
			o.Fail(fmt.Sprintf("lock order: %s is locked while %s is held", r, h))
		}
	}
}

func (o Ordered) note(ctx context.Context, r ranked, h Held, err error) (Held, error) {
	t, _ := ctx.Value(trackKey{}).(*track)
	if err != nil || t == nil {
		return h, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = append(t.held, r)
	return tracked{h, t, r}, nil
}

type tracked struct {
	Held
	t *track
	r ranked
}

func (h tracked) Unlock() error {
	h.t.mu.Lock()
	if i := slices.Index(h.t.held, h.r); i >= 0 {
		h.t.held = slices.Delete(h.t.held, i, i+1)
	}
	h.t.mu.Unlock()
	return h.Held.Unlock()
}
