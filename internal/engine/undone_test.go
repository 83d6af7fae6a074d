package engine

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/lock/shm"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/state"
)

// nothingOf checks that no record, lock or directory of a volume is there.
func nothingOf(t *testing.T, e *Engine, volume string) {
	t.Helper()
	if _, err := e.findVolume(volume); !cove.Is(err, cove.NotFound) {
		t.Errorf("volume %s has a record: %v", volume, err)
	}
	if exists(filepath.Join(e.conf.Locks(), "volume-"+volume)) {
		t.Errorf("volume %s has a lock", volume)
	}
	if exists(e.volumeData(volume)) {
		t.Errorf("volume %s has a directory", volume)
	}
}

// A volume whose directory cannot be made leaves no record of it, nor does a
// container whose volume it is.
func TestVolumeThatCannotBeMade(t *testing.T) {
	needRoot(t)
	e, _ := engineWith(t)
	inTheWay := func(name string) { mustWrite(t, e.conf.Volume(name), "not a directory") }
	inTheWay("alone")
	if _, err := e.CreateVolume(t.Context(), cove.Volume{Name: "alone"}, false); err == nil {
		t.Error("a volume was made out of a file")
	}
	nothingOf(t, e, "alone")

	inTheWay("with")
	if _, err := e.CreateVolume(t.Context(), cove.Volume{Name: "before"}, false); err != nil {
		t.Fatal(err)
	}
	c := &cove.Container{Schema: cove.Schema, ID: newID(), Name: "c"}
	d := &draft{e: e, c: c}
	for _, name := range []string{"before", "with"} {
		c.Mounts = append(c.Mounts, cove.Mount{Type: "volume", Source: name, Destination: "/" + name})
		d.volumes = append(d.volumes, cove.Volume{Schema: cove.Schema, Name: name, NeedsCopyUp: true})
	}
	if err := d.record(t.Context(), cove.DesireStop); err == nil {
		t.Error("a container was recorded without its volume")
	}
	nothingOf(t, e, "with")
	if _, err := e.findVolume("before"); err != nil {
		t.Errorf("the volume that there was before: %v", err)
	}
	if _, err := e.find("c"); !cove.Is(err, cove.NotFound) {
		t.Errorf("the container is there: %v", err)
	}
}

// A place that is not there is no reason to take a container for removed.
func TestCreateWithoutPlaceForID(t *testing.T) {
	e, _ := engineWith(t)
	c := &cove.Container{Schema: cove.Schema, ID: newID(), Name: "c", Spec: cove.ContainerSpec{CIDFile: "/nowhere/cid"}}
	if _, err := (&draft{e: e, c: c}).create(t.Context()); err == nil {
		t.Error("no error")
	}
	if _, err := e.find("c"); !cove.Is(err, cove.NotFound) {
		t.Errorf("the container is there: %v", err)
	}
}

// Where there is no room for one more lock a volume can be removed.
func TestVolumeGoesWithoutLock(t *testing.T) {
	e, _ := engineWith(t)
	e.locks = shm.New(e.conf.Locks(), 1)
	l, err := e.lockContainer(t.Context(), newID())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Unlock()
	anonymous := newID()
	c := stored(t, e, "c", func(c *cove.Container) {
		c.Mounts = []cove.Mount{{Type: "volume", Source: anonymous, Destination: "/v", Anonymous: true}}
	})
	inStore(t, e, func(tx state.Tx) error {
		return errors.Join(tx.Put(state.Volumes, anonymous, &cove.Volume{Name: anonymous, Anonymous: true}), tx.Put(state.Volumes, "v", &cove.Volume{Name: "v"}))
	})
	if err := e.removeAnonymous(c, e.lockUnder); err != nil {
		t.Error(err)
	}
	nothingOf(t, e, anonymous)
	if _, err := e.RemoveVolume(t.Context(), "v", RemoveOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := e.CreateVolume(t.Context(), cove.Volume{Name: "w"}, false); err == nil {
		t.Error("a volume was made without a lock")
	}
	nothingOf(t, e, "w")
}

// Somebody who tries to remove an anonymous volume, in vain, does not keep it
// from going with its container.
func TestAnonymousVolumeIsWaitedFor(t *testing.T) {
	e, _ := engineWith(t)
	name := newID()
	c := stored(t, e, "c", func(c *cove.Container) {
		c.Mounts = []cove.Mount{{Type: "volume", Source: name, Destination: "/v", Anonymous: true}}
	})
	inStore(t, e, func(tx state.Tx) error {
		return tx.Put(state.Volumes, name, &cove.Volume{Name: name, Anonymous: true})
	})
	l, err := e.locks.Lock(t.Context(), lock.Volume, name)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = l.Unlock() })
	if err := e.Remove(t.Context(), c.Name, RemoveOptions{Volumes: true}); err != nil {
		t.Fatal(err)
	}
	nothingOf(t, e, name)
}

