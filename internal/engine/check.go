package engine

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/state"
)

// settleTime is what a check gives to what is just coming or going: the kernel
// deletes the links of a network namespace some tens of milliseconds after
// the last process has left it.
const settleTime = 250 * time.Millisecond

// Check compares the records with reality, in both directions, and gives each
// difference; with repair it also finishes or undoes what it finds and can.
// quick leaves out what has to look at every process or layer.
//
// Cgroups, links and bridges are shared by all stores of a machine. Ours is
// what belongs to an ID of which this store has a trace: a record, a directory,
// a lock file or a removed-mark. What has none may be another store's and is
// passed over.
//
// First everything is looked at without locks; then, after a moment, each
// suspicion is looked at once more under its object's lock. What somebody is
// working on is no difference.
func (e *Engine) Check(ctx context.Context, repair, quick bool) ([]Difference, error) {
	if _, err := os.Stat(e.conf.Home()); errors.Is(err, fs.ErrNotExist) {
		return nil, nil // nothing was ever made
	}
	if err := e.prepareHome(); err != nil {
		return nil, err
	}
	if !quick {
		if err := e.images.Ready(); err != nil {
			return nil, err
		}
	}
	e.begin()
	k := &survey{e: e, ctx: ctx}
	if err := k.read(); err != nil {
		return nil, err
	}
	k.identity()
	k.displacedLocks() // first: what is repaired under them comes after
	k.damage()
	k.containers(quick)
	k.cgroups()
	k.delegation()
	k.network()
	k.mounts()
	if !quick {
		k.processes()
	}
	k.directories()
	k.sockets()
	k.publishedNames()
	k.unpublished()
	k.volumes()
	k.nameIndex()
	k.leases()
	if !quick {
		k.images()
	}
	k.lockFiles() // last: they are the traces
	if len(k.suspicions) > 0 {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(settleTime):
		}
	}
	var found []Difference
	open := map[string]bool{} // owners with unrepaired differences
	for _, s := range k.suspicions {
		// A trace stays until everything of its owner's is known to be gone.
		d, is, err := k.confirm(s, repair && !(s.trace && (open[s.Owner] || len(k.errs) > 0)))
		if err != nil {
			k.errs = append(k.errs, err)
		}
		if is {
			found = append(found, d)
			open[d.Owner] = open[d.Owner] || !d.Repaired
		}
	}
	if repair && k.unmarked {
		k.fail(e.markStore())
	}
	return found, errors.Join(k.errs...)
}

// survey is one run of Check: what the store said, and what looks wrong.
type survey struct {
	e   *Engine
	ctx context.Context

	records  map[string]*cove.Container
	damaged  []damagedRecord
	marks    map[string]bool // removed by their monitors
	running  map[string]bool
	traces   map[string]bool // container IDs that are or were this store's
	locks    []lock.Object
	networks []cove.Network
	going    []cove.Network
	volume   []cove.Volume
	replaced bool // the store is not the one that made the directories
	unmarked bool // nothing tells yet which store made them

	suspicions []suspicion
	errs       []error
}

// suspicion is a difference that is to be confirmed.
type suspicion struct {
	Difference
	kind  lock.Kind // whose lock shows that nobody works on it; 0 none
	id    string
	live  bool // it is wrong also, or only, while the container's monitor lives
	trace bool // it goes only when all else of its owner has gone
	// still looks again. repair undoes it, under the lock; verb is for what
	// takes the lock itself. Without either it can only be told.
	still        func() (bool, error)
	repair, verb func() error
}

func (k *survey) fail(err error) {
	if err != nil {
		k.errs = append(k.errs, err)
	}
}

