package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/state"
)

// A record that cannot be read is the harm of its own object alone. Lists show
// what is known of it: the ID, the name, whether it runs. What it may use stays:
// removals of volumes, images and networks are refused until it has been put aside
// (Check) or removed by force. Of a container that is enough to end it and to take
// it down, for everything is named by the ID.

// glance reads a container's record; of a damaged one, with the error that says
// so, what is known without it.
func (e *Engine) glance(tx state.Tx, id string) (*cove.Container, error) {
	c := new(cove.Container)
	err := tx.Get(state.Containers, id, c)
	if err == nil {
		return c, nil
	}
	if !errors.Is(err, state.ErrDamaged) {
		return nil, err
	}
	name, nerr := nameOf(tx, state.Containers, id)
	if nerr != nil {
		return nil, nerr
	}
	return e.stub(id, name), err
}

// stub stands for a container's record that cannot be read.
func (e *Engine) stub(id, name string) *cove.Container {
	c := &cove.Container{ID: id, Name: name, CgroupManager: e.cgroupManager()}
	if exists(e.exits(id)) {
		c.Spec.Monitor = "conmon"
	}
	return c
}

// unread is a container whose record or run file cannot be read; c is nil when it is
// the record.
func (e *Engine) unread(id string, c *cove.Container, err error) Container {
	if c == nil {
		var name string
		_ = e.store.View(func(tx state.Tx) (err error) {
			name, err = nameOf(tx, state.Containers, id)
			return err
		})
		c = e.stub(id, name)
	}
	out, _ := e.look(c)
	out.Status, out.Unread = cove.Unknown, err
	return out
}

// livesUnread tells of a container that cannot be read whether its monitor lives.
func (c *Container) livesUnread() bool { return c.Unread != nil && alive(c.Dir) }

// nameOf gives the name that is claimed for an ID, "" for none.
func nameOf(tx state.Tx, b state.Bucket, id string) (name string, err error) {
	err = tx.Names(b, func(n, of string) error {
		if of == id {
			name = n
		}
		return nil
	})
	return name, err
}

// decodeContainer reads the record that the store holds of a container.
func decodeContainer(id string, raw []byte) (*cove.Container, error) {
	c := new(cove.Container)
	if err := state.Decode(state.Containers, id, raw, c); err != nil {
		return nil, err
	}
	return c, nil
}

// readable calls each for every container whose record can be read.
func readable(tx state.Tx, each func(c *cove.Container)) error {
	return tx.List(state.Containers, func(id string, raw []byte) error {
		if c, err := decodeContainer(id, raw); err == nil {
			each(c)
		}
		return nil
	})
}

// withForce is what an error about a container comes to where it is to end all the
// same: if that is that its record is damaged, what is known of it, held.
func (e *Engine) withForce(ctx context.Context, nameOrID string, err error) (*held, error) {
	if !errors.Is(err, state.ErrDamaged) {
		return nil, err
	}
	var c *cove.Container
	read := func(nameOrID string) error {
		return e.store.View(func(tx state.Tx) error {
			id, err := tx.Find(state.Containers, bareName(nameOrID))
			if err == nil {
				c, err = e.glance(tx, id)
			}
			return err
		})
	}
	if rerr := read(nameOrID); !errors.Is(rerr, state.ErrDamaged) {
		return nil, errors.Join(err, rerr)
	}
	l, lerr := e.lockContainer(ctx, c.ID)
	if lerr != nil {
		return nil, lerr
	}
	h := &held{e: e, lock: l}
	if rerr := read(c.ID); !errors.Is(rerr, state.ErrDamaged) {
		h.release()
		return nil, errors.Join(err, rerr) // somebody has removed it just now
	}
	if h.Container, lerr = e.look(c); lerr != nil {
		h.Container = Container{Container: *c, Dir: e.dir(c.ID)} // its run file is no better
	}
	h.Unread = err
	return h, nil
}

// endDamaged ends what runs of a container whose record cannot be read.
func (e *Engine) endDamaged(ctx context.Context, h *held, op string, o StopOptions) error {
	if h.Run.PID != 0 {
		if err := e.stopAsked(ctx, h, o); err != nil && ctx.Err() != nil {
			return cove.E(op, h.ID, cove.KindOf(err), err)
		}
	}
	if err := e.endMonitors(h.ID); err != nil {
		return err
	}
	if !monitorEnds(h.Dir, 10*time.Second) {
		return cove.E(op, h.ID, cove.Unavailable, errors.New("its monitor does not end"))
	}
	if err := e.networks.RemoveElements(ctx, h.ID); err != nil {
		return err
	}
	return e.clear(&h.Container)
}

