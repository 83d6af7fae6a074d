// Package memory keeps the store of records in this process's memory: for
// tests, and for engines that must leave nothing behind. It lasts as long as
// the process and is not shared.
package memory

import (
	"sync"

	"github.com/cove-engine/cove/internal/state"
)

// Store is a state.Store in memory. Its rows are persistent trees: a view
// keeps the tree it began with, an update works on a tree of its own that
// replaces the common one at the end.
type Store struct {
	writing sync.Mutex // held during an update

	mu   sync.Mutex
	root map[state.Table]*node // under mu; replaced, never changed
}

// Open gives an empty store.
func Open() *Store { return &Store{} }

// Path is empty: there is no file.
func (s *Store) Path() string { return "" }

// Close does nothing.
func (s *Store) Close() error { return nil }

// View runs fn on a snapshot; it waits for nobody.
func (s *Store) View(fn func(state.Tx) error) error {
	r := &rows{root: s.snapshot()}
	if len(r.root) > 0 {
		if _, err := state.Present().Check(r); err != nil {
			return err
		}
	}
	return fn(state.Over(r))
}

// Update runs fn alone and keeps what it wrote unless it fails or panics.
func (s *Store) Update(fn func(state.Tx) error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	r := &rows{root: map[state.Table]*node{}, write: true}
	for t, n := range s.snapshot() {
		r.root[t] = n
	}
	begin := state.Present().Lift
	if len(r.root) == 0 {
		begin = state.Present().Begin
	}
	if err := begin(r); err != nil {
		return err
	}
	if err := fn(state.Over(r)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.root = r.root
	return nil
}

func (s *Store) snapshot() map[state.Table]*node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.root
}

// rows are state.Rows over a set of trees.
type rows struct {
	root  map[state.Table]*node
	write bool
}

func (r *rows) Get(t state.Table, key string) ([]byte, error) {
	if n := r.root[t].floor(key); n != nil && n.key == key {
		return n.value, nil
	}
	return nil, nil
}

func (r *rows) Put(t state.Table, key string, value []byte) error {
	if !r.write {
		return state.ReadOnly()
	}
	if value == nil {
		value = []byte{}
	}
	low, _, high := r.root[t].split(key)
	r.root[t] = join(join(low, newNode(key, value)), high)
	return nil
}

func (r *rows) Delete(t state.Table, key string) error {
	if !r.write {
		return state.ReadOnly()
	}
	low, _, high := r.root[t].split(key)
	r.root[t] = join(low, high)
	return nil
}

func (r *rows) Ascend(t state.Table, from string, each func(string, []byte) (bool, error)) error {
	for n := r.root[t].ceiling(from); n != nil; n = r.root[t].ceiling(n.key + "\x00") {
		if more, err := each(n.key, n.value); err != nil || !more {
			return err
		}
	}
	return nil
}

func (r *rows) Floor(t state.Table, key string) (string, []byte, bool, error) {
	if n := r.root[t].floor(key); n != nil {
		return n.key, n.value, true, nil
	}
	return "", nil, false, nil
}