// Who comes to share a container's namespaces after its remover has looked
// keeps it; after its removal has been recorded nobody comes.
func TestRemoveSharedSince(t *testing.T) {
	e, _ := engineWith(t)
	c := stored(t, e, "c", nil)
	h, err := e.holdAlone(t.Context(), "c", RemoveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.release()
	share := func(name string) error {
		s := &cove.Container{Schema: cove.Schema, ID: newID(), Name: name, DependsOn: []string{c.ID}}
		return (&draft{e: e, c: s}).record(t.Context(), cove.DesireStop)
	}
	if err := share("sharer"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, e.removeHeld(h, RemoveOptions{}), cove.InUse, "has dependent containers")
	if now, err := e.find("c"); err != nil || now.Intent != "" {
		t.Errorf("it is %q, %v", now.Intent, err)
	}
	if err := e.Remove(t.Context(), "sharer", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	inStore(t, e, func(tx state.Tx) error {
		c.Intent = cove.BeingRemoved
		return tx.Put(state.Containers, c.ID, c)
	})
	wantKind(t, share("late"), cove.WrongStatus, "is being removed")
}

// A container that was to go with its end goes when whoever was removing it was
// killed; another one waits for its removal to be asked for again.
func TestRemovalGoesOn(t *testing.T) {
	for _, goes := range []bool{true, false} {
		e, _ := engineWith(t)
		c := stored(t, e, "c", func(c *cove.Container) { c.Spec.Remove, c.Intent = goes, cove.BeingRemoved })
		left := e.leaves(t.Context(), "c")
		if _, err := e.find(c.ID); left != goes || cove.Is(err, cove.NotFound) != goes {
			t.Errorf("--rm %v: its name is free: %v; its record: %v", goes, left, err)
		}
	}
}

// Who has seen a run with --rm to its end under conmon does not come back before the
// container's name is free, be its directory gone already.
func TestSettledRunIsGone(t *testing.T) {
	e, _ := engineWith(t)
	c := stored(t, e, "c", func(c *cove.Container) {
		c.Spec.Remove, c.Spec.Monitor, c.Intent = true, "/usr/bin/conmon", cove.BeingRemoved
	})
	l, err := e.lockContainer(t.Context(), c.ID) // the exit command's
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(e.dir(c.ID)); err != nil {
		t.Fatal(err)
	}
	settled := make(chan error, 1)
	go func() { settled <- e.settleRun(t.Context(), c.ID, 1) }()
	select {
	case err := <-settled:
		t.Errorf("it came back at once: %v", err)
	case <-time.After(100 * time.Millisecond):
		_ = l.Unlock()
		if err := <-settled; err != nil {
			t.Error(err)
		}
	}
	if _, err := e.find(c.ID); !cove.Is(err, cove.NotFound) {
		t.Errorf("the record: %v", err)
	}
}

// Addresses are taken back of containers that have been taken down, not of one
// that is being started once more, nor of one whose monitor was killed.
func TestReclaim(t *testing.T) {
	for _, test := range []struct {
		name     string
		recorded uint64 // the starts that the record knows of
		run      cove.Run
		want     bool
	}{
		{"down", 1, cove.Run{Down: true}, true},
		{"starts", 2, cove.Run{Down: true}, false},
		{"ends", 1, cove.Run{}, false},
		{"monitor lost", 1, cove.Run{PID: 1 << 30}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, _ := engineWith(t)
			n := cove.Network{Name: "n", Subnets: []cove.Subnet{{Subnet: netip.MustParsePrefix("10.9.9.0/30"), Gateway: netip.MustParseAddr("10.9.9.1")}}}
			if _, err := e.CreateNetwork(t.Context(), n, false); err != nil {
				t.Fatal(err)
			}
			c := stored(t, e, "c", func(c *cove.Container) {
				onNetwork("n")(c)
				c.Run.Generation, c.Run.BootID = test.recorded, procfs.BootID()
			})
			h := held{e: e, Container: Container{Container: *c, Dir: e.dir(c.ID)}}
			h.Run = test.run
			h.Run.Generation, h.Run.BootID, h.Run.Started = 1, procfs.BootID(), time.Now()
			if err := h.writeRun(); err != nil {
				t.Fatal(err)
			}
			other := &cove.Container{ID: newID()}
			onNetwork("n")(other)
			err := e.update(func(tx state.Tx) error { return e.lease(tx, other, nil) })
			if test.want && err != nil {
				t.Errorf("its address is not to be had: %v", err)
			} else if !test.want {
				wantKind(t, err, cove.Unavailable, "failed to find free IP")
			}
		})
	}
}

// A removal after a boot that was cut short once the record had gone is
// finished by the next write.
func TestRemovalAfterBootCutShort(t *testing.T) {
	e, _ := engineWith(t)
	c := stored(t, e, "c", func(c *cove.Container) {
		c.Spec.Remove, c.Run.Generation, c.Run.BootID = true, 1, "an earlier one"
	})
	inStore(t, e, func(tx state.Tx) error { return tx.SetMeta(bootKey, []byte("an earlier one")) })
	killed := errors.New("killed here")
	if err := e.update(func(state.Tx) error { return killed }); err != killed {
		t.Fatal(err)
	}
	inStore(t, e, func(tx state.Tx) error { return e.dropRecord(tx, c) })
	if err := e.update(func(state.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{e.dir(c.ID), e.removedDir(c.ID)} {
		if _, err := os.Lstat(dir); err == nil {
			t.Errorf("%s is left", dir)
		}
	}
}

// A lock that cannot be forgotten keeps the record of its object: no lock is left
// that nobody knows of, and the next removal goes on.
func TestRemovalKeepsRecordOfLock(t *testing.T) {
	needRoot(t)
	e, _ := engineWith(t)
	stored(t, e, "c", nil)
	if _, err := e.CreateVolume(t.Context(), cove.Volume{Name: "v"}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := e.CreateNetwork(t.Context(), cove.Network{Name: "n"}, false); err != nil {
		t.Fatal(err)
	}
	locks := &keepingLocks{Manager: e.locks, err: errors.New("no memory")}
	e.locks = locks
	remove := map[string]func() error{
		"container": func() error { return e.Remove(t.Context(), "c", RemoveOptions{}) },
		"volume":    func() error { _, err := e.RemoveVolume(t.Context(), "v", RemoveOptions{}); return err },
		"network":   func() error { _, err := e.RemoveNetwork(t.Context(), "n", RemoveOptions{}); return err },
	}
	for what, again := range remove {
		if err := again(); !errors.Is(err, locks.err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if found, err := e.Check(t.Context(), false, true); err != nil || len(found) != len(remove) {
		t.Errorf("check: %+v, %v", found, err)
	}
	locks.err = nil
	for _, what := range []string{"container", "volume"} {
		if err := remove[what](); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := e.PruneNetworks(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if found, err := e.Check(t.Context(), false, true); err != nil || len(found) > 0 {
		t.Errorf("check: %+v, %v", found, err)
	}
}

// keepingLocks forget nothing as long as there is an error.
type keepingLocks struct {
	lock.Manager
	err error
}

func (l *keepingLocks) Forget(k lock.Kind, id string) error {
	if l.err != nil {
		return l.err
	}
	return l.Manager.Forget(k, id)
}

// A connect to a network that was cut short, or has failed and could not take itself
// back, is taken back by whoever comes next; a disconnect is completed.
func TestPendingNetworks(t *testing.T) {
	for name, verb := range map[string]func(e *Engine) error{
		"cp, say": func(e *Engine) error {
			h, err := e.hold(t.Context(), "c")
			if err == nil {
				h.release()
			}
			return err
		},
		"inspect": func(e *Engine) error { _, err := e.Container(t.Context(), "c", false); return err },
		"ps":      func(e *Engine) error { _, err := e.List(t.Context(), ListOptions{}); return err },
		"top": func(e *Engine) error {
			if _, err := e.Top(t.Context(), "c", nil); !cove.Is(err, cove.WrongStatus) {
				return err
			}
			return nil
		},
		"logs": func(e *Engine) error {
			return e.Logs(t.Context(), "c", LogOptions{}, func(LogLine) error { return nil })
		},
	} {
		for _, pending := range []cove.Pending{cove.Joining, cove.Leaving} {
			t.Run(name+" after "+string(pending), func(t *testing.T) { pendingNetworks(t, pending, verb) })
		}
	}
}

func pendingNetworks(t *testing.T, pending cove.Pending, verb func(*Engine) error) {
	e, _ := engineWith(t)
	if _, err := e.CreateNetwork(t.Context(), cove.Network{Name: "n"}, false); err != nil {
		t.Fatal(err)
	}
	c := stored(t, e, "c", func(c *cove.Container) {
		c.Attachments = []cove.NetworkAttachment{{Network: "podman", Interface: "eth0"}, {Network: "n", Interface: "eth1", Link: 1, Pending: pending}}
	})
	if err := verb(e); err != nil {
		t.Fatal(err)
	}
	leases := 0
	inStore(t, e, func(tx state.Tx) error {
		if err := tx.Leases("n", func(netip.Addr, string) error { leases++; return nil }); err != nil {
			return err
		}
		return tx.Get(state.Containers, c.ID, c)
	})
	if len(c.Attachments) != 1 || c.Attachments[0].Network != "podman" || leases != 0 {
		t.Errorf("%+v, %d leases", c.Attachments, leases)
	}
}
