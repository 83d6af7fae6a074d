package library_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cove-engine/cove/internal/image"
)

// problems checks a store and gives what is wrong as lines; with repair it also
// repairs what it can.
func (p place) problems(t *testing.T, repair bool) string {
	t.Helper()
	return p.problemsWith(t, repair, noUsers)
}

func noUsers() image.Users { return nil }

func (p place) problemsWith(t *testing.T, repair bool, users func() image.Users) string {
	t.Helper()
	found, err := p.again().Check(context.Background(), users)
	must(t, err)
	var lines []string
	for _, d := range found {
		lines = append(lines, d.Kind+" "+d.Object+" "+d.Problem)
		if repair && d.Repair != nil {
			must(t, d.Repair())
		}
	}
	return strings.Join(lines, "\n")
}

// What a copy by cove has left that was killed goes with the next copy, with the
// next prune and with a repair; what others may be making stays.
func TestRemains(t *testing.T) {
	for _, way := range []struct {
		name string
		do   func(p place)
	}{
		{"repair", func(p place) { p.problems(t, true) }},
		{"prune", func(p place) {
			_, err := p.again().Prune(context.Background(), false, nil, nil)
			must(t, err)
		}},
		{"copy", func(p place) { p.mustLoad(t, small(t, "example.org/other:1")) }},
	} {
		t.Run(way.name, func(t *testing.T) {
			p := newPlace(t)
			p.mustLoad(t, small(t, "example.org/app:1"))
			ours, err := p.CopyLayer()
			must(t, err)
			theirs, err := p.MakeLayer("", "")
			must(t, err)
			if got := p.problems(t, false); !strings.Contains(got, ours+" a copy or a removal that was killed") || strings.Contains(got, theirs) {
				t.Errorf("got %q", got)
			}
			way.do(p)
			ids, err := p.again().LayerIDs()
			must(t, err)
			if all := strings.Join(ids, " "); strings.Contains(all, ours) || !strings.Contains(all, theirs) {
				t.Errorf("layers %s, want %s and not %s", all, theirs, ours)
			}
			if got := p.problems(t, false); got != "" {
				t.Errorf("left: %q", got)
			}
		})
	}
}

// forgetImages takes away the records of all images, and not their layers.
func (p place) forgetImages(t *testing.T) {
	t.Helper()
	images := filepath.Join(p.opts.GraphRoot, "overlay-images")
	must(t, os.WriteFile(filepath.Join(images, "images.json"), []byte("[]"), 0o600))
	must(t, os.WriteFile(filepath.Join(images, "images.lock"), bytes.Repeat([]byte{1}, 64), 0o600)) // who wrote last
}

// So do the layers of an image whose removal was killed when its record was gone,
// and only then.
func TestRemovalCutShort(t *testing.T) {
	p := newPlace(t)
	img := small(t, "example.org/app:1")
	p.mustLoad(t, img)
	must(t, p.BeginRemoval(img.ID(t)))
	if got := p.problems(t, true); got != "" {
		t.Errorf("before anything was removed: %q", got)
	}
	if ok, err := p.again().Exists(img.ID(t)); err != nil || !ok {
		t.Fatalf("a repair has deleted an image: %v", err)
	}
	must(t, p.BeginRemoval(img.ID(t)))
	p.forgetImages(t)
	if got := p.problems(t, false); !strings.Contains(got, "a removal that was killed") {
		t.Errorf("got %q", got)
	}
	_, err := p.again().Prune(context.Background(), false, nil, nil)
	must(t, err)
	if ids, err := p.again().LayerIDs(); err != nil || len(ids) > 0 {
		t.Errorf("layers %s are left: %v", ids, err)
	}
}

// A layer that a copy by cove was about to make, or one that a removal has removed, may
// since have been made by another tool, whose copy it is part of.
func TestMadeAgain(t *testing.T) {
	p, ctx := newPlace(t), context.Background()
	img := small(t, "example.org/app:1")
	p.mustLoad(t, img)
	layers, err := p.again().LayerIDs()
	must(t, err)
	must(t, p.BeginRemoval(img.ID(t)))
	unmade := strings.Repeat("ab", 32)
	must(t, p.Interrupted(unmade))
	if out, err := p.podman(t, "rmi", "-f", img.Name); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	other := p.again()
	parent := ""
	for _, id := range append(layers, unmade) {
		parent, err = other.MakeLayer(id, parent)
		must(t, err)
	}
	if got := p.problems(t, true); got != "" {
		t.Errorf("told: %q", got)
	}
	_, err = p.again().Prune(ctx, true, nil, nil)
	must(t, err)
	left, err := p.again().LayerIDs()
	must(t, err)
	if len(left) != len(layers)+1 {
		t.Errorf("layers %s are left of %s", left, append(layers, unmade))
	}
}

