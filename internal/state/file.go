package state

import (
	"errors"
	"io/fs"
	"time"

	"github.com/cove-engine/cove/internal/state/turnstile"
)

// File is a back end that keeps one file; [In] makes it a [Store].
type File interface {
	// Raw runs fn on the rows, whatever their layout: with write alone, and
	// what it wrote is durable before nil is returned; without on a
	// snapshot. [turnstile.ErrNone] when there is no file.
	Raw(write bool, fn func(Rows) error) error
	// Make makes the file (0600) and its folder (0700), with all tables
	// and what fill puts into them; it appears whole and synced.
	// fs.ErrExist when there is one.
	Make(fill func(Rows) error) error
	// Creatable tells whether a missing file could be made: where it could
	// not, "nothing" would be a wrong answer to what there is.
	Creatable() error
	// Remove removes the file and what belongs to it.
	Remove() error
	// Path is the file's.
	Path() string
}

// Opener opens a back end's file: nothing is touched before the first
// transaction. timeout is how long a transaction waits for those of others; 0
// is [turnstile.DefaultTimeout].
type Opener func(path string, timeout time.Duration) File

// In is the store in a file. absent, which may be nil, is asked before a file
// that is not there counts as an empty store.
func In(f File, l Layout, absent func() error) Store {
	if absent == nil {
		absent = func() error { return nil }
	}
	return store{f, l, absent}
}

type store struct {
	File
	layout Layout
	absent func() error
}

// Close does nothing: nothing outlives a transaction.
func (s store) Close() error { return nil }

func (s store) View(fn func(Tx) error) error {
	for {
		old := false
		err := s.Raw(false, func(r Rows) (err error) {
			if old, err = s.layout.Check(r); err != nil || old {
				return err
			}
			return fn(Over(r))
		})
		if errors.Is(err, turnstile.ErrNone) {
			if err := errors.Join(s.absent(), s.Creatable()); err != nil {
				return err
			}
			return fn(Over(none{}))
		}
		if err != nil || !old {
			return err
		}
		if err := s.Update(func(Tx) error { return nil }); err != nil { // lifts it
			return err
		}
	}
}

func (s store) Update(fn func(Tx) error) error {
	for {
		err := s.Raw(true, func(r Rows) error {
			if err := s.layout.Lift(r); err != nil {
				return err
			}
			return fn(Over(r))
		})
		if !errors.Is(err, turnstile.ErrNone) {
			return err
		}
		if err := s.absent(); err != nil {
			return err
		}
		if err := s.Make(s.layout.Begin); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
}

// none are the rows of a store that is not there yet.
type none struct{}

func (none) Get(Table, string) ([]byte, error)                              { return nil, nil }
func (none) Put(Table, string, []byte) error                                { return ReadOnly() }
func (none) Delete(Table, string) error                                     { return ReadOnly() }
func (none) Ascend(Table, string, func(string, []byte) (bool, error)) error { return nil }
func (none) Floor(Table, string) (k string, value []byte, ok bool, err error) {
	return "", nil, false, nil
}
