package lock

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
)

// Ordered is a Manager that also checks the order of locks, for tests. Locks
// are attributed to the context made by [Track] that they were taken with; all
// others are taken for one actor's.
type Ordered struct {
	Manager
	fail func(args ...any)
	rest *track

	mu      sync.Mutex
	writing map[string]bool // goroutines that are in a transaction that writes; under mu
}

// NewOrdered gives one that calls fail with a description of each lock out of
// order, before it is taken; testing.T's Error fits.
func NewOrdered(m Manager, fail func(args ...any)) *Ordered {
	return &Ordered{Manager: m, fail: fail, rest: new(track), writing: map[string]bool{}}
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
	by   string // the goroutine of a transaction
}

func (r ranked) String() string { return r.kind.String() + " " + r.id }

// after reports whether r may be taken while s is held. Several actors'
// transactions wait for each other; one in another is seen by its goroutine.
func (r ranked) after(s ranked) bool {
	return r.kind > s.kind || r.kind == s.kind && (r.id > s.id || r.kind == Transaction)
}

// Track gives a context for one actor, whose locks must be in order among
// themselves.
func Track(ctx context.Context) context.Context {
	return context.WithValue(ctx, trackKey{}, &track{})
}

// Lock checks and passes on.
func (o *Ordered) Lock(ctx context.Context, k Kind, id string) (Held, error) {
	t := o.of(ctx)
	t.check(ranked{kind: k, id: id}, o.fail)
	h, err := o.Manager.Lock(ctx, k, id)
	return t.note(ranked{kind: k, id: id}, h, err)
}

// TryLock passes on: an attempt cannot deadlock, but what it got counts for
// the locks after it.
func (o *Ordered) TryLock(ctx context.Context, k Kind, id string) (Held, error) {
	h, err := o.Manager.TryLock(ctx, k, id)
	return o.of(ctx).note(ranked{kind: k, id: id}, h, err)
}

// TryKnown passes on as TryLock does.
func (o *Ordered) TryKnown(ctx context.Context, k Kind, id string) (Held, error) {
	h, err := o.Manager.TryKnown(ctx, k, id)
	return o.of(ctx).note(ranked{kind: k, id: id}, h, err)
}

// Within runs what is a transaction of the state store; a read-only one is
// only looked at, for several may be under way at once.
func (o *Ordered) Within(write bool, transaction func() error) error {
	me := goroutine()
	r := ranked{kind: Transaction, by: me}
	o.rest.check(r, o.fail)
	o.mu.Lock()
	nested := o.writing[me]
	if write {
		o.writing[me] = true
	}
	o.mu.Unlock()
	if nested {
		o.fail(fmt.Sprintf("lock order: %s is locked while %s is held", r, r))
	}
	if !write {
		return transaction()
	}
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if !nested {
			delete(o.writing, me)
		}
	}()
	h, err := o.rest.note(r, nothing{}, nil)
	if err == nil {
		defer h.Unlock()
		err = transaction()
	}
	return err
}

// goroutine names the calling one: a transaction is one goroutine's, and has no
// context that could tell whose. Only traces have the name, for people; here it
// is for tests.
func goroutine() string {
	var trace [64]byte
	name, _, _ := bytes.Cut(trace[:runtime.Stack(trace[:], false)], []byte(" ["))
	return string(name)
}

// nothing is held.
type nothing struct{}

func (nothing) Unlock() error { return nil }

func (o *Ordered) of(ctx context.Context) *track {
	if t, _ := ctx.Value(trackKey{}).(*track); t != nil {
		return t
	}
	return o.rest
}

func (t *track) check(r ranked, fail func(args ...any)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.held {
		if h.kind == Transaction && h.by != goroutine() {
			continue // it ends without us
		}
		if !r.after(h) {
			fail(fmt.Sprintf("lock order: %s is locked while %s is held", r, h))
		}
	}
}

func (t *track) note(r ranked, h Held, err error) (Held, error) {
	if err != nil {
		return nil, err
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
