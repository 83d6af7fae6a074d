package wiring

import (
	"github.com/cove-engine/cove/internal/config"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/lock/file"
	"github.com/cove-engine/cove/internal/lock/shm"
	"github.com/cove-engine/cove/internal/state"
)

// locks gives the manager of containers.conf's lock_type.
func locks(conf *config.Config) (lock.Manager, error) {
	kind, err := conf.LockType()
	if err != nil {
		return nil, err
	}
	if kind == "shm" {
		return shm.New(conf.Locks(), int(conf.File.Engine.NumLocks)), nil
	}
	return file.New(conf.Locks()), nil
}

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
