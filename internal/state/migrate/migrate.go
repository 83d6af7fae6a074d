// Package migrate moves the store from one back end's file to another's, and
// finds out which of two files is the store.
//
// The new file appears whole, marked as coming; then the old one is marked as
// moved, and with that commit the new one is the store; then the new one loses
// its mark and the old one is removed. All but the last steps happen in one
// transaction of the old store, so nobody reads or writes meanwhile, and
// whoever waited for it finds the mark. Killed at any point, what is left tells
// how far it came, and [Find] finishes or undoes it.
package migrate

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
	"github.com/cove-engine/cove/internal/state/turnstile"
)

// Place is where a back end keeps the store.
type Place struct {
	Name string // of the back end, as containers.conf's database_backend
	state.File
}

// There tells whether there is a file at path.
func There(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, turnstile.Fault("find state", path, err)
	}
	return true, nil
}

// standing is what a file says of itself.
type standing int

const (
	absent standing = iota
	inUse
	moved
	coming
)

func read(rows state.Rows) (standing, error) {
	raw, err := rows.Get(state.TableMeta, state.SchemaKey)
	switch {
	case err != nil:
		return absent, err
	case strings.HasPrefix(string(raw), state.MarkMoved):
		return moved, nil
	case strings.HasPrefix(string(raw), state.MarkComing):
		return coming, nil
	}
	return inUse, nil
}

func (p Place) standing() (s standing, err error) {
	err = p.Raw(false, func(rows state.Rows) error {
		s, err = read(rows)
		return err
	})
	if errors.Is(err, turnstile.ErrNone) {
		return absent, nil
	}
	return s, err
}

// Find tells which of two places is the store, after finishing or undoing a
// migration that was killed. Where there is no store yet it is the first.
func Find(a, b Place) (Place, error) {
	inA, errA := There(a.Path())
	inB, errB := There(b.Path())
	switch {
	case errA != nil || errB != nil:
		return a, cmp.Or(errA, errB)
	case !inB:
		return a, nil
	case !inA:
		return b, nil
	}
	// The two are not looked at in one moment: what cannot be is believed when it
	// is seen so often in a row.
	const tries, believed = 100, 20
	strange := 0
	for range tries {
		sa, err := a.standing()
		if err != nil {
			return a, err
		}
		sb, err := b.standing()
		if err != nil {
			return b, err
		}
		switch [2]standing{sa, sb} {
		case [2]standing{absent, absent}, [2]standing{inUse, absent}:
			return a, nil
		case [2]standing{absent, inUse}:
			return b, nil
		case [2]standing{inUse, coming}:
			err = drop(b, a)
		case [2]standing{coming, inUse}:
			err = drop(a, b)
		case [2]standing{moved, coming}, [2]standing{moved, inUse}:
			err = finish(a, b)
		case [2]standing{coming, moved}, [2]standing{inUse, moved}:
			err = finish(b, a)
		default:
			if strange++; strange < believed {
				time.Sleep(5 * time.Millisecond)
				continue
			}
			if sa == inUse {
				return a, cove.E("find state", "", cove.Internal, fmt.Errorf(
					"%s and %s are two stores, each complete: move the one away that is not to be used", a.Path(), b.Path()))
			}
			return a, cove.E("find state", "", cove.Internal, fmt.Errorf(
				"neither %s nor %s is in use, and the store that they were made from is gone: put it back", a.Path(), b.Path()))
		}
		strange = 0
		if err != nil && !errors.Is(err, turnstile.ErrNone) { // gone meanwhile: look again
			return a, err
		}
	}
	return a, cove.E("find state", a.Path(), cove.Unavailable, errors.New("other commands are migrating it all the time"))
}

// drop removes left, the unfinished copy of a store in use. While that is held
// nobody makes a copy of it.
func drop(left, of Place) error {
	return of.Raw(true, func(rows state.Rows) error {
		if s, err := read(rows); err != nil || s != inUse {
			return err
		}
		if s, err := left.standing(); err != nil || s != coming {
			return err
		}
		return left.Remove()
	})
}

// finish puts to into use and removes from, which is marked as moved to it.
// While from is there nobody can move the store back to it.
func finish(from, to Place) error {
	return from.Raw(true, func(rows state.Rows) error {
		if s, err := read(rows); err != nil || s != moved {
			return err
		}
		err := to.Raw(true, func(rows state.Rows) error {
			if s, err := read(rows); err != nil || s != coming {
				return err
			}
			return state.Present().Begin(rows)
		})
		if err != nil {
			return err
		}
		return from.Remove()
	})
}

// Lift brings the store to this release's layout where it is.
func Lift(p Place) error {
	return state.In(p.File, state.Present(), nil).Update(func(state.Tx) error { return nil })
}

// Move moves the store from one place to the other, in this release's layout,
// and gives the number of its records.
func Move(from, to Place) (records int, err error) {
	err = from.Raw(true, func(old state.Rows) error {
		s, err := read(old)
		if err == nil && s != inUse {
			err = state.Moved(to.Name)
		}
		if err != nil {
			return err
		}
		if err := state.Present().Lift(old); err != nil {
			return err
		}
		err = to.Make(func(rows state.Rows) error {
			if records, err = copyRows(old, rows); err != nil {
				return err
			}
			return rows.Put(state.TableMeta, state.SchemaKey, []byte(state.MarkComing+from.Name))
		})
		if err != nil {
			return err
		}
		return old.Put(state.TableMeta, state.SchemaKey, []byte(state.MarkMoved+to.Name))
	})
	if errors.Is(err, turnstile.ErrNone) {
		err = state.Moved(to.Name)
	}
	if err == nil {
		// Another command may have finished it already.
		if err = finish(from, to); errors.Is(err, turnstile.ErrNone) {
			err = nil
		}
	}
	return records, err
}

func copyRows(old, rows state.Rows) (records int, err error) {
	buckets := map[state.Table]bool{}
	for _, b := range state.Buckets() {
		buckets[state.Table(b)] = true
	}
	for _, t := range state.Tables() {
		err := old.Ascend(t, "", func(key string, value []byte) (bool, error) {
			if buckets[t] {
				records++
			}
			return true, rows.Put(t, key, value)
		})
		if err != nil {
			return 0, err
		}
	}
	return records, nil
}

// Elsewhere is an error when another back end has a file at path: a store that is
// not where it was looked for is not an empty one.
func Elsewhere(backend, path string) error {
	there, err := There(path)
	if there {
		err = state.Moved(backend)
	}
	return err
}
