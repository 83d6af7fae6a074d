package library_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/imagetest"
)

// An image whose manifest is lost, as by a power loss while another tool pulls it, hides
// none of the others, and can be removed.
func TestListWithDamagedImage(t *testing.T) {
	p := newPlace(t)
	load := func(name string) string {
		img := imagetest.Image{Name: "localhost/" + name + ":1", Layers: [][]byte{imagetest.Layer(t, imagetest.Files{name: name})}}
		p.mustLoad(t, img)
		return img.ID(t)
	}
	good, bad := load("good"), load("bad")
	files, err := filepath.Glob(filepath.Join(p.opts.GraphRoot, "overlay-images", bad, "*"))
	must(t, err)
	for _, name := range files {
		if filepath.Base(name) == "manifest" || filepath.Base(name)[0] == '=' {
			must(t, os.Remove(name))
		}
	}
	for _, o := range []image.ListOptions{{}, {All: true}, {Filters: []string{"reference=localhost/good"}}} {
		list, err := p.List(t.Context(), o)
		must(t, err)
		found := false
		for _, img := range list {
			found = found || img.ID == good
		}
		if !found {
			t.Errorf("%+v: %d images and not the good one", o, len(list))
		}
	}
	_, err = p.Remove(t.Context(), []string{bad}, image.RemoveOptions{Force: true}, nil)
	must(t, err)
}

// What a removal that was killed has left of an image goes with the next one; what is
// another image's stays.
func TestDataLeft(t *testing.T) {
	p := newPlace(t)
	p.mustLoad(t, small(t, "example.org/app:1"))
	p.mustLoad(t, imagetest.Image{Name: "example.org/other:1", Layers: [][]byte{imagetest.Layer(t, imagetest.Files{"other": "other"})}})
	dir := filepath.Join(p.opts.GraphRoot, "overlay-images")
	left := filepath.Join(dir, strings.Repeat("0a", 32))
	must(t, os.Mkdir(left, 0o700))
	must(t, os.WriteFile(filepath.Join(left, "manifest"), []byte("{}"), 0o600))
	_, err := p.Remove(t.Context(), []string{"example.org/app:1"}, image.RemoveOptions{}, nil)
	must(t, err)
	if _, err := os.Lstat(left); err == nil {
		t.Error("it is still there")
	}
	if _, err := p.again().Inspect(t.Context(), "example.org/other:1"); err != nil {
		t.Error(err)
	}
}
