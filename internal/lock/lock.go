// Package lock is the door to the locks of objects: one lock per pod,
// container, volume or network, exclusive between all processes of the
// machine and released by the kernel when its holder dies.
//
// Locks are taken in the order that package engine's comment states; in tests
// [Ordered] sees to it.
package lock

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Kind is what sort of object a lock is for. Kinds are taken in the order of
// their numbers.
type Kind uint8

// The kinds.
const (
	Pod Kind = iota + 1
	Container
	Volume
	Network
	// Transaction is the state store's. No Manager has it; it has its place
	// in the order, after all others.
	Transaction
)

// String is the kind's name.
func (k Kind) String() string {
	switch k {
	case Pod:
		return "pod"
	case Container:
		return "container"
	case Volume:
		return "volume"
	case Network:
		return "network"
	case Transaction:
		return "transaction"
	}
	return "object"
}

// KindOf is the kind of that name, 0 for none.
func KindOf(name string) Kind {
	for k := Pod; k <= Network; k++ {
		if k.String() == name {
			return k
		}
	}
	return 0
}

// TableName is the table's in the directory of the locks: where it is, the locks
// are in it, else they are files, called after kind and ID.
const TableName = "table"

// ErrOther says that the locks have become of the other kind since this process
// began: by it they would exclude nobody.
var ErrOther = errors.New("the locks have become of another lock_type meanwhile")

// Tabled tells whether the locks in dir are in a table.
func Tabled(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, TableName))
	return err == nil
}

// Files lists the locks in dir that are files.
func Files(dir string) (all []Object, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		name, id, _ := strings.Cut(e.Name(), "-")
		if k := KindOf(name); k != 0 && id != "" {
			all = append(all, Object{Kind: k, ID: id})
		}
	}
	return all, err
}

// Displaced lists those in whose place is something else than a file, so that
// nobody holds them.
func Displaced(dir string) []Object {
	all, _ := Files(dir)
	return slices.DeleteFunc(all, func(o Object) bool {
		st, err := os.Lstat(filepath.Join(dir, o.Kind.String()+"-"+o.ID))
		return err != nil || st.Mode().IsRegular()
	})
}

// Object is what a lock is for.
type Object struct {
	Kind Kind
	ID   string // of volumes and networks the name
}

// Manager hands out locks. It may be used from several goroutines.
type Manager interface {
	// Lock waits for the object's lock until ctx ends: Unavailable then,
	// with ctx's cause below. NoFile when the object is gone, also when
	// it went while Lock waited. Locks are not recursive.
	Lock(ctx context.Context, k Kind, id string) (Held, error)
	// TryLock takes the lock if nobody has it; InUse otherwise.
	TryLock(ctx context.Context, k Kind, id string) (Held, error)
	// TryKnown is TryLock of an object that has been locked and not been
	// forgotten; NoFile for any other, which stays so.
	TryKnown(ctx context.Context, k Kind, id string) (Held, error)
	// Forget gives up what a lock needs outside of processes, before its
	// object's record goes. Whoever holds or waits for the lock is not
	// disturbed, but who asks for it afterwards gets another one.
	Forget(k Kind, id string) error
	// Known lists the objects that have been locked and not been forgotten.
	Known() ([]Object, error)
	// Renumber makes the locks anew, as many as are configured now, for the
	// objects that there are.
	Renumber(objects []Object) error
}

// Held is a lock that is held.
type Held interface {
	// Unlock releases the lock. It must be called once; a further call
	// does nothing.
	Unlock() error
}
