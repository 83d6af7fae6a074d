package engine

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/ownplace"
)

// A link to nothing in the place of a container's directory may lead to its files
// again: nobody takes it away but who removes the container by force.
func TestDanglingContainerDirectory(t *testing.T) {
	e, _ := engineWith(t)
	c := stored(t, e, "a", nil)
	okay(t, os.RemoveAll(e.dir(c.ID)))
	okay(t, os.Symlink(t.TempDir()+"/none", e.dir(c.ID)))
	found, err := e.Check(t.Context(), true, true)
	if err != nil || len(found) != 1 || found[0].Repaired || found[0].Object != e.dir(c.ID) {
		t.Errorf("the repair found %+v, %v", found, err)
	}
	if _, err := os.Readlink(e.dir(c.ID)); err != nil {
		t.Fatal(err)
	}
	if err := e.makeDir(c); !errors.Is(err, ownplace.ErrDangling) || cove.Is(err, cove.NotFound) {
		t.Errorf("making it: %v", err)
	}
	okay(t, e.Remove(t.Context(), "a", RemoveOptions{Force: true}))
	if _, err := e.find(c.ID); !cove.Is(err, cove.NotFound) || exists(e.dir(c.ID)) {
		t.Errorf("it is still there: %v", err)
	}
}

// One lock that cannot be taken keeps nothing else from being repaired.
func TestCheckPastLock(t *testing.T) {
	e, _ := engineWith(t)
	good, bad := newID(), newID()
	for _, id := range []string{good, bad} {
		okay(t, os.MkdirAll(filepath.Join(e.dir(id), "diff"), 0o700))
		l, err := e.locks.TryLock(t.Context(), lock.Container, id)
		okay(t, err)
		okay(t, l.Unlock())
	}
	place := filepath.Join(e.conf.Locks(), "container-"+bad)
	okay(t, os.Remove(place))
	okay(t, os.MkdirAll(filepath.Join(place, "full"), 0o700))
	found, err := e.Check(t.Context(), true, true)
	okay(t, err)
	for _, d := range found {
		if d.Repaired != (d.Owner == good) {
			t.Errorf("%+v", d)
		}
	}
	if len(found) != 5 { // directory and lock of each, and what is in the lock's place
		t.Errorf("found %+v", found)
	}
	okay(t, os.RemoveAll(place))
	_, err = e.Check(t.Context(), true, true)
	okay(t, err)
}

// Names are written through nothing that lies in their place.
func TestPublishDisplaced(t *testing.T) {
	e, _ := engineWith(t)
	precious := filepath.Join(t.TempDir(), "precious")
	mustWrite(t, precious, "precious")
	p := publication{network: "net", name: "a", file: filepath.Join(e.namesDir(), "net", "a", "id"), lines: "10.0.0.1\n"}
	for what, put := range map[string]func(name string) error{
		"file": func(name string) error { return os.WriteFile(name, nil, 0o600) },
		"fifo": func(name string) error { return unix.Mkfifo(name, 0o600) },
		"link": func(name string) error { return os.Symlink(precious, name) },
	} {
		for place := p.file; place != filepath.Dir(e.namesDir()); place = filepath.Dir(place) {
			okay(t, os.MkdirAll(filepath.Dir(place), 0o755))
			okay(t, os.RemoveAll(place))
			okay(t, put(place))
			if err := e.publish(p); err != nil || !p.there() {
				t.Errorf("%s at %s: %v", what, place, err)
			}
		}
	}
	if text, _ := os.ReadFile(precious); string(text) != "precious" {
		t.Errorf("written through a link: %q", text)
	}
}
