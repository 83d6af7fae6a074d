package engine

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
)

// That a file or directory of cove's is missing does not tell that what is to be removed
// does not exist: of that rm -f makes a success.
func TestMissingFileIsNoMissingObject(t *testing.T) {
	needRoot(t)
	place := func(e *Engine) (places []string) {
		err := filepath.WalkDir(e.conf.Home(), func(path string, _ fs.DirEntry, err error) error {
			places = append(places, path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return places
	}
	made := func() (*Engine, *cove.Container) {
		e, _ := engineWith(t)
		if _, err := e.CreateVolume(t.Context(), cove.Volume{Name: "v"}, false); err != nil {
			t.Fatal(err)
		}
		if _, err := e.CreateNetwork(t.Context(), cove.Network{Name: "n"}, false); err != nil {
			t.Fatal(err)
		}
		c := stored(t, e, "c", func(c *cove.Container) {
			c.Mounts = []cove.Mount{{Type: "volume", Source: "v", Destination: "/v"}}
		})
		return e, c
	}
	first, _ := made()
	for i := range place(first) {
		e, c := made()
		gone := place(e)[i]
		if filepath.Base(gone) == "locks" || gone == e.conf.Home() {
			continue // whoever takes a lock waits for somebody to make those anew
		}
		if err := os.RemoveAll(gone); err != nil {
			t.Fatal(err)
		}
		gone, _ = filepath.Rel(e.conf.Home(), gone)
		check := func(what string, err, lookup error) {
			t.Helper()
			if cove.Is(err, cove.NotFound) || err == nil && !cove.Is(lookup, cove.NotFound) {
				t.Errorf("without %s: %s: %v; looked up: %v", gone, what, err, lookup)
			}
		}
		err := e.Remove(t.Context(), "c", RemoveOptions{Force: true})
		_, lookup := e.find(c.ID)
		check("rm -f", err, lookup)
		_, err = e.RemoveVolume(t.Context(), "v", RemoveOptions{Force: true})
		_, lookup = e.findVolume("v")
		check("volume rm -f", err, lookup)
		_, err = e.RemoveNetwork(t.Context(), "n", RemoveOptions{Force: true})
		lookup = e.store.View(func(tx state.Tx) error { _, err := e.findNetwork(tx, "n"); return err })
		check("network rm -f", err, lookup)
	}
	if kind := fileKind(&fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}); kind != cove.NoFile {
		t.Errorf("a missing file has the kind %d", kind)
	}
}
