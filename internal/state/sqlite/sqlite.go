// Package sqlite keeps the store of records in one SQLite file, which other
// programs can read: a table for each of [state.Tables], with columns key and
// value.
//
// SQLite is linked as a translation of its WebAssembly build, so it is pure Go
// and cannot reach outside its own memory whatever a damaged file makes it do.
// The file is opened for each transaction behind the lock that all back ends
// share ([turnstile]); SQLite is given the locked file and locks nothing
// itself. Each page carries a checksum. The journal stays beside the file with
// an empty header, so that a commit makes and removes no name, and on a full
// disk there is one to write to.
package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/cove-engine/cove"
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

// Raw runs fn on the rows, whatever their layout. turnstile.ErrNone when there
// is no file.
func (s *File) Raw(write bool, fn func(state.Rows) error) (err error) {
	file, err := s.file.Lock(write)
	if err != nil {
		return err
	}
	d := &disk{file: file, path: s.file.Path, readOnly: !write}
	if !write && d.hot() {
		// A writer was killed in its commit. Undoing that is a writer's
		// work too.
		if err := file.Close(); err != nil {
			return turnstile.Fault("open state", s.file.Path, err)
		}
		if err := s.Raw(true, func(state.Rows) error { return nil }); err != nil {
			return err
		}
		return s.Raw(false, fn)
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.check(); err != nil {
		return err
	}
	return s.transact(d, write, fn)
}

// transact runs fn in a transaction on an open disk.
func (s *File) transact(d *disk, write bool, fn func(state.Rows) error) (err error) {
	c := &conn{disk: d}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.open(); err != nil {
		return err
	}
	begin := "BEGIN"
	if write {
		begin = "BEGIN IMMEDIATE"
	}
	if err := c.exec(begin); err != nil {
		return err
	}
	r := &rows{c: c, write: write}
	if err := fn(r); err != nil {
		return err // closing rolls back
	}
	if c.failed != nil {
		return c.failed
	}
	c.finish()
	return c.exec("COMMIT")
}

// Make makes the file with its tables and what fill puts into them; it appears
// whole and synced. fs.ErrExist when there is one.
func (s *File) Make(fill func(state.Rows) error) (err error) {
	file, publish, err := s.file.Unnamed()
	if err != nil {
		return turnstile.Fault("create state", s.file.Path, err)
	}
	d := &disk{file: file, path: s.file.Path, fresh: true}
	published := false
	defer func() {
		err = errors.Join(err, d.close())
		if !published {
			err = errors.Join(err, publish(false))
		}
	}()
	err = s.transact(d, true, func(r state.Rows) error {
		for _, t := range state.Tables() {
			if err := r.(*rows).c.exec(fmt.Sprintf(`CREATE TABLE "%s" (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID`, t)); err != nil {
				return err
			}
		}
		return fill(r)
	})
	if err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return turnstile.Fault("create state", s.file.Path, err)
	}
	// What a file that was moved away in the middle of a commit has left
	// would be taken for this one's.
	if d.hot() {
		if _, err := os.Lstat(d.path); err == nil {
			return turnstile.Fault("create state", d.path, fs.ErrExist)
		}
		return cove.E("create state", d.path, cove.Internal, fmt.Errorf("%s holds changes of a store that is not there: put the store back beside it, or remove it", d.journal()))
	}
	published = true
	if err := publish(true); err != nil {
		return turnstile.Fault("create state", s.file.Path, err)
	}
	return nil
}

// Remove removes the file and its journal.
func (s *File) Remove() error {
	if err := s.file.Remove(); err != nil {
		return err
	}
	return removeJournal(s.file.Path)
}

// conn is one connection for one transaction.
type conn struct {
	disk   *disk
	db     *sqlite3.Conn
	stmts  map[string]*sqlite3.Stmt // by their text
	failed error                    // damage met on the way; the transaction cannot succeed
}

// open gives SQLite the file.
func (c *conn) open() error {
	err := c.guard(func() (err error) {
		flags := sqlite3.OPEN_READWRITE | sqlite3.OPEN_URI
		if c.disk.readOnly {
			flags = sqlite3.OPEN_READONLY | sqlite3.OPEN_URI
		}
		c.db, err = sqlite3.OpenFlags(c.disk.register(), flags)
		return err
	})
	if err != nil {
		return err
	}
	settings := "PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;"
	switch {
	case c.disk.fresh:
		settings = "PRAGMA journal_mode=OFF; PRAGMA application_id=0x636f7665;" + settings // "cove"
	case !c.disk.readOnly:
		settings += "PRAGMA synchronous=FULL; PRAGMA journal_mode=PERSIST; PRAGMA journal_size_limit=1048576;"
	}
	if err := c.exec(settings); err != nil || !c.disk.fresh {
		return err
	}
	return c.guard(func() error { return c.db.EnableChecksums("main") })
}

func (c *conn) exec(sql string) error {
	return c.guard(func() error { return c.db.Exec(sql) })
}

// guard runs calls of SQLite and gives their errors kinds.
func (c *conn) guard(f func() error) (err error) {
	if c.failed != nil {
		return c.failed
	}
	defer func() {
		if p := recover(); p != nil { // its memory has been left in disorder
			c.db = nil
			err = turnstile.Damaged(c.disk.path, fmt.Errorf("%v", p))
		}
		if err != nil {
			c.failed = err
		}
	}()
	err = f()
	switch {
	case err == nil:
		return nil
	case c.disk.fault != nil:
		return turnstile.Fault("write state", c.disk.path, c.disk.fault)
	case errors.Is(err, sqlite3.FULL):
		return cove.E("write state", c.disk.path, cove.Unavailable, err)
	case errors.Is(err, sqlite3.IOERR_DATA):
		return turnstile.Damaged(c.disk.path, errors.New("a page's checksum is wrong"))
	case errors.Is(err, sqlite3.NOTADB), errors.Is(err, sqlite3.CORRUPT), errors.Is(err, sqlite3.ERROR),
		errors.Is(err, sqlite3.IOERR_SHORT_READ), errors.Is(err, sqlite3.CANTOPEN):
		return turnstile.Damaged(c.disk.path, err)
	}
	return cove.E("use state", c.disk.path, cove.Internal, fmt.Errorf("%w (%d)", err, sqliteCode(err)))
}

// finish ends all statements.
func (c *conn) finish() {
	for _, s := range c.stmts {
		_ = s.Close() // tells again what its last step has told
	}
	c.stmts = nil
}

// close rolls back what has not been committed.
func (c *conn) close() error {
	defer c.disk.unregister()
	if c.db == nil {
		return nil
	}
	c.finish()
	if err := c.db.Close(); err != nil {
		return cove.E("close state", c.disk.path, cove.Internal, err)
	}
	return nil
}

// sqliteCode is the extended code, which says more than its text.
func sqliteCode(err error) (code sqlite3.ExtendedErrorCode) {
	errors.As(err, &code)
	return code
}
