package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/ownplace"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/state"
)

// storeIDFile and the meta key of the same name hold the same random words: a
// store that was replaced by another one must not make its predecessor's
// containers look like leftovers.
const storeIDFile = "store-id"

// identity compares the store with the directories beside it.
func (k *survey) identity() {
	name := filepath.Join(k.e.conf.Home(), storeIDFile)
	beside, err := procfs.Read(name, 256)
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
		dir := e.dir(id)
		if noDirectory(dir) {
			add(suspicion{
				Difference: Difference{Kind: "directory", Object: dir, Problem: "it is no directory, and the container's files belong there"}, live: true,
				still: func() (bool, error) { return noDirectory(dir), nil },
				repair: func() error {
					if err := ownplace.Directory(dir); err != nil {
						return err
					}
					return e.makeDir(c)
				},
			})
			continue // all else follows from that
		}
		unread := slices.ContainsFunc(k.damaged, func(d damagedRecord) bool { return d.b == state.Containers && d.id == id })
		now, err := e.look(c)
		if unread {
			k.running[id] = now.Run.PID != 0 || alive(e.dir(id))
			continue // k.damage tells of it
		}
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
				verb:  func() error { return e.Remove(k.ctx, id, RemoveOptions{Force: true, Timeout: new(uint)}) },
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
		if e.lostAide(&now) != nil {
			add(suspicion{
				Difference: Difference{Kind: "aide", Object: c.Name, Problem: "killed: the container is without what it had from it, health checks, names or its network"}, live: true,
				still: func() (bool, error) { n, err := k.now(id); return n != nil && e.lostAide(n) != nil, err },
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
