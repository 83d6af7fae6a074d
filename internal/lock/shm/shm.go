// Package shm keeps a fixed number of locks in one table, a file that all
// processes share: containers.conf's lock_type "shm" with its num_locks.
//
// An object that is locked for the first time is given a slot of the table,
// which says whose it is, until the object is forgotten. What is locked is the
// slot's byte in the file, by a lock of the open file (F_OFD_SETLK, fcntl(2)).
// So the kernel releases it when its holder dies, at any instant and with
// nothing to be repaired; a mutex in the memory itself would have to be a
// robust futex, whose list is the thread's, and a Go program's threads are not
// its own. A slot that is locked by somebody is given to nobody else.
//
// The table lies beside the records, not in /dev/shm: a sweep of temporary
// files would take the exclusion with it.
package shm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/lock/file"
	"github.com/cove-engine/cove/internal/lock/queue"
)

// Manager is a lock.Manager on a table.
type Manager struct {
	*queue.Manager
	kernel
}

// New gives a manager whose table is in dir. It is made on demand with so many
// slots, the directory is not. One that is there already keeps its number
// until Renumber.
func New(dir string, slots int) *Manager {
	k := kernel{dir, slots}
	return &Manager{queue.New(k), k}
}

// kernel is the table, as a queue.Kernel.
type kernel struct {
	dir   string
	slots int
}

// Try takes the lock of the object's slot without waiting for others.
func (m kernel) Try(k lock.Kind, id string, make bool) (int, error) {
	for {
		fd, err := m.take(k, id, unix.F_OFD_SETLK, make)
		switch err {
		case queue.ErrStale:
		case unix.EAGAIN, unix.EACCES:
			return -1, queue.ErrBusy
		default:
			return fd, err
		}
	}
}

// Wait waits for it.
func (m kernel) Wait(k lock.Kind, id string) (int, error) {
	return m.take(k, id, unix.F_OFD_SETLKW, true)
}

// Release gives a lock back.
func (m kernel) Release(fd int) error {
	(&table{fd: fd}).close()
	return nil
}

func (m kernel) take(k lock.Kind, id string, how int, make bool) (fd int, err error) {
	key, err := key(k, id)
	if err != nil {
		return -1, err
	}
	t, err := open(m.dir, m.slots)
	if err != nil {
		return -1, m.gone(k, id, err)
	}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	slot, err := t.find(key)
	if err == nil && slot < 0 && !make {
		return -1, m.gone(k, id, os.ErrNotExist)
	}
	if err == nil && slot < 0 {
		slot, err = t.alloc(key)
	}
	if err == errExhausted {
		return -1, cove.E("lock "+k.String(), id, cove.Unavailable, fmt.Errorf("all %d locks are in use: raise num_locks in containers.conf and run \"cove system renumber\"", t.slots))
	}
	if err != nil {
		return -1, fault(filepath.Join(m.dir, tableName), err)
	}
	if err := t.lock(how, unix.F_WRLCK, int64(slotBase+slot), 1); err != nil {
		return -1, err
	}
	// It may have been forgotten, and given to another, or the table replaced.
	still, err := t.holds(slot, key)
	if err == nil && still {
		still, err = t.same(m.dir)
	}
	if err != nil {
		return -1, fault(filepath.Join(m.dir, tableName), err)
	}
	if !still {
		return -1, queue.ErrStale
	}
	return t.fd, nil
}

// gone tells of a missing directory as of a missing lock.
func (m kernel) gone(k lock.Kind, id string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return cove.E("lock "+k.String(), id, cove.NoFile, fmt.Errorf("there is no lock of the %s's", k))
	}
	return err
}

// Forget frees the object's slot.
func (m kernel) Forget(k lock.Kind, id string) error {
	key, err := key(k, id)
	if err != nil {
		return err
	}
	for {
		t, err := open(m.dir, m.slots)
		if err != nil {
			return err
		}
		if err = t.forget(key); err != nil {
			err = fault(filepath.Join(m.dir, tableName), err)
		}
		same := true
		if err == nil {
			same, err = t.same(m.dir)
		}
		t.close()
		if err != nil || same {
			return err
		}
	}
}

// Known lists the objects that have a slot.
func (m kernel) Known() ([]lock.Object, error) {
	if _, err := os.Lstat(filepath.Join(m.dir, tableName)); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	t, err := open(m.dir, m.slots)
	if err != nil {
		return nil, err
	}
	defer t.close()
	all, err := t.keys()
	if err != nil {
		return nil, fault(filepath.Join(m.dir, tableName), err)
	}
	return all, nil
}

// Renumber makes a new table, with num_locks slots, in the place of the old
// one, be that damaged. The objects that have a slot get one in it, as far as
// they are among those given. It waits until nobody holds a lock. Lock files
// from before a change of lock_type go.
func (m kernel) Renumber(objects []lock.Object) error {
	if err := m.renew(objects); err != nil {
		return err
	}
	files := file.New(m.dir)
	old, err := files.Known()
	for _, o := range old {
		err = errors.Join(err, files.Forget(o.Kind, o.ID))
	}
	return err
}

func (m kernel) renew(objects []lock.Object) error {
	path := filepath.Join(m.dir, tableName)
	for {
		fd, err := openFile(path)
		if err == unix.ENOENT {
			if err = create(m.dir, m.slots, nil, false); err != nil && !errors.Is(err, os.ErrExist) {
				return fault(path, err)
			}
			return nil
		}
		if err != nil {
			return fault(path, err)
		}
		again, err := m.replace(&table{fd: fd}, objects)
		if err != nil || !again {
			return err
		}
	}
}

func (m kernel) replace(old *table, objects []lock.Object) (again bool, err error) {
	path := filepath.Join(m.dir, tableName)
	defer old.close()
	if err := old.poll(0, 0); err != nil { // all of it
		return false, fault(path, err)
	}
	if same, err := old.same(m.dir); err != nil || !same {
		return err == nil, err
	}
	have := objects
	if old.readHeader() == nil {
		known, err := old.keys()
		if err != nil {
			return false, fault(path, err)
		}
		have = slices.DeleteFunc(slices.Clone(objects), func(o lock.Object) bool { return !slices.Contains(known, o) })
	}
	if len(have) > m.slots {
		return false, cove.E("renumber locks", "", cove.Invalid, fmt.Errorf("num_locks in containers.conf is %d, and %d locks are in use", m.slots, len(have)))
	}
	if err := create(m.dir, m.slots, have, true); err != nil {
		return false, fault(path, err)
	}
	return false, nil
}