// The pin of an image that another tool has force-removed is told when no container
// uses it any more, and no container is being made.
func TestCheckPins(t *testing.T) {
	p, ctx := newPlace(t), context.Background()
	img := small(t, "example.org/app:1")
	p.mustLoad(t, img)
	_, err := p.Resolve(ctx, img.Name, "")
	must(t, err)
	if out, err := p.podman(t, "rmi", "-f", img.Name); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	used := func() image.Users { return func(string) []string { return []string{"c"} } }
	if got := p.problemsWith(t, true, used); got != "" {
		t.Errorf("while a container uses it: %q", got)
	}
	release, err := p.Hold(ctx)
	must(t, err)
	if got := p.problems(t, true); got != "" {
		t.Errorf("while a container is made: %q", got)
	}
	must(t, release())
	if got, want := p.problems(t, true), "pin "+img.ID(t)+" its image is gone and no container uses it"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := p.problems(t, false); got != "" {
		t.Errorf("left: %q", got)
	}
	p.empty(t)
}

// Layers that have names of other tools' are theirs.
func TestCheckOthersNames(t *testing.T) {
	p := newPlace(t)
	p.mustLoad(t, small(t, "example.org/app:1"))
	theirs, err := p.MakeLayer("", "")
	must(t, err)
	must(t, p.NameLayer(theirs, "cove-pin-layer-"+theirs))
	if got := p.problems(t, true); got != "" {
		t.Errorf("got %q", got)
	}
}

// Who pins is killed when the library has made the layer of the pin's container and not
// its record: the next one completes the pin, and a removal takes it away.
func TestPinCutShort(t *testing.T) {
	p, ctx := newPlace(t), context.Background()
	img := small(t, "example.org/app:1")
	for _, completed := range []bool{true, false} {
		p.mustLoad(t, img)
		must(t, p.BeginPin(img.ID(t)))
		if completed {
			_, err := p.again().Resolve(ctx, img.Name, "")
			must(t, err)
			if out, err := p.podman(t, "rmi", img.Name); err == nil {
				t.Errorf("podman removes a pinned image: %s", out)
			}
		}
		_, err := p.again().Remove(ctx, []string{img.Name}, image.RemoveOptions{}, nil)
		must(t, err)
		p.empty(t)
	}
}

func TestCheckLayers(t *testing.T) {
	p := newPlace(t)
	img := small(t, "example.org/app:1")
	p.mustLoad(t, img)
	_, err := p.Resolve(context.Background(), "example.org/app:1", "") // pins it
	must(t, err)
	if got := p.problems(t, false); got != "" {
		t.Fatalf("a store as it should be: %q", got)
	}
	lost := strings.Repeat("ab", 32)
	must(t, os.MkdirAll(filepath.Join(p.opts.GraphRoot, "overlay", lost, "diff"), 0o700))
	if got := p.problems(t, true); got != "layer "+lost+" a directory that the store has no record of" {
		t.Errorf("got %q", got)
	}
	if got := p.problems(t, false); got != "" {
		t.Errorf("left: %q", got)
	}
	files, err := filepath.Glob(filepath.Join(p.opts.GraphRoot, "overlay/*/diff/etc/base"))
	must(t, err)
	must(t, os.Truncate(files[0], 0))
	id := strings.Split(strings.TrimPrefix(files[0], p.opts.GraphRoot+"/overlay/"), "/")[0]
	if got := p.problems(t, true); !strings.HasPrefix(got, "layer "+id+" damaged: ") {
		t.Errorf("got %q", got)
	}
	if ok, err := p.again().Exists(img.ID(t)); err != nil || !ok {
		t.Errorf("a repair has deleted an image: %v", err)
	}
}
