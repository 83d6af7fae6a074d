package library_test

import (
	"os"
	"path/filepath"
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
