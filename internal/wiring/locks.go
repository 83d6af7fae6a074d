package wiring

import (
	"github.com/cove-engine/cove/internal/config"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/lock/file"
	"github.com/cove-engine/cove/internal/lock/shm"
	"github.com/cove-engine/cove/internal/state"
)

// locks gives the manager of the locks that are there, to be made anew as those
// of containers.conf's lock_type. One that has changed since counts from then
// on, as num_locks does: a command that knows it from elsewhere, such as
// conmon's exit command, would exclude nobody.
func locks(conf *config.Config) (lock.Manager, error) {
	kind, err := conf.LockType()
	if err != nil {
		return nil, err
	}
	files := file.New(conf.Locks())
	table := shm.New(conf.Locks(), int(conf.File.Engine.NumLocks))
	tabled := lock.Tabled(conf.Locks())
	if kind != "shm" {
		if tabled {
			return changed{table, files}, nil
		}
		return files, nil
	}
	if known, err := files.Known(); !tabled && err == nil && len(known) > 0 {
		return changed{files, table}, nil
	}
	return table, nil
}

// changed are locks of one kind that are to become those of another.
type changed struct {
	lock.Manager
	into lock.Manager
}

func (c changed) Renumber(objects []lock.Object) error { return c.into.Renumber(objects) }

// orderEnv is set by tests: a lock taken against the order is a panic then.
const orderEnv = "COVE_TEST_LOCK_ORDER"

// ordered has the store's transactions seen to as well.
type ordered struct {
	state.Store
	locks *lock.Ordered
}

func (s ordered) View(fn func(state.Tx) error) error {
	return s.locks.Within(false, func() error { return s.Store.View(fn) })
}

func (s ordered) Update(fn func(state.Tx) error) error {
	return s.locks.Within(true, func() error { return s.Store.Update(fn) })
}
