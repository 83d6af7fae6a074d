package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/ownplace"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/state"
)

// directories looks for those of containers without records.
func (k *survey) directories() {
	e := k.e
	names, err := dirNames(e.conf.Containers())
	k.fail(err)
	for _, id := range names {
		dir := e.dir(id)
		if k.records[id] != nil {
			continue
		}
		s := suspicion{
			Difference: Difference{Kind: "directory", Object: dir, Owner: id, Problem: "its container has no record"},
			kind:       lock.Container, id: id,
			still: func() (bool, error) { now, err := k.now(id); return now == nil && exists(dir), err },
			repair: func() error {
				if k.replaced {
					return errReplaced
				}
				return rootfs.RemoveTree(dir)
			},
		}
		if !isID(id) {
			s.Problem, s.Owner, s.kind, s.repair = "not a container's directory", "", 0, nil
			s.still = func() (bool, error) { return exists(dir), nil }
		}
		k.suspicions = append(k.suspicions, s)
	}
	for _, home := range e.pastBoots() {
		k.suspicions = append(k.suspicions, suspicion{
			Difference: Difference{Kind: "directory", Object: home, Problem: "a transient store of an earlier boot"},
			still:      func() (bool, error) { return slices.Contains(e.pastBoots(), home), nil },
			repair:     func() error { return rootfs.RemoveTree(home) },
		})
	}
	for id := range k.marks {
		dir := e.removedDir(id)
		k.suspicions = append(k.suspicions, suspicion{
			Difference: Difference{Kind: "directory", Object: dir, Owner: id, Problem: "its monitor was killed while it removed the container"},
			kind:       lock.Container, id: id,
			still: func() (bool, error) {
				left, err := dirNames(dir)
				return len(left) > 0 && !alive(dir), err
			},
			verb: func() error { return e.update(func(state.Tx) error { return nil }) },
		})
	}
}

// sockets looks for what monitors that are gone have left under the run root.
func (k *survey) sockets() {
	for _, dir := range []string{k.e.conf.Scratch(), k.e.sockets()} {
		if noDirectory(dir) {
			k.suspicions = append(k.suspicions, suspicion{
				Difference: Difference{Kind: "directory", Object: dir, Problem: "it is no directory, and monitors' sockets belong there"},
				still:      func() (bool, error) { return noDirectory(dir), nil },
				repair:     func() error { return ownplace.Directory(dir) },
			})
			return
		}
	}
	dir := k.e.sockets()
	names, err := dirNames(dir)
	k.fail(err)
	for _, id := range names {
		if !isID(id) || !k.traces[id] || k.running[id] {
			continue // another store may have the same run root
		}
		p := filepath.Join(dir, id)
		k.leftover("socket", p, id,
			func() (bool, error) { return exists(p), nil },
			func() error { return os.RemoveAll(p) })
	}
}

// volumes compares them with their directories. Content without a record is
// never removed: it is somebody's data.
func (k *survey) volumes() {
	e := k.e
	known := map[string]bool{}
	for i := range k.volume {
		v := &k.volume[i]
		known[v.Name] = true
		read := func() (w cove.Volume, err error) {
			return w, e.store.View(func(tx state.Tx) error { return tx.Get(state.Volumes, v.Name, &w) })
		}
		s := suspicion{Difference: Difference{Kind: "volume", Object: v.Name, Owner: v.Name}, kind: lock.Volume, id: v.Name}
		switch {
		case v.Intent == cove.BeingRemoved:
			s.Problem = "its removal was cut short"
			s.still = func() (bool, error) { w, err := read(); return present(w.Intent == cove.BeingRemoved, err) }
			s.verb = func() error { return e.finishDrop(k.ctx, v.Name) }
		case !exists(e.volumeData(v.Name)):
			s.Problem = "its directory is missing, with its content"
			s.still = func() (bool, error) { _, err := read(); return present(!exists(e.volumeData(v.Name)), err) }
			s.repair = func() error { return e.makeVolumeDir(v) }
		default:
			continue
		}
		k.suspicions = append(k.suspicions, s)
	}
	names, err := dirNames(e.conf.OwnVolumes())
	k.fail(err)
	for _, name := range names {
		if known[name] {
			continue
		}
		dir := filepath.Join(e.conf.OwnVolumes(), name)
		k.suspicions = append(k.suspicions, suspicion{
			Difference: Difference{Kind: "directory", Object: dir, Owner: name, Problem: "its volume has no record"},
			kind:       lock.Volume, id: name,
			still: func() (bool, error) { return exists(dir) && k.unknown(lock.Volume, name), nil },
			repair: func() error {
				if err := os.Remove(filepath.Join(dir, "_data")); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err // not empty
				}
				return os.Remove(dir)
			},
		})
	}
}

// displacedLocks looks for what is in a lock's place. To take the lock is to
// take that away.
func (k *survey) displacedLocks() {
	e := k.e
	for _, o := range lock.Displaced(e.conf.Locks()) {
		k.suspicions = append(k.suspicions, suspicion{
			Difference: lockDifference(o, "it is no file, and nobody can hold it"),
			still:      func() (bool, error) { return slices.Contains(lock.Displaced(e.conf.Locks()), o), nil },
			repair: func() error {
				l, err := e.locks.TryLock(k.ctx, o.Kind, o.ID)
				if err == nil {
					err = l.Unlock()
				}
				return err
			},
		})
	}
}

// lockDifference is one of an object's lock.
func lockDifference(o lock.Object, problem string) Difference {
	owner := o.ID
	if o.Kind == lock.Network {
		owner = network.ID(o.ID)
	}
	return Difference{Kind: "lock", Object: o.Kind.String() + "-" + o.ID, Owner: owner, Problem: problem}
}

// lockFiles looks for locks whose object is gone.
func (k *survey) lockFiles() {
	for _, o := range k.locks {
		if !k.unknown(o.Kind, o.ID) || o.Kind == lock.Container && k.marks[o.ID] {
			continue
		}
		k.suspicions = append(k.suspicions, suspicion{
			Difference: lockDifference(o, "its "+o.Kind.String()+" has no record"),
			kind:       o.Kind, id: o.ID, trace: true,
			still: func() (bool, error) {
				known, err := k.e.locks.Known()
				return slices.Contains(known, o) && k.unknown(o.Kind, o.ID), err
			},
			repair: func() error { return k.e.locks.Forget(o.Kind, o.ID) },
		})
	}
}
