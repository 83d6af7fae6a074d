package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/rootfs"
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
	if repair && !quick { // a pin may be missing
		if err := e.images.Ready(); err != nil {
			return nil, err
		}
	}
	k := &survey{e: e, ctx: ctx}
	if err := k.read(); err != nil {
		return nil, err
	}
	k.identity()
	k.containers(quick)
	k.cgroups()
	k.network()
	k.mounts()
	if !quick {
		k.processes()
	}
	k.directories()
	k.sockets()
	k.publishedNames()
	k.volumes()
	k.nameIndex()
	k.leases()
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
		k.records, k.volume = map[string]*cove.Container{}, nil
		if k.networks, err = e.allNetworks(tx); err != nil {
			return err
		}
		if k.going, err = goingNetworks(tx); err != nil {
			return err
		}
		err = tx.List(state.Volumes, func(id string, raw []byte) error {
			var v cove.Volume
			if err := json.Unmarshal(raw, &v); err != nil {
				return cove.E("read volume record", id, cove.Internal, err)
			}
			k.volume = append(k.volume, v)
			return nil
		})
		if err != nil {
			return err
		}
		return tx.List(state.Containers, func(id string, raw []byte) error {
			c, err := decodeContainer(raw)
			k.records[id] = c
			return err
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
	d, err := os.Open(dir)
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
		if cove.Is(err, cove.InUse) || cove.Is(err, cove.NotFound) {
			return s.Difference, false, nil
		}
		if err != nil {
			return s.Difference, false, err
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
			s.note(s.verb())
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
		s.note(s.repair())
	case s.verb != nil:
		s.note(s.verb())
	}
	return s.Difference, true, nil
}

func (s *suspicion) note(err error) {
	if s.Repaired = err == nil; err != nil {
		s.Problem += "; repairing it failed: " + err.Error()
	}
}

// unknown reports whether the store has no such object.
func (k *survey) unknown(kind lock.Kind, id string) bool {
	err := k.e.store.View(func(tx state.Tx) error {
		switch kind {
		case lock.Container:
			return tx.Get(state.Containers, id, new(cove.Container))
		case lock.Volume:
			return tx.Get(state.Volumes, id, new(cove.Volume))
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
	c := new(cove.Container)
	err := k.e.store.View(func(tx state.Tx) error { return tx.Get(state.Containers, id, c) })
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

// storeIDFile and the meta key of the same name hold the same random words: a
// store that was replaced by another one must not make its predecessor's
// containers look like leftovers.
const storeIDFile = "store-id"

// identity compares the store with the directories beside it.
func (k *survey) identity() {
	name := filepath.Join(k.e.conf.Home(), storeIDFile)
	beside, err := readProc(name, 256)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.fail(cove.E("read", name, fileKind(err), err))
		k.replaced = true
		return
	}
	var inside []byte
	err = k.e.store.View(func(tx state.Tx) error {
		v, err := tx.Meta(storeIDFile)
		inside = slices.Clone(v)
		return err
	})
	k.fail(err)
	switch {
	case len(beside) > 0 && string(beside) != string(inside):
		k.replaced = true
		k.suspicions = append(k.suspicions, suspicion{
			Difference: Difference{Kind: "store", Object: k.e.store.Path(), Problem: "it is not the store that the containers' directories were made with; what has no record is left alone"},
			still:      func() (bool, error) { return true, nil },
		})
	default:
		k.unmarked = len(beside) == 0 && err == nil
	}
}

// markStore gives the store and its directories their common mark, once.
func (e *Engine) markStore() error {
	var id []byte
	err := e.update(func(tx state.Tx) error {
		v, err := tx.Meta(storeIDFile)
		if id = slices.Clone(v); err != nil || len(id) > 0 {
			return err
		}
		id = []byte(newID())
		return tx.SetMeta(storeIDFile, id)
	})
	if err != nil {
		return err
	}
	name := filepath.Join(e.conf.Home(), storeIDFile)
	if err := replaceFile(name, string(id)); err != nil {
		return cove.E("write", name, fileKind(err), err)
	}
	return nil
}

var errReplaced = errors.New("the state store was replaced: remove it by hand if nobody needs it")

// containers looks for what the records promise.
func (k *survey) containers(quick bool) {
	e := k.e
	for id, c := range k.records {
		if k.marks[id] {
			continue
		}
		add := func(s suspicion) {
			s.kind, s.id, s.Owner = lock.Container, id, id
			k.suspicions = append(k.suspicions, s)
		}
		now, err := e.look(c)
		if err != nil {
			add(suspicion{
				Difference: Difference{Kind: "run file", Object: filepath.Join(e.dir(id), "run"), Problem: err.Error()}, live: true,
				still: func() (bool, error) { _, err := k.now(id); return err != nil, nil },
			})
			continue
		}
		k.running[id] = now.Run.PID != 0
		if c.Intent == cove.BeingRemoved {
			add(suspicion{
				Difference: Difference{Kind: "record", Object: c.Name, Problem: "its removal was cut short"}, live: true,
				still: func() (bool, error) { n, err := k.now(id); return n != nil && n.Intent == cove.BeingRemoved, err },
				verb:  func() error { return e.Remove(k.ctx, id, RemoveOptions{Force: true}) },
			})
			continue
		}
		if !exists(e.dir(id)) && !lostInCrash(&now) {
			add(suspicion{
				Difference: Difference{Kind: "directory", Object: e.dir(id), Problem: "missing, with the container's files"}, live: true,
				still:  func() (bool, error) { n, err := k.now(id); return n != nil && !exists(e.dir(id)), err },
				repair: func() error { return e.makeDir(c) },
			})
		}
		if diff := filepath.Join(e.dir(id), "diff"); exists(e.dir(id)) && !exists(diff) && !lostInCrash(&now) {
			add(suspicion{
				Difference: Difference{Kind: "layer", Object: diff, Problem: "missing, with what the container has written"}, live: true,
				still:  func() (bool, error) { n, err := k.now(id); return n != nil && !exists(diff), err },
				repair: func() error { return e.makeDir(c) },
			})
		}
		if unsettled(&now) {
			add(suspicion{
				Difference: Difference{Kind: "record", Object: c.Name, Problem: "its end was not recorded: " + now.Run.Exit},
				still:      func() (bool, error) { n, err := k.now(id); return n != nil && unsettled(n), err },
				verb: func() error {
					h, err := e.hold(k.ctx, id) // settles it
					if err == nil {
						h.release()
					} else if errors.Is(err, errSettledAway) {
						err = nil
					}
					return err
				},
			})
		}
		if pending(c) {
			add(suspicion{
				Difference: Difference{Kind: "record", Object: c.Name, Problem: "a change of its networks was cut short"}, live: true,
				still: func() (bool, error) { n, err := k.now(id); return n != nil && pending(&n.Container), err },
				verb: func() error {
					h, err := e.holdAsIs(k.ctx, id) // settles it
					if err == nil {
						h.release()
					}
					return err
				},
			})
		}
		if now.Run.PID != 0 {
			k.process(id, c, &now)
		}
		if !quick {
			k.layers(c, add)
		}
	}
}

// unsettled tells whether a monitor was killed and nobody has recorded the
// end, nor taken down what is left.
func unsettled(c *Container) bool {
	return c.Run.Exit != "" && c.Status == cove.Exited && c.Run.Generation > 0 && !c.Run.Down && !lostInCrash(c)
}

// process suspects a container that is called running of not having its
// process or cgroups.
func (k *survey) process(id string, c *cove.Container, now *Container) {
	missing := func(kind, object, problem string, test func(*Container) bool) {
		if !test(now) {
			return
		}
		k.suspicions = append(k.suspicions, suspicion{
			Difference: Difference{Kind: kind, Object: object, Owner: id, Problem: problem},
			kind:       lock.Container, id: id, live: true,
			still: func() (bool, error) {
				n, err := k.now(id)
				return err == nil && n != nil && n.Run.PID != 0 && test(n), err
			},
		})
	}
	missing("process", strconv.Itoa(now.Run.PID), "the container's init is gone and its monitor has not recorded it", func(n *Container) bool {
		start, err := procfs.StartTime(n.Run.PID)
		return err != nil || n.Run.PIDStart != 0 && start != n.Run.PIDStart
	})
	missing("uplink", c.Name, "its network is not connected, and its monitor goes on trying: "+now.Run.Disconnected, func(n *Container) bool {
		return n.Run.Disconnected != ""
	})
	missing("cgroup", cgroupPath(c), "missing, and its container runs: stop it", func(*Container) bool {
		dirs, err := k.e.cgroupDirs(c)
		return err == nil && slices.ContainsFunc(dirs, func(d string) bool { return !exists(d) })
	})
}

// layers looks for the image's layers, which other tools may have removed, and
// for the pin that keeps them from doing so. Layers of additional stores are
// absolute and cannot be pinned.
func (k *survey) layers(c *cove.Container, add func(suspicion)) {
	own := false
	for _, l := range c.Image.Layers {
		if !filepath.IsAbs(l) {
			own = true
			l = filepath.Join(k.e.conf.GraphRoot, l)
		}
		gone := func() bool { _, err := os.Stat(l); return errors.Is(err, fs.ErrNotExist) }
		if gone() {
			add(suspicion{
				Difference: Difference{Kind: "layer", Object: l, Problem: "missing: its image was removed by another tool; pull it again, or remove the container"}, live: true,
				still: func() (bool, error) { return gone(), nil },
			})
		}
	}
	for _, part := range []string{"layer", "container layer"} {
		pin := image.PinID(part, c.Image.ID)
		missing := func() bool {
			place := image.LayerDir(k.e.conf.Driver, pin)
			return !exists(filepath.Join(k.e.conf.GraphRoot, place)) &&
				(k.e.conf.ImageStore == "" || !exists(filepath.Join(k.e.conf.ImageStore, place)))
		}
		if own && missing() {
			add(suspicion{
				Difference: Difference{Kind: "pin", Object: pin, Problem: "missing: other tools may remove the layers of image " + c.Image.Name}, live: true,
				still: func() (bool, error) { return missing(), nil },
				// To find the image for a container is to pin it.
				repair: func() error { _, err := k.e.images.Resolve(k.ctx, c.Image.ID, ""); return err },
			})
		}
	}
}

// cgroups looks for those of containers that do not run.
func (k *survey) cgroups() {
	layout, err := k.e.cgroups()
	if err != nil {
		k.fail(err)
		return
	}
	parents := map[string]bool{cgroupParent: true, path.Dir(scopeOf(&cove.Container{}).Path()): true}
	for _, c := range k.records {
		if c.CgroupManager == systemd {
			parents[path.Dir(scopeOf(c).Path())] = true
		} else {
			parents[path.Dir(cgroupPath(c))] = true
		}
	}
	for parent := range parents {
		names, err := layout.List(parent)
		k.fail(err)
		for _, name := range names {
			id := strings.TrimSuffix(strings.TrimPrefix(name, "cove-"), ".scope")
			if !isID(id) || name != id && name != scopeName(id) || !k.traces[id] || k.running[id] {
				continue
			}
			at := path.Join(parent, name)
			dirs, err := layout.At(at)
			if err != nil {
				k.fail(err)
				continue
			}
			there := func() (bool, error) { return slices.ContainsFunc(dirs, exists), nil }
			if name != id { // systemd collects an empty one by itself
				there = func() (bool, error) { pids, err := cgroup.Pids(dirs); return len(pids) > 0, err }
			}
			k.leftover("cgroup", at, id, there,
				func() error {
					if err := cgroup.Kill(dirs, time.Now().Add(10*time.Second)); err != nil {
						return err
					}
					return cgroup.Remove(dirs)
				})
		}
	}
}

// network looks for links, firewall elements and bridges.
func (k *survey) network() {
	e := k.e
	for _, n := range k.going {
		k.suspicions = append(k.suspicions, suspicion{
			Difference: Difference{Kind: "network", Object: n.Name, Owner: n.ID, Problem: "its removal was cut short"},
			kind:       lock.Network, id: n.Name,
			still: func() (bool, error) {
				found := false
				err := e.store.View(func(tx state.Tx) error {
					going, err := goingNetworks(tx)
					found = slices.ContainsFunc(going, func(g cove.Network) bool { return g.ID == n.ID })
					return err
				})
				return found, err
			},
			verb: func() error { return e.finishNetworks(k.ctx) },
		})
	}
	r, err := e.networks.List(k.ctx)
	if err != nil {
		k.fail(err)
		return
	}
	k.uplink()
	k.links(r)
	k.elements(r)
	k.rules(r)
	k.bridges(r)
}

// uplink looks for what connects an ordinary user's bridges.
func (k *survey) uplink() {
	if k.e.lan == nil {
		return
	}
	on := ""
	for id, c := range k.records {
		if k.running[id] && len(c.Attachments) > 0 {
			on = id
		}
	}
	if on == "" {
		return
	}
	k.suspicions = append(k.suspicions, suspicion{
		Difference: Difference{Kind: "uplink", Object: k.e.userMode(), Owner: on, Problem: "missing, and containers are on this user's networks"},
		still: func() (bool, error) {
			kept, err := k.e.lan.Kept()
			if idle, ierr := k.idle(on); kept || idle || err != nil || ierr != nil {
				return false, errors.Join(err, ierr)
			}
			return true, nil
		},
		repair: func() error {
			netns, _, err := k.e.lan.Join()
			if err == nil {
				err = unix.Close(netns)
			}
			return err
		},
	})
}

func (k *survey) links(r network.Reality) {
	e := k.e
	present := map[string]bool{}
	for _, l := range r.Links {
		present[l.Name] = !l.Loose
		id := k.owner(l.OwnerPrefix)
		if id == "" || k.running[id] {
			continue
		}
		k.leftover("link", l.Name, id,
			func() (bool, error) {
				r, err := e.networks.List(k.ctx)
				return slices.Contains(r.Links, l), err
			},
			func() error { return e.networks.RemoveLink(k.ctx, l.Name) })
	}
	for id, c := range k.records {
		for i := range c.Attachments {
			name := network.LinkName(id, c.Attachments[i].Link)
			if !k.running[id] || present[name] || c.Attachments[i].Pending != "" {
				continue
			}
			k.suspicions = append(k.suspicions, suspicion{
				Difference: Difference{Kind: "link", Object: name, Owner: id, Problem: "missing, and its container runs: it has no network " + c.Attachments[i].Network},
				kind:       lock.Container, id: id, live: true,
				still: func() (bool, error) {
					if idle, err := k.idle(id); err != nil || idle {
						return false, err
					}
					r, err := e.networks.List(k.ctx)
					return !slices.ContainsFunc(r.Links, func(l network.Link) bool { return l.Name == name && !l.Loose }), err
				},
				repair: func() error { return k.reconnect(id) },
			})
		}
	}
}

// reconnect makes a running container's networks anew, as far as they are not
// what its record says. Its lock is held.
func (k *survey) reconnect(id string) error {
	now, err := k.now(id)
	if err != nil || now == nil {
		return err
	}
	return k.e.carryOut(k.ctx, &held{Container: *now, e: k.e})
}

// reaches tells whether a container is on a network that leads out of the host:
// only then its ports are published by the firewall.
func (k *survey) reaches(c *cove.Container) bool {
	return slices.ContainsFunc(c.Attachments, func(a cove.NetworkAttachment) bool {
		return slices.ContainsFunc(k.networks, func(n cove.Network) bool { return n.Name == a.Network && !n.Internal })
	})
}

// owner finds the only ID of ours with that beginning.
func (k *survey) owner(prefix string) string {
	found := ""
	for id := range k.traces {
		if strings.HasPrefix(id, prefix) {
			if found != "" {
				return ""
			}
			found = id
		}
	}
	return found
}

func (k *survey) elements(r network.Reality) {
	e := k.e
	list := func(r network.Reality) map[string][]string {
		ports := map[string][]string{}
		for _, el := range r.Elements {
			ports[el.ContainerID] = append(ports[el.ContainerID], fmt.Sprintf("%d/%s", el.HostPort, el.Protocol))
		}
		return ports
	}
	now := func() (map[string][]string, error) {
		r, err := e.networks.List(k.ctx)
		return list(r), err
	}
	ports := list(r)
	for id, list := range ports {
		if !k.traces[id] || k.running[id] {
			continue
		}
		slices.Sort(list)
		k.leftover("nft", strings.Join(slices.Compact(list), " "), id,
			func() (bool, error) { there, err := now(); return len(there[id]) > 0, err },
			func() error { return e.networks.RemoveElements(k.ctx, id) })
	}
	for id, c := range k.records {
		missing := lacking(c, ports[id])
		if e.lan != nil || !k.running[id] || !k.reaches(c) || len(missing) == 0 {
			continue
		}
		k.suspicions = append(k.suspicions, suspicion{
			Difference: Difference{Kind: "nft", Object: strings.Join(missing, " "), Owner: id, Problem: "published by a container that runs, and missing from the firewall"},
			kind:       lock.Container, id: id, live: true,
			still: func() (bool, error) {
				if idle, err := k.idle(id); err != nil || idle {
					return false, err
				}
				there, err := now()
				return len(lacking(c, there[id])) > 0, err
			},
			repair: func() error { return k.reconnect(id) },
		})
	}
}

// rules looks for those of networks that containers are on: firewalls of others
// are known to flush the whole rule set.
func (k *survey) rules(r network.Reality) {
	missing := func(r network.Reality, n *cove.Network) bool {
		return r.Ruled && !slices.ContainsFunc(r.Bridges, func(b network.Bridge) bool { return b.Name == n.NetworkInterface && b.Rules })
	}
	for i := range k.networks {
		n := &k.networks[i]
		if !missing(r, n) {
			continue
		}
		for id, c := range k.records {
			if !k.running[id] || !slices.ContainsFunc(c.Attachments, func(a cove.NetworkAttachment) bool { return a.Network == n.Name && a.Pending == "" }) {
				continue
			}
			k.suspicions = append(k.suspicions, suspicion{
				Difference: Difference{Kind: "nft", Object: n.Name, Owner: id, Problem: "the network's rules are missing from the firewall, and a container is on it"},
				kind:       lock.Container, id: id, live: true,
				still: func() (bool, error) {
					if idle, err := k.idle(id); err != nil || idle {
						return false, err
					}
					r, err := k.e.networks.List(k.ctx)
					return missing(r, n), err
				},
				repair: func() error { return k.reconnect(id) },
			})
			break
		}
	}
}

// lacking gives the published ports of a container that are not among those in
// the firewall.
func lacking(c *cove.Container, there []string) (missing []string) {
	for _, p := range c.Ports {
		for i := range max(p.Range, 1) {
			if port := fmt.Sprintf("%d/%s", p.HostPort+i, p.Protocol); !slices.Contains(there, port) && !slices.Contains(missing, port) {
				missing = append(missing, port)
			}
		}
	}
	return missing
}

// bridges looks for those of networks that were this store's: a network's ID
// is made from its name, and its lock file tells the name.
func (k *survey) bridges(r network.Reality) {
	e := k.e
	for _, b := range r.Bridges {
		known := func(n cove.Network) bool { return n.ID == b.NetworkID }
		if b.NetworkID == "" || slices.ContainsFunc(k.networks, known) || slices.ContainsFunc(k.going, known) {
			continue
		}
		for _, o := range k.locks {
			if o.Kind != lock.Network || network.ID(o.ID) != b.NetworkID {
				continue
			}
			name := o.ID
			k.suspicions = append(k.suspicions, suspicion{
				Difference: Difference{Kind: "bridge", Object: b.Name, Owner: b.NetworkID, Problem: "its network has no record"},
				kind:       lock.Network, id: name,
				still: func() (bool, error) {
					if !k.unknown(lock.Network, name) || !bridgeEmpty(b.Name) {
						return false, nil
					}
					r, err := e.networks.List(k.ctx)
					return slices.Contains(r.Bridges, b), err
				},
				repair: func() error { return e.networks.RemoveBridge(k.ctx, b.Name) },
			})
		}
	}
}

// bridgeEmpty tells whether nothing is on a bridge: another store's container
// may be on one of the same name.
func bridgeEmpty(name string) bool {
	ports, err := dirNames(filepath.Join("/sys/class/net", name, "brif"))
	return err == nil && len(ports) == 0
}

// mounts looks for what is mounted in containers' directories in our own mount
// namespace: containers mount in theirs.
func (k *survey) mounts() {
	base := k.e.conf.Containers() + "/"
	points := func() ([]string, error) {
		data, err := readProc("/proc/self/mountinfo", 64<<20)
		var all []string
		for line := range strings.SplitSeq(string(data), "\n") {
			// Field 5 is the mount point, proc_pid_mountinfo(5).
			fields := strings.Fields(line)
			if len(fields) < 5 {
				continue
			}
			p := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4])
			if strings.HasPrefix(p, base) {
				all = append(all, p)
			}
		}
		return all, err
	}
	all, err := points()
	k.fail(err)
	slices.Reverse(all) // the last one is uppermost
	for _, p := range all {
		id, _, _ := strings.Cut(strings.TrimPrefix(p, base), "/")
		if k.running[id] {
			continue // cp and commit mount for a moment
		}
		k.leftover("mount", p, id,
			func() (bool, error) { now, err := points(); return slices.Contains(now, p), err },
			func() error { return unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) })
	}
}

// processes looks for monitors of containers that have no record, and for
// processes in the root file systems of containers that do not run. Which
// container a monitor is for, and of which store, its liveness lock tells.
func (k *survey) processes() {
	pids, err := processes()
	k.fail(err)
	strays := map[string]bool{}
	for _, pid := range pids {
		if id := k.e.rootOf(pid); id != "" && k.traces[id] && !k.running[id] && !strays[id] {
			strays[id] = true
			k.leftover("process", strconv.Itoa(pid), id,
				// This one may be the init that settling its run has ended.
				func() (bool, error) {
					pids, err := processes()
					return slices.ContainsFunc(pids, func(pid int) bool { return k.e.rootOf(pid) == id }), err
				},
				func() error { return k.e.endStrays(id) })
		}
		id := k.e.monitorOf(pid)
		if id == "" || k.records[id] != nil {
			continue
		}
		k.suspicions = append(k.suspicions, suspicion{
			Difference: Difference{Kind: "process", Object: strconv.Itoa(pid), Owner: id, Problem: "a monitor whose container has no record"},
			kind:       lock.Container, id: id, live: true,
			still: func() (bool, error) {
				now, err := k.now(id)
				return err == nil && now == nil && k.e.monitorOf(pid) == id, err
			},
			repair: func() error {
				if k.replaced {
					return errReplaced
				}
				return k.e.endMonitor(pid, id)
			},
		})
	}
}

// processes lists the process IDs that there are.
func processes() (pids []int, err error) {
	names, err := dirNames("/proc")
	for _, text := range names {
		if pid, err := strconv.Atoi(text); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// monitorOf gives the ID of the container of ours that a process monitors, ""
// when it is no monitor or another store's.
func (e *Engine) monitorOf(pid int) string {
	p, ok := openProcess(pid)
	if !ok {
		return ""
	}
	defer p.close()
	args, err := p.read("cmdline", 4096)
	argv := strings.Split(string(args), "\x00")
	if err == nil && filepath.Base(argv[0]) == "conmon" {
		return e.conmonOf(argv)
	}
	if err != nil || argv[0] != "cove-monitor" {
		return ""
	}
	fds, err := dirNames(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return ""
	}
	for _, fd := range fds {
		target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd))
		if err != nil {
			continue
		}
		target = strings.TrimSuffix(target, " (deleted)")
		parent, id := filepath.Split(filepath.Dir(target))
		parent = filepath.Clean(parent)
		if filepath.Base(target) == runfile.Name && isID(id) && (parent == e.conf.Containers() || parent == e.conf.Removed()) {
			return id
		}
	}
	return ""
}

// conmonOf gives the ID of the container that a conmon of this command line
// watches for this store, "" for another's. What it has open it closes before its
// exit command runs.
func (e *Engine) conmonOf(argv []string) string {
	value := func(flag string) string {
		if i := slices.Index(argv, flag); i >= 0 && i+1 < len(argv) {
			return argv[i+1]
		}
		return ""
	}
	if id := value("--cid"); isID(id) && value("--exit-dir") == e.exits(id) {
		return id
	}
	return ""
}

// endMonitor kills a monitor; its init dies with it, and what is left in the
// cgroup is the cgroup's own difference of the next check.
func (e *Engine) endMonitor(pid int, id string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if e.monitorOf(pid) != id { // it was another process when we opened it
		return nil
	}
	return endProcess(fd, 5*time.Second)
}

// endProcess kills a process and waits until it is gone.
func endProcess(pidfd int, limit time.Duration) error {
	if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return err
	}
	wait := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for end := time.Now().Add(limit); time.Now().Before(end); {
		if n, err := unix.Poll(wait, int(time.Until(end).Milliseconds())+1); n > 0 && err == nil {
			return nil
		}
	}
	return errors.New("it does not die")
}

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
	dir := filepath.Join(k.e.conf.Scratch(), "containers")
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

