package runtime

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/ctrinit/hook"
)

// Delete removes a stopped container, and with force or before its start any.
func (r *Runtime) Delete(id string, force bool) error {
	if force {
		// Who starts it, and has the lock, may be waiting for the container.
		if c, err := r.Open(id); err == nil {
			if err := c.end(); err != nil {
				return err
			}
		}
	}
	c, lock, err := r.openLocked(id)
	if err != nil {
		if force && cove.Is(err, cove.NotFound) {
			return nil
		}
		return err
	}
	defer unix.Close(lock)
	status, err := c.Status()
	if err != nil {
		return err
	}
	// Under the lock nobody is creating it: what looks so is what remains.
	if status == Running || status == Paused {
		if !force {
			return cove.E("", "", cove.WrongStatus, fmt.Errorf("cannot delete container %s that is not stopped: %s", id, status))
		}
	}
	if err := c.end(); err != nil {
		return err
	}
	complete := c.Complete
	if err := c.remove(); err != nil {
		return err
	}
	if !complete {
		return nil
	}
	// A hook that fails keeps nothing from being removed.
	for i := range c.Poststop {
		if err := hook.Run("poststop", c.Poststop[i:i+1], c.hookState(Stopped), nil); err != nil {
			r.warn(err.Error())
		}
	}
	return nil
}
