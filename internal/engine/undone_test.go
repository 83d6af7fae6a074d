package engine

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/state"
)

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
			err := e.update(func(tx state.Tx) error { return e.lease(tx, other) })
			if test.want && err != nil {
				t.Errorf("its address is not to be had: %v", err)
			} else if !test.want {
				wantKind(t, err, cove.Unavailable, "failed to find free IP")
			}
		})
	}
}

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
	inStore(t, e, func(tx state.Tx) error { return dropRecord(tx, c) })
	if err := e.update(func(state.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{e.dir(c.ID), e.removedDir(c.ID)} {
		if _, err := os.Lstat(dir); err == nil {
			t.Errorf("%s is left", dir)
		}
	}
}