// publishedNames looks for names of containers that do not run.
func (k *survey) publishedNames() {
	base := k.e.namesDir()
	networks, err := dirNames(base)
	k.fail(err)
	for _, n := range networks {
		names, err := dirNames(filepath.Join(base, n))
		k.fail(err)
		for _, name := range names {
			ids, err := dirNames(filepath.Join(base, n, name))
			k.fail(err)
			for _, id := range ids {
				if !isID(id) || !k.traces[id] || k.running[id] {
					continue
				}
				p := filepath.Join(base, n, name, id)
				k.leftover("name", n+"/"+name, id,
					func() (bool, error) { return exists(p), nil },
					func() error {
						err := os.Remove(p)
						_ = os.Remove(filepath.Dir(p)) // if it was the last one
						return err
					})
			}
		}
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
			s.verb = func() error { return e.dropVolume(k.ctx, v.Name) }
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

// present turns NotFound into no.
func present(is bool, err error) (bool, error) {
	if cove.Is(err, cove.NotFound) {
		return false, nil
	}
	return is && err == nil, err
}

// named is a record's ID and name.
type named struct{ id, name string }

// nameIndex compares the names claimed with the records' names.
func (k *survey) nameIndex() {
	for _, b := range []state.Bucket{state.Containers, state.Networks} {
		var extra, missing []named
		err := k.e.store.View(func(tx state.Tx) (err error) {
			extra, missing, err = namesOff(tx, b)
			return err
		})
		k.fail(err)
		for _, n := range extra {
			k.indexed(b, n, "the name is claimed, and no record has it", func(tx state.Tx) error { return tx.Release(b, n.name) })
		}
		for _, n := range missing {
			k.indexed(b, n, "the record's name is not claimed", func(tx state.Tx) error { return tx.Claim(b, n.name, n.id) })
		}
	}
}

// indexed suspects one name; the repair looks again in its own transaction.
func (k *survey) indexed(b state.Bucket, n named, problem string, fix func(state.Tx) error) {
	off := func(tx state.Tx) (bool, error) {
		extra, missing, err := namesOff(tx, b)
		return slices.Contains(extra, n) || slices.Contains(missing, n), err
	}
	k.suspicions = append(k.suspicions, suspicion{
		Difference: Difference{Kind: "name", Object: n.name, Owner: n.id, Problem: problem},
		still: func() (is bool, err error) {
			err = k.e.store.View(func(tx state.Tx) error { is, err = off(tx); return err })
			return is, err
		},
		repair: func() error {
			return k.e.update(func(tx state.Tx) error {
				if is, err := off(tx); err != nil || !is {
					return err
				}
				return fix(tx)
			})
		},
	})
}

// namesOff gives the names that no record has, and the records whose name is
// not theirs.
func namesOff(tx state.Tx, b state.Bucket) (extra, missing []named, err error) {
	buckets := []state.Bucket{b}
	if b == state.Containers {
		buckets = append(buckets, state.Pods) // one space of names
	}
	records := map[string]string{}
	for _, b := range buckets {
		err := tx.List(b, func(id string, raw []byte) error {
			var r struct {
				Name string `json:"name"`
			}
			if err := json.Unmarshal(raw, &r); err != nil {
				return cove.E("read record", id, cove.Internal, err)
			}
			records[id] = r.Name
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
	}
	err = tx.Names(b, func(name, id string) error {
		if records[id] != name {
			extra = append(extra, named{id, name})
		} else {
			delete(records, id)
		}
		return nil
	})
	for id, name := range records {
		missing = append(missing, named{id, name})
	}
	slices.SortFunc(missing, func(a, b named) int { return strings.Compare(a.id, b.id) })
	return extra, missing, err
}

// leases compares the address leases with the containers' attachments.
func (k *survey) leases() {
	names := map[string]bool{}
	for _, n := range k.networks {
		names[n.Name] = true
	}
	for _, c := range k.records {
		for _, a := range c.Attachments {
			names[a.Network] = true
		}
	}
	for name := range names {
		var off []leaseOff
		err := k.e.store.View(func(tx state.Tx) (err error) {
			off, err = leasesOff(tx, name)
			return err
		})
		k.fail(err)
		for _, l := range off {
			k.suspicions = append(k.suspicions, suspicion{
				Difference: Difference{Kind: "lease", Object: l.addr.String() + " on " + name, Owner: l.owner, Problem: l.problem()},
				still: func() (is bool, err error) {
					err = k.e.store.View(func(tx state.Tx) error {
						now, err := leasesOff(tx, name)
						is = slices.Contains(now, l)
						return err
					})
					return is, err
				},
				repair: func() error {
					return k.e.update(func(tx state.Tx) error { return fixLease(tx, name, l) })
				},
			})
		}
	}
}

// leaseOff is an address that is leased and in no record (extra), or in a
// record and not leased to it.
type leaseOff struct {
	addr  netip.Addr
	owner string
	extra bool
}

func (l leaseOff) problem() string {
	if l.extra {
		return "leased, and no container has the address"
	}
	return "the container has the address without a lease"
}

func leasesOff(tx state.Tx, name string) ([]leaseOff, error) {
	want := map[netip.Addr]string{}
	err := tx.List(state.Containers, func(id string, raw []byte) error {
		c, err := decodeContainer(raw)
		if err != nil {
			return err
		}
		for _, a := range c.Attachments {
			for _, p := range a.Addresses {
				if a.Network == name {
					want[p.Addr()] = id
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var off []leaseOff
	err = tx.Leases(name, func(a netip.Addr, owner string) error {
		if want[a] == owner {
			delete(want, a)
		} else {
			off = append(off, leaseOff{a, owner, true})
		}
		return nil
	})
	for a, owner := range want {
		off = append(off, leaseOff{addr: a, owner: owner})
	}
	slices.SortFunc(off, func(x, y leaseOff) int { return x.addr.Compare(y.addr) })
	return off, err
}

// fixLease makes an owner's leases on a network those that its record has.
func fixLease(tx state.Tx, name string, l leaseOff) error {
	now, err := leasesOff(tx, name)
	if err != nil || !slices.Contains(now, l) {
		return err
	}
	if l.extra {
		if err := tx.Unlease(name, l.owner); err != nil {
			return err
		}
	}
	c := new(cove.Container)
	if err := tx.Get(state.Containers, l.owner, c); err != nil {
		if cove.Is(err, cove.NotFound) {
			return nil
		}
		return err
	}
	for _, a := range c.Attachments {
		if a.Network != name {
			continue
		}
		for _, p := range a.Addresses {
			if _, err := tx.Lease(name, p.Masked(), p.Addr(), p.Addr(), p.Addr(), nil, c.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// lockFiles looks for locks whose object is gone.
func (k *survey) lockFiles() {
	for _, o := range k.locks {
		if !k.unknown(o.Kind, o.ID) || o.Kind == lock.Container && k.marks[o.ID] {
			continue
		}
		owner := o.ID
		if o.Kind == lock.Network {
			owner = network.ID(o.ID)
		}
		k.suspicions = append(k.suspicions, suspicion{
			Difference: Difference{Kind: "lock", Object: o.Kind.String() + "-" + o.ID, Owner: owner, Problem: "its " + o.Kind.String() + " has no record"},
			kind:       o.Kind, id: o.ID, trace: true,
			still: func() (bool, error) {
				known, err := k.e.locks.Known()
				return slices.Contains(known, o) && k.unknown(o.Kind, o.ID), err
			},
			repair: func() error { return k.e.locks.Forget(o.Kind, o.ID) },
		})
	}
}
