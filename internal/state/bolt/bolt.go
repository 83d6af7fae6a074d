// Package bolt keeps the store of records in one bbolt file.
//
// The file is opened for each transaction, behind a lock of our own
// ([turnstile]): bbolt's would poll every 50 ms. It is given a file that is
// locked already, where its attempt succeeds at once. What it is going to read
// is looked at before (tree.go), because it trusts its file without limit.
package bolt

import (
	"errors"
	"io/fs"
	"os"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"

	"github.com/cove-engine/cove/internal/state"
	"github.com/cove-engine/cove/internal/state/turnstile"
)

// Store is a state.Store in a bbolt file.
type Store struct {
	file   turnstile.File
	layout state.Layout
	absent func() error
}

// Open names the file; nothing is touched before the first transaction, and
// no file is made before the first Update. timeout is how long a transaction
// waits for those of others; 0 is [turnstile.DefaultTimeout]. absent, which may
// be nil, is asked before a file that is not there counts as an empty store.
func Open(path string, timeout time.Duration, absent func() error) *Store {
	return With(path, timeout, state.Present(), absent)
}

// With opens a store of another layout than this release's.
func With(path string, timeout time.Duration, layout state.Layout, absent func() error) *Store {
	if absent == nil {
		absent = func() error { return nil }
	}
	return &Store{turnstile.File{Path: path, Timeout: timeout}, layout, absent}
}

// Path is the file.
func (s *Store) Path() string { return s.file.Path }

// Close does nothing: no handle outlives a transaction.
func (s *Store) Close() error { return nil }

// View runs fn on a snapshot. Writers wait until it returns, so fn does
// nothing slow. A store that does not exist yet is empty.
func (s *Store) View(fn func(state.Tx) error) error {
	for {
		old := false
		err := s.Raw(false, func(r state.Rows) (err error) {
			if old, err = s.layout.Check(r); err != nil || old {
				return err
			}
			return fn(state.Over(r))
		})
		if errors.Is(err, turnstile.ErrNone) {
			if err := errors.Join(s.absent(), s.file.Creatable()); err != nil {
				return err
			}
			return fn(state.Over(&rows{}))
		}
		if err != nil || !old {
			return err
		}
		if err := s.Update(func(state.Tx) error { return nil }); err != nil { // lifts it
			return err
		}
	}
}

// Update runs fn alone and returns once its writes are on disk. It makes the
// file (0600) and its directory (0700) on first use.
func (s *Store) Update(fn func(state.Tx) error) error {
	for {
		err := s.Raw(true, func(r state.Rows) error {
			if err := s.layout.Lift(r); err != nil {
				return err
			}
			return fn(state.Over(r))
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

// Raw runs fn on the rows, whatever their layout. Its own panics pass through
// after a roll-back; bbolt's, and faults on pages that are not there, become
// errors. turnstile.ErrNone when there is no file.
func (s *Store) Raw(write bool, fn func(state.Rows) error) (err error) {
	file, err := s.file.Lock(write)
	if err != nil {
		return err
	}
	// A page that the file lost under the mapping is a fault (SIGBUS);
	// as a panic it is caught below.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))

	h := &handle{path: s.file.Path, file: file}
	defer func() { err = errors.Join(err, h.close()) }()
	if err := h.open(write); err != nil {
		return err
	}
	r := &rows{tx: h.tx, h: h, write: write}
	if err := fn(r); err != nil {
		return err
	}
	if r.failed != nil {
		return r.failed
	}
	return h.end(write)
}

// options are those of every opening. The free list is kept in the file: with
// NoFreelistSync each opening would scan the whole file, and a damaged page
// would panic in a goroutine of bbolt's where nobody can recover it.
func options(file *os.File, write bool) *bbolt.Options {
	return &bbolt.Options{
		Timeout:      time.Nanosecond, // the lock is ours already
		ReadOnly:     !write,
		FreelistType: bbolt.FreelistMapType,
		NoStatistics: true,
		OpenFile:     func(string, int, os.FileMode) (*os.File, error) { return file, nil },
	}
}

// Make makes the file with its tables and what fill puts into them; it appears
// whole and synced. fs.ErrExist when there is one.
func (s *Store) Make(fill func(state.Rows) error) (err error) {
	file, publish, err := s.file.Unnamed()
	if err != nil {
		return turnstile.Fault("create state", s.file.Path, err)
	}
	h := &handle{path: s.file.Path, file: file}
	published := false
	defer func() {
		err = errors.Join(err, h.close())
		if !published {
			err = errors.Join(err, publish(false))
		}
	}()
	if err := h.begin(true); err != nil {
		return err
	}
	r := &rows{tx: h.tx, h: h, write: true}
	for _, t := range state.Tables() {
		if _, err := h.tx.CreateBucketIfNotExists([]byte(t)); err != nil {
			return turnstile.Fault("create state", s.file.Path, err)
		}
	}
	if err := fill(r); err != nil {
		return err
	}
	if err := h.end(true); err != nil {
		return err
	}
	if err := file.Sync(); err != nil { // bbolt syncs the data only, not the inode's size
		return turnstile.Fault("create state", s.file.Path, err)
	}
	published = true
	if err := publish(true); err != nil {
		return turnstile.Fault("create state", s.file.Path, err)
	}
	return nil
}

// Remove removes the file.
func (s *Store) Remove() error { return s.file.Remove() }
