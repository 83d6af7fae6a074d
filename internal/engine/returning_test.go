package engine

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/state"
)

// The power goes before the disk knows of directories and locks: those of what was
// removed go again with the first write after it, those of what was made are made
// again, and what nobody has removed stays.
func TestPowerLoss(t *testing.T) {
	needRoot(t)
	e, _ := engineWith(t)
	removed, made, strange := stored(t, e, "removed", nil), stored(t, e, "made", nil), newID()
	okay(t, e.makeDir(removed))
	okay(t, e.drop(removed))
	if _, err := e.CreateVolume(t.Context(), cove.Volume{Name: "old"}, false); err != nil {
		t.Fatal(err)
	}
	okay(t, e.dropVolume(t.Context(), "old"))
	inStore(t, e, func(tx state.Tx) error {
		return tx.Put(state.Volumes, "new", &cove.Volume{Schema: cove.Schema, Name: "new"})
	})

	okay(t, e.makeDir(removed))
	okay(t, os.Mkdir(e.dir(strange), 0o700))
	okay(t, os.RemoveAll(e.dir(made.ID)))
	for kind, id := range map[lock.Kind]string{lock.Container: removed.ID, lock.Volume: "old"} {
		l, err := e.locks.Lock(t.Context(), kind, id)
		okay(t, err)
		okay(t, l.Unlock())
	}
	inStore(t, e, func(tx state.Tx) error { return tx.SetMeta(bootKey, []byte("an earlier one")) })
	if got := differences(t, e, false); len(got) != 1 || got[0] != "directory: its container has no record" {
		t.Errorf("found %q, want the strange directory", got)
	}
	for path, want := range map[string]bool{e.dir(removed.ID): false, e.dir(made.ID): true, e.volumeData("new"): true, e.dir(strange): true} {
		if exists(path) != want {
			t.Errorf("%s is there: %v", path, !want)
		}
	}
	known, err := e.locks.Known()
	okay(t, err)
	for _, o := range known {
		if o.ID == removed.ID || o.ID == "old" {
			t.Errorf("the lock of %v is left", o)
		}
	}
}

// What was removed is remembered as long as it may come back, and not for ever; a
// container that is made again with its ID is nobody's to remove.
func TestRemovalsRemembered(t *testing.T) {
	e, _ := engineWith(t)
	lines := func() (lines []string) {
		t.Helper()
		okay(t, e.store.View(func(tx state.Tx) (err error) {
			lines, err = removals(tx)
			return err
		}))
		return lines
	}
	for i := range 3 * removedMax {
		inStore(t, e, func(tx state.Tx) error { return e.noteRemoved(tx, lock.Container, fmt.Sprint(i)) })
		if got := lines(); len(got) > removedMax || got[len(got)-1] != fmt.Sprint("container ", i) || i >= removedMax/2 && len(got) < removedMax/2 {
			t.Fatalf("after %d removals: %q", i+1, got)
		}
	}
	last := fmt.Sprint(3*removedMax - 1)
	inStore(t, e, func(tx state.Tx) error { return e.noteMade(tx, last) })
	if got := lines(); slices.Contains(got, "container "+last) || len(got) < removedMax/2-1 {
		t.Errorf("left: %q", got)
	}
}