// read takes one snapshot of the store and of our own directories.
func (k *survey) read() error {
	e := k.e
	k.marks = map[string]bool{}
	for _, id := range e.removedMarks() {
		k.marks[id] = true
	}
	var err error
	if k.locks, err = e.locks.Known(); err != nil {
		return err
	}
	err = e.store.View(func(tx state.Tx) (err error) {
		k.records, k.volume, k.damaged = map[string]*cove.Container{}, nil, nil
		broken := func(b state.Bucket, id string, err error) (name string) {
			name, _ = nameOf(tx, b, id)
			k.damaged = append(k.damaged, damagedRecord{b, id, name, err})
			return name
		}
		if k.networks, err = e.allNetworks(tx); err != nil {
			return err
		}
		if k.going, err = goingNetworks(tx); err != nil {
			return err
		}
		err = tx.List(state.Volumes, func(id string, raw []byte) error {
			var v cove.Volume
			if err := state.Decode(state.Volumes, id, raw, &v); err != nil {
				broken(state.Volumes, id, err)
				v = cove.Volume{Name: id}
			}
			k.volume = append(k.volume, v)
			return nil
		})
		if err != nil {
			return err
		}
		err = tx.List(state.Networks, func(id string, raw []byte) error {
			if _, err := decodeNetwork(tx, id, raw); errors.Is(err, state.ErrDamaged) {
				broken(state.Networks, id, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return tx.List(state.Containers, func(id string, raw []byte) error {
			c, err := decodeContainer(id, raw)
			if err != nil {
				c = e.stub(id, broken(state.Containers, id, err))
			}
			k.records[id] = c
			return nil
		})
	})
	if err != nil {
		return err
	}
	k.running, k.traces = map[string]bool{}, map[string]bool{}
	for id := range k.records {
		k.traces[id] = true
	}
	for id := range k.marks {
		k.traces[id] = true
	}
	for _, o := range k.locks {
		if o.Kind == lock.Container {
			k.traces[o.ID] = true
		}
	}
	dirs, err := dirNames(e.conf.Containers())
	for _, id := range dirs {
		k.traces[id] = true
	}
	return err
}

// dirNames lists a directory, sorted; one that does not exist is empty.
func dirNames(dir string) ([]string, error) {
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0) // waits for nobody
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, cove.E("list", dir, fileKind(err), err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, cove.E("list", dir, fileKind(err), err)
	}
	slices.Sort(names)
	return names, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// noDirectory tells whether there is something at a path, and no directory, nor a link to one.
func noDirectory(path string) bool {
	st, err := os.Stat(path)
	return exists(path) && (err != nil || !st.IsDir())
}

func isID(s string) bool {
	return len(s) == cove.IDLength && strings.Trim(s, "0123456789abcdef") == ""
}

// confirm looks once more at a suspicion, under the lock, and repairs it.
func (k *survey) confirm(s suspicion, repair bool) (Difference, bool, error) {
	e := k.e
	if s.kind != 0 {
		had, take := slices.Contains(k.locks, lock.Object{Kind: s.kind, ID: s.id}), e.locks.TryLock
		if had {
			take = e.locks.TryKnown // what has gone meanwhile is not to come back
		}
		l, err := take(k.ctx, s.kind, s.id)
		if cove.Is(err, cove.InUse) || cove.Is(err, cove.NoFile) {
			return s.Difference, false, nil
		}
		if err != nil {
			s.Problem += "; nobody can tell whether it is being worked on: " + err.Error()
			return s.Difference, true, nil
		}
		defer func() {
			if !had && k.unknown(s.kind, s.id) {
				// It was made by asking for it.
				_ = e.locks.Forget(s.kind, s.id)
			}
			_ = l.Unlock()
		}()
		if s.kind == lock.Container && !s.live {
			if alive(e.dir(s.id)) {
				return s.Difference, false, nil
			}
		}
		if s.verb != nil && repair {
			if is, err := s.still(); err != nil || !is {
				return s.Difference, false, err
			}
			_ = l.Unlock()
			s.mend(s.verb)
			return s.Difference, true, nil
		}
	}
	is, err := s.still()
	if err != nil || !is {
		return s.Difference, false, err
	}
	switch {
	case !repair:
	case s.repair != nil:
		s.mend(s.repair)
	case s.verb != nil:
		s.mend(s.verb)
	}
	return s.Difference, true, nil
}

// mend carries out a repair and looks whether that has helped.
func (s *suspicion) mend(repair func() error) {
	err := repair()
	if err == nil {
		if is, serr := s.still(); serr != nil || is {
			err = cmp.Or(serr, errors.New("it is there again"))
		}
	}
	if s.Repaired = err == nil; err != nil {
		s.Problem += "; repairing it failed: " + err.Error()
	}
}

// unknown reports whether the store has no such object.
func (k *survey) unknown(kind lock.Kind, id string) bool {
	err := k.e.store.View(func(tx state.Tx) error {
		switch kind {
		case lock.Container:
			return tx.Get(state.Containers, id, new(struct{}))
		case lock.Volume:
			return tx.Get(state.Volumes, id, new(struct{}))
		case lock.Network:
			going, err := goingNetworks(tx)
			if err != nil || slices.ContainsFunc(going, func(n cove.Network) bool { return n.Name == id }) {
				return err
			}
			_, err = k.e.getNetwork(tx, id)
			return err
		}
		return nil
	})
	return cove.Is(err, cove.NotFound)
}

// now is a container as it is at this moment; nil when there is no record, or
// only one that waits for being dropped.
func (k *survey) now(id string) (*Container, error) {
	var c *cove.Container
	err := k.e.store.View(func(tx state.Tx) (err error) { c, err = k.e.glance(tx, id); return err })
	if errors.Is(err, state.ErrDamaged) {
		err = nil // which is a difference of its own
	}
	if cove.Is(err, cove.NotFound) || err == nil && k.e.gone(id) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	now, err := k.e.look(c)
	return &now, err
}

// idle reports whether nothing of the container runs.
func (k *survey) idle(id string) (bool, error) {
	now, err := k.now(id)
	if err != nil || now == nil {
		return err == nil, err
	}
	return now.Run.PID == 0, nil
}

// why says what is wrong with something that a container left.
func (k *survey) why(id string) string {
	if k.records[id] == nil || k.marks[id] {
		return "its container has no record"
	}
	return "its container does not run"
}

// leftover suspects something that only a running container may have.
func (k *survey) leftover(kind, object, id string, there func() (bool, error), remove func() error) {
	k.suspicions = append(k.suspicions, suspicion{
		Difference: Difference{Kind: kind, Object: object, Owner: id, Problem: k.why(id)},
		kind:       lock.Container, id: id,
		still: func() (bool, error) {
			if idle, err := k.idle(id); err != nil || !idle {
				return false, err
			}
			return there()
		},
		repair: func() error {
			if k.replaced && k.records[id] == nil {
				return errReplaced
			}
			return remove()
		},
	})
}

// present turns NotFound into no.
func present(is bool, err error) (bool, error) {
	if cove.Is(err, cove.NotFound) {
		return false, nil
	}
	return is && err == nil, err
}
