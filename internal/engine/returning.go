package engine

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/state"
	"github.com/cove-engine/cove/internal/syncdir"
)

// A record is on the disk when its transaction has ended; the directories and locks
// that come after it, or go before it, are so some seconds later. When the power goes
// in between, a container or volume has its record without its directory, which is
// made anew, as after a kill, or the directory of a container that was removed is
// there again. What was removed is therefore noted in the transaction that ends its
// record, for the first write of the next boot: to sync the directory for each would
// take as long as a tenth of a start.

// removedKey is the meta key of that: lines "KIND ID", the last removal last.
const removedKey = "removed"

// removedMax is how many lines there are before a sync makes the older half needless.
// They are a small part of a page of the store.
const removedMax = 32

// noteRemoved takes note of a removal whose record goes in this transaction.
func (e *Engine) noteRemoved(tx state.Tx, kind lock.Kind, id string) error {
	lines, err := removals(tx)
	if err != nil {
		return err
	}
	lines = append(lines, kind.String()+" "+id)
	// The newer half stays: of a --rm container the directory goes after this.
	if len(lines) > removedMax && e.syncRemovals() == nil {
		lines = lines[removedMax/2:]
	}
	return setRemovals(tx, lines)
}

// noteMade is before the record of a container that is restored with the ID that it
// had: what was removed must not come back as a part of it.
func (e *Engine) noteMade(tx state.Tx, id string) error {
	lines, err := removals(tx)
	at := slices.Index(lines, lock.Container.String()+" "+id)
	if err != nil || at < 0 {
		return err
	}
	if err := e.syncRemovals(); err != nil {
		return err
	}
	return setRemovals(tx, slices.Delete(lines, at, at+1))
}

func removals(tx state.Tx) ([]string, error) {
	raw, err := tx.Meta(removedKey)
	if err != nil || len(raw) == 0 {
		return nil, err
	}
	return strings.Split(string(raw), "\n"), nil
}

func setRemovals(tx state.Tx, lines []string) error {
	if len(lines) == 0 {
		return tx.SetMeta(removedKey, nil)
	}
	return tx.SetMeta(removedKey, []byte(strings.Join(lines, "\n")))
}

// syncRemovals has the disk know what is gone.
func (e *Engine) syncRemovals() error {
	return errors.Join(syncDir(e.conf.Containers()), syncDir(e.conf.Locks()))
}

func syncDir(dir string) error {
	if err := syncdir.Sync(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return cove.E("sync", dir, fileKind(err), err)
	}
	return nil
}

// removedAgain removes, for the first write of a boot, the locks of what was removed
// that may have come back, and gives the containers.
func (e *Engine) removedAgain(tx state.Tx) (containers []string, err error) {
	lines, err := removals(tx)
	if err != nil {
		return nil, err
	}
	for _, line := range lines {
		name, id, _ := strings.Cut(line, " ")
		kind := lock.KindOf(name)
		known, err := e.hasRecord(tx, kind, id)
		switch {
		case err != nil:
			return nil, err
		case known:
		case kind == lock.Container:
			containers = append(containers, id)
		default:
			_ = e.locks.Forget(kind, id)
		}
	}
	return containers, setRemovals(tx, nil)
}

// hasRecord tells whether there is a record of a container, volume or network, whose
// id is its name.
func (e *Engine) hasRecord(tx state.Tx, kind lock.Kind, id string) (bool, error) {
	var err error
	switch kind {
	case lock.Container:
		err = tx.Get(state.Containers, id, new(struct{}))
	case lock.Volume:
		err = tx.Get(state.Volumes, id, new(struct{}))
	case lock.Network:
		_, err = e.getNetwork(tx, id)
	}
	if cove.Is(err, cove.NotFound) {
		return false, nil
	}
	return true, err
}
