// Package bolt keeps the store of records in one bbolt file.
//
// The file is opened for each transaction and locked with a blocking flock
// that has a deadline, so a long-lived server and short commands share it and
// a killed process leaves nothing locked. bbolt's own lock would poll every
// 50 ms; it is given a file that is locked already, where its attempt
// succeeds at once. Beside the flock a turnstile keeps readers that arrive in
// a stream from shutting a writer out for ever.
//
// The file is made complete under no name and then linked, so it is never
// seen half-made; an empty, truncated or foreign file is therefore damage and
// is refused untouched.
package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
)

// DefaultTimeout is how long a transaction waits for others by default.
const DefaultTimeout = time.Minute

// Store is a state.Store in a bbolt file.
type Store struct {
	path    string
	timeout time.Duration

	// schema and migrations are state.Schema and this release's own,
	// other only in tests. migrations[n] lifts a store from version n.
	schema     int
	migrations []func(*bbolt.Tx) error
}

// Open names the file; nothing is touched before the first transaction, and
// no file is made before the first Update. timeout is how long a transaction
// waits for those of others; 0 is [DefaultTimeout].
func Open(path string, timeout time.Duration) *Store {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	return &Store{path: path, timeout: timeout, schema: state.Schema}
}

// Path is the file.
func (s *Store) Path() string { return s.path }

// Close does nothing: no handle outlives a transaction.
func (s *Store) Close() error { return nil }

// View runs fn on a snapshot. Writers wait until it returns, so fn does
// nothing slow. A store that does not exist yet is empty.
func (s *Store) View(fn func(state.Tx) error) error {
	for {
		old := false
		err := s.transact(false, func(r *rows) (err error) {
			if old, _, err = state.CheckSchema(r, s.schema); err != nil || old {
				return err
			}
			return fn(state.Over(r))
		})
		if errors.Is(err, errNoStore) {
			if err := s.creatable(); err != nil {
				return err
			}
			return fn(state.Over(&rows{}))
		}
		if err != nil || !old {
			return err
		}
		if err := s.Update(func(state.Tx) error { return nil }); err != nil { // migrates
			return err
		}
	}
}

// creatable tells whether the file could be made: where it could not,
// "nothing" would be a wrong answer to what there is.
func (s *Store) creatable() error {
	dir := filepath.Dir(s.path)
	for {
		err := unix.Access(dir, unix.W_OK|unix.X_OK)
		if err == nil {
			return nil
		}
		if err != unix.ENOENT || dir == "/" {
			return s.fault("open state", &fs.PathError{Op: "write to", Path: dir, Err: err})
		}
		dir = filepath.Dir(dir)
	}
}

// Update runs fn alone and returns once its writes are on disk. It makes the
// file (0600) and its directory (0700) on first use.
func (s *Store) Update(fn func(state.Tx) error) error {
	for {
		err := s.transact(true, func(r *rows) error {
			if err := s.migrate(r); err != nil {
				return err
			}
			return fn(state.Over(r))
		})
		if !errors.Is(err, errNoStore) {
			return err
		}
		if err := s.create(); err != nil {
			return err
		}
	}
}

// migrate lifts an older layout to this release's, in the same transaction
// as the update that found it.
func (s *Store) migrate(r *rows) error {
	old, version, err := state.CheckSchema(r, s.schema)
	if err != nil || !old {
		return err
	}
	for ; version < s.schema; version++ {
		if version < len(s.migrations) && s.migrations[version] != nil {
			if err := s.migrations[version](r.tx); err != nil {
				return cove.E("migrate state", s.path, cove.KindOf(err), fmt.Errorf("from schema %d: %w", version, err))
			}
		}
	}
	return r.Put(state.TableMeta, state.SchemaKey, strconv.AppendInt(nil, int64(s.schema), 10))
}

// transact opens the file, runs fn in a transaction and closes the file.
// fn's own panics pass through after a roll-back; bbolt's, and faults on
// pages that are not there, become errors.
func (s *Store) transact(write bool, fn func(*rows) error) (err error) {
	file, err := s.lock(write)
	if err != nil {
		return err
	}
	// A page that the file lost under the mapping is a fault (SIGBUS);
	// as a panic it is caught below.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))

	h := &handle{path: s.path, file: file}
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

// create makes the file with its tables under no name, syncs it and links it
// to its name; losing that race to another process is success.
func (s *Store) create() (err error) {
	dir := filepath.Dir(s.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return s.fault("create state", err)
	}
	file, publish, err := unnamed(dir, s.path)
	if err != nil {
		return s.fault("create state", err)
	}
	h := &handle{path: s.path, file: file, fresh: true}
	published := false
	defer func() {
		err = errors.Join(err, h.close())
		if !published {
			err = errors.Join(err, publish(false))
		}
	}()
	if err := h.open(true); err != nil {
		return err
	}
	r := &rows{tx: h.tx, h: h, write: true}
	for _, t := range state.Tables() {
		if _, err := h.tx.CreateBucketIfNotExists([]byte(t)); err != nil {
			return s.fault("create state", err)
		}
	}
	if err := r.Put(state.TableMeta, state.SchemaKey, strconv.AppendInt(nil, int64(s.schema), 10)); err != nil {
		return err
	}
	if err := h.end(true); err != nil {
		return err
	}
	if err := file.Sync(); err != nil { // bbolt syncs the data only, not the inode's size
		return s.fault("create state", err)
	}
	published = true
	if err := publish(true); err != nil && !errors.Is(err, fs.ErrExist) {
		return s.fault("create state", err)
	}
	return nil
}

func (s *Store) fault(op string, err error) error { return fault(op, s.path, err) }

// fault gives a system error its kind.
func fault(op, path string, err error) error {
	kind := cove.Internal
	switch {
	case errors.Is(err, fs.ErrPermission):
		kind = cove.Denied
	case errors.Is(err, errNoSpace), errors.Is(err, errQuota), errors.Is(err, errTooBig):
		kind = cove.Unavailable
	}
	return cove.E(op, path, kind, err)
}
