// Package bolt keeps the store of records in one bbolt file.
//
// The file is opened for each transaction, behind a lock of our own
// ([turnstile]): bbolt's would poll every 50 ms. It is given a file that is
// locked already, where its attempt succeeds at once. What it is going to read
// is looked at before (tree.go), because it trusts its file without limit.
package bolt

import (
	"errors"
	"os"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"

	"github.com/cove-engine/cove/internal/state"
	"github.com/cove-engine/cove/internal/state/turnstile"
)

// File is a state.File.
type File struct{ file turnstile.File }

// Open is a state.Opener.
func Open(path string, timeout time.Duration) state.File {
	return &File{turnstile.File{Path: path, Timeout: timeout}}
}

// Path is the file.
func (s *File) Path() string { return s.file.Path }

// Creatable tells whether a missing file could be made.
func (s *File) Creatable() error { return s.file.Creatable() }

// Raw runs fn on the rows, whatever their layout. Its own panics pass through
// after a roll-back; bbolt's, and faults on pages that are not there, become
// errors. turnstile.ErrNone when there is no file.
func (s *File) Raw(write bool, fn func(state.Rows) error) (err error) {
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
func (s *File) Make(fill func(state.Rows) error) (err error) {
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
func (s *File) Remove() error { return s.file.Remove() }