// stopDamaged is Stop of such a container.
func (e *Engine) stopDamaged(ctx context.Context, h *held, o StopOptions) error {
	defer h.release()
	if h.Run.PID == 0 && !alive(h.Dir) {
		return nil
	}
	return e.endDamaged(ctx, h, "stop container", o)
}

// removeDamaged is Remove of such a container. Its volumes stay: nobody can tell
// which were its own.
func (e *Engine) removeDamaged(ctx context.Context, h *held) error {
	defer h.release()
	if err := e.endDamaged(ctx, h, "remove container", StopOptions{Timeout: new(uint)}); err != nil {
		return err
	}
	c := &h.Container.Container
	if err := e.update(func(tx state.Tx) error { return e.dropDamaged(tx, c.ID) }); err != nil {
		return err
	}
	e.forget(c)
	e.emit(c, "remove")
	return nil
}

// dropDamaged deletes a container's record that cannot be read, with all that the
// store has under its ID.
func (e *Engine) dropDamaged(tx state.Tx, id string) error {
	c := &cove.Container{ID: id}
	var err error
	if c.Name, err = nameOf(tx, state.Containers, id); err != nil {
		return err
	}
	networks, err := e.allNetworks(tx)
	if err != nil {
		return err
	}
	for _, n := range networks {
		c.Attachments = append(c.Attachments, cove.NetworkAttachment{Network: n.Name})
	}
	err = tx.List(state.Containers, func(other string, _ []byte) error {
		c.DependsOn = append(c.DependsOn, other)
		return nil
	})
	if err != nil {
		return err
	}
	return e.dropRecord(tx, c)
}

// aside is where the repair puts what the store held of a damaged object, and a
// container's directory beside it.
func (e *Engine) aside(b state.Bucket, id string) string {
	return filepath.Join(e.conf.Aside(), string(b), id)
}

