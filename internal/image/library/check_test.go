package library_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// problems checks a store and gives what is wrong as lines; with repair it also
// repairs what it can.
func (p place) problems(t *testing.T, repair bool) string {
	t.Helper()
	found, err := p.again().Check(context.Background())
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
			ours, err := p.MakeLayer()
			must(t, err)
			must(t, p.Interrupted(ours))
			theirs, err := p.MakeLayer()
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
	images := filepath.Join(p.opts.GraphRoot, "overlay-images")
	must(t, os.WriteFile(filepath.Join(images, "images.json"), []byte("[]"), 0o600))
	must(t, os.WriteFile(filepath.Join(images, "images.lock"), bytes.Repeat([]byte{1}, 64), 0o600)) // who wrote last
	if got := p.problems(t, false); !strings.Contains(got, "a removal that was killed") {
		t.Errorf("got %q", got)
	}
	_, err := p.again().Prune(context.Background(), false, nil, nil)
	must(t, err)
	if ids, err := p.again().LayerIDs(); err != nil || len(ids) > 0 {
		t.Errorf("layers %s are left: %v", ids, err)
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
