package engine

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/ownplace"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/state"
)

// update runs a write transaction; before it, it drops the records of
// containers whose monitors have removed them, and settles starts that were cut
// short.
func (e *Engine) update(fn func(state.Tx) error) error {
	if err := e.prepareHome(); err != nil {
		return err
	}
	ready := e.finishRemovals()
	var dropped, waiting []*cove.Container
	var cut []string
	drop := func(tx state.Tx) error {
		dropped, waiting = dropped[:0], waiting[:0]
		lost, err := e.lostWithBoot(tx)
		if err != nil {
			return err
		}
		if cut, err = e.startsCut(tx); err != nil {
			return err
		}
		for _, id := range lost {
			// Killed after the record has gone, we have left a mark of what is
			// still to go.
			if err := os.Mkdir(e.removedDir(id), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
				return cove.E("remove container", id, fileKind(err), err)
			}
		}
		for _, id := range slices.Concat(ready, lost) {
			c := new(cove.Container)
			err := tx.Get(state.Containers, id, c)
			if cove.Is(err, cove.NotFound) {
				c.ID = id
			} else if errors.Is(err, state.ErrDamaged) {
				c = &cove.Container{ID: id}
				if err := e.dropDamaged(tx, id); err != nil {
					return err
				}
			} else if err != nil {
				return err
			} else if e.ownsVolumes(tx, c) {
				// Before the record that knows of them.
				waiting = append(waiting, c)
				continue
			} else if err := e.dropRecord(tx, c); err != nil {
				return err
			}
			dropped = append(dropped, c)
		}
		return nil
	}
	errFirst := errors.New("something has to be done first")
	var err error
	for pass := range 3 { // to settle starts is to find more volumes
		err = e.store.Update(func(tx state.Tx) error {
			if err := drop(tx); err != nil {
				return err
			}
			if pass < 2 && (len(waiting) > 0 || len(cut) > 0) {
				return errFirst
			}
			return fn(tx)
		})
		if !errors.Is(err, errFirst) {
			break
		}
		// What cannot be done now is left to a later write. Whoever has a lock
		// may be who writes here: nobody is waited for.
		for _, c := range waiting {
			_ = e.removeAnonymous(c, e.locks.TryLock)
		}
		for _, id := range cut {
			e.settleStart(id)
		}
		if len(cut) > 0 {
			ready = e.finishRemovals()
		}
	}
	if err != nil {
		return err
	}
	for _, c := range dropped {
		e.forget(c)
	}
	return nil
}

// bootKey holds the boot in which the store was last written to.
const bootKey = "boot"

// lostWithBoot gives, for the first write after the machine has stopped, the
// --rm containers that have stopped with it: no monitor was left to remove
// them, and a volatile layer cannot be mounted again. What the disk did not know
// of by then is made or removed once more. Nobody's names are those of a running
// container any more.
func (e *Engine) lostWithBoot(tx state.Tx) (lost []string, err error) {
	boot := procfs.BootID()
	if last, err := tx.Meta(bootKey); err != nil || string(last) == boot || boot == "" {
		return nil, err
	}
	if lost, err = e.removedAgain(tx); err != nil {
		return nil, err
	}
	err = readable(tx, func(c *cove.Container) {
		switch {
		case c.Spec.Remove && c.Run.Generation > 0 && procfs.OtherBoot(c.Run.BootID):
			lost = append(lost, c.ID)
		case c.Intent != cove.BeingRemoved:
			_ = e.makeDir(c) // or whoever needs it finds out why not
		}
	})
	if err == nil {
		err = tx.List(state.Volumes, func(id string, raw []byte) error {
			var v cove.Volume
			if json.Unmarshal(raw, &v) == nil && v.Intent != cove.BeingRemoved {
				_ = e.makeVolumeDir(&v)
			}
			return nil
		})
	}
	if err != nil {
		return nil, err
	}
	if err := ownplace.Remove(e.namesDir()); err != nil {
		return nil, cove.E("remove", e.namesDir(), fileKind(err), err)
	}
	return lost, tx.SetMeta(bootKey, []byte(boot))
}

// begin does the first write of a boot if there was none yet, as far as anything can
// be written.
func (e *Engine) begin() {
	var last []byte
	err := e.store.View(func(tx state.Tx) (err error) {
		last, err = tx.Meta(bootKey)
		last = slices.Clone(last)
		return err
	})
	if boot := procfs.BootID(); err == nil && boot != "" && string(last) != boot {
		_ = e.update(func(state.Tx) error { return nil })
	}
}

// ownsVolumes tells whether one of a container's anonymous volumes is still
// there that only it uses.
func (e *Engine) ownsVolumes(tx state.Tx, c *cove.Container) bool {
	var there []string
	for _, m := range c.Mounts {
		if m.Type == "volume" && m.Anonymous && tx.Get(state.Volumes, m.Source, new(struct{})) == nil {
			there = append(there, m.Source)
		}
	}
	if len(there) == 0 {
		return false
	}
	users, err := e.volumeUsers(tx, there, c.ID)
	return err == nil && len(users) < len(there)
}

// finishRemovals gives the containers whose monitors have removed them, and
// finishes what a killed monitor has left of its work. One whose monitor is
// still at it is left to a later write.
func (e *Engine) finishRemovals() (ready []string) {
	for _, id := range e.removedMarks() {
		if names, err := dirNames(e.removedDir(id)); err == nil && len(names) > 0 {
			if !monitorEnds(e.removedDir(id), time.Second) {
				continue
			}
			c := &cove.Container{ID: id}
			_ = e.store.View(func(tx state.Tx) error {
				if known, _ := e.glance(tx, id); known != nil {
					c = known
				}
				return nil
			})
			if e.clear(&Container{Container: *c}) != nil {
				continue
			}
		}
		ready = append(ready, id)
	}
	return ready
}

// removedMarks lists the containers whose monitors have removed them.
func (e *Engine) removedMarks() []string {
	d, err := os.OpenFile(e.conf.Removed(), unix.O_DIRECTORY, 0) // a FIFO would wait for a writer
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	return names
}

// dropRecord deletes a container's record with its name and leases.
func (e *Engine) dropRecord(tx state.Tx, c *cove.Container) error {
	if err := tx.Release(state.Containers, c.Name); err != nil && !cove.Is(err, cove.NotFound) {
		return err
	}
	for _, a := range c.Attachments {
		if err := tx.Unlease(a.Network, c.ID); err != nil {
			return err
		}
	}
	for _, on := range c.DependsOn {
		if err := setDependent(tx, on, c.ID, false); err != nil {
			return err
		}
	}
	if err := e.noteRemoved(tx, lock.Container, c.ID); err != nil {
		return err
	}
	return tx.Delete(state.Containers, c.ID)
}

// forget removes what is left of a container once its record is gone.
func (e *Engine) forget(c *cove.Container) {
	_ = rootfs.RemoveTree(e.dir(c.ID))
	_ = e.removeSocket(c.ID)
	_ = e.forgetNames(c)
	_ = e.locks.Forget(lock.Container, c.ID)
	_ = rootfs.RemoveTree(e.removedDir(c.ID))
	removeCIDFile(c)
}