// keepAside writes down what the store holds of an object. What is there from an
// earlier time is another object's, or an earlier repair's that was cut short.
func (e *Engine) keepAside(b state.Bucket, id string) error {
	var raw []byte
	err := e.store.View(func(tx state.Tx) error {
		return tx.List(b, func(of string, r []byte) error {
			if of == id {
				raw = slices.Clone(r)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	place := e.aside(b, id)
	if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil {
		return cove.E("make directory", filepath.Dir(place), fileKind(err), err)
	}
	f, err := os.OpenFile(place+".record", os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err == nil {
		_, err = f.Write(raw)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		return cove.E("write", place+".record", fileKind(err), err)
	}
	return syncDir(filepath.Dir(place))
}

// putAside takes a container whose record is damaged, and of which nothing runs,
// out of the store. Its lock is held.
func (e *Engine) putAside(ctx context.Context, id string) error {
	dir, place := e.dir(id), e.aside(state.Containers, id)
	if pid, err := e.livingMonitor(id); err != nil || pid != 0 || alive(dir) {
		return errors.New("it runs; cove stop " + id[:cove.ShortIDLength] + " ends it")
	}
	var c *cove.Container
	err := e.store.View(func(tx state.Tx) (err error) {
		c, err = e.glance(tx, id)
		return err
	})
	if !errors.Is(err, state.ErrDamaged) {
		return err
	}
	if err := e.endDamaged(ctx, &held{e: e, Container: Container{Container: *c, Dir: dir}}, "put aside container", StopOptions{}); err != nil {
		return err
	}
	if err := e.keepAside(state.Containers, id); err != nil {
		return err
	}
	if exists(dir) { // or an earlier repair was cut short
		if err := unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, place, unix.RENAME_NOREPLACE); err != nil {
			return cove.E("move directory of container", id, fileKind(err), &os.LinkError{Op: "rename", Old: dir, New: place, Err: err})
		}
	}
	if err := e.update(func(tx state.Tx) error { return e.dropDamaged(tx, id) }); err != nil {
		return err
	}
	e.forget(c)
	return nil
}

// rebuildVolume gives a volume whose record is damaged a new one. What it cannot
// know any more are labels, and whether it was made for one container: it stays
// when that goes. Its lock is held.
func (e *Engine) rebuildVolume(name string) error {
	v := cove.Volume{Schema: cove.Schema, Name: name, Driver: "local", Created: time.Now()}
	var st unix.Stat_t
	if err := unix.Stat(e.volumeData(name), &st); err == nil {
		v.UID, v.GID = int(st.Uid), int(st.Gid)
	}
	return e.update(func(tx state.Tx) error {
		if err := tx.Get(state.Volumes, name, new(cove.Volume)); !errors.Is(err, state.ErrDamaged) {
			return err
		}
		if err := tx.Delete(state.Volumes, name); err != nil { // or Put would keep what it does not know
			return err
		}
		return tx.Put(state.Volumes, name, &v)
	})
}

// renewVolume finds a volume whose record is damaged and gives it a new one.
func (e *Engine) renewVolume(ctx context.Context, name string) (id string, err error) {
	err = e.store.View(func(tx state.Tx) (err error) {
		id, err = tx.Find(state.Volumes, name)
		return err
	})
	if err != nil {
		return "", err
	}
	l, err := e.locks.Lock(ctx, lock.Volume, id)
	if err != nil {
		return "", err
	}
	defer l.Unlock()
	return id, e.rebuildVolume(id)
}

// putNetworkAside takes a network whose record is damaged out of the store. What
// it was made with, whether it is internal for one, nobody may guess. Containers on
// it are on the next one of its name; while one runs its bridge is needed, which
// nobody would find again. The network's lock is held.
func (e *Engine) putNetworkAside(ctx context.Context, id, name string) error {
	all, _ := e.records() // those that can be read
	for _, c := range all {
		if !slices.ContainsFunc(c.Attachments, func(a cove.NetworkAttachment) bool { return a.Network == name }) {
			continue
		}
		if now, err := e.look(c); err != nil || now.Run.PID != 0 {
			return fmt.Errorf("container %s is on it and runs; cove stop %s ends it", c.Name, c.Name)
		}
	}
	if err := e.keepAside(state.Networks, id); err != nil {
		return err
	}
	err := e.update(func(tx state.Tx) error {
		if err := tx.Get(state.Networks, id, new(cove.Network)); !errors.Is(err, state.ErrDamaged) {
			return err
		}
		return errors.Join(tx.Release(state.Networks, name), tx.Delete(state.Networks, id))
	})
	if err != nil {
		return err
	}
	return e.removeBridges(ctx, id)
}

// damagedRecord is one that cannot be read, and why. name is empty when none is
// claimed for it.
type damagedRecord struct {
	b        state.Bucket
	id, name string
	err      error
}

// damage tells of records that cannot be read.
func (k *survey) damage() {
	e := k.e
	for _, d := range k.damaged {
		s := suspicion{
			Difference: Difference{Kind: "record", Object: d.id, Owner: d.id, Problem: d.err.Error() + "; what is put aside is in " + filepath.Dir(e.aside(d.b, d.id))},
			live:       true,
			still:      func() (bool, error) { return e.isDamaged(d.b, d.id), nil },
		}
		switch d.b {
		case state.Containers:
			s.kind, s.id = lock.Container, d.id
			s.repair = func() error { return e.putAside(k.ctx, d.id) }
		case state.Volumes:
			s.kind, s.id = lock.Volume, d.id
			s.repair = func() error { return errors.Join(e.keepAside(d.b, d.id), e.rebuildVolume(d.id)) }
		case state.Networks:
			s.kind, s.id = lock.Network, cmp.Or(d.name, d.id)
			s.repair = func() error { return e.putNetworkAside(k.ctx, d.id, d.name) }
		}
		k.suspicions = append(k.suspicions, s)
	}
}

// isDamaged tells whether there is a record that cannot be read.
func (e *Engine) isDamaged(b state.Bucket, id string) bool {
	into := map[state.Bucket]any{state.Containers: new(cove.Container), state.Volumes: new(cove.Volume), state.Networks: new(cove.Network)}[b]
	return errors.Is(e.store.View(func(tx state.Tx) error { return tx.Get(b, id, into) }), state.ErrDamaged)
}

// decodeNetwork reads the record that the store holds of a network; of a damaged
// one, with the error that says so, it gives ID and name.
func decodeNetwork(tx state.Tx, id string, raw []byte) (n cove.Network, err error) {
	if err := state.Decode(state.Networks, id, raw, &n); err != nil {
		return stubNetwork(tx, id), err
	}
	return n, nil
}

func stubNetwork(tx state.Tx, id string) cove.Network {
	name, _ := nameOf(tx, state.Networks, id)
	return cove.Network{ID: id, Name: cmp.Or(name, id)}
}
