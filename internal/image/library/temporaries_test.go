package library_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// What a writer that was killed has left goes when the store is opened again.
func TestUnfinishedFiles(t *testing.T) {
	p, ctx := newPlace(t), context.Background()
	img := small(t, "example.org/app:1")
	p.mustLoad(t, img)
	var left []string
	for _, name := range []string{"overlay-images/.tmp-images.json1", "overlay-images/" + img.ID(t) + "/.tmp-=bWFuaWZlc3Q=2", "overlay-layers/.tmp-layers.json3", "overlay-containers/.tmp-containers.json4"} {
		name = filepath.Join(p.opts.GraphRoot, name)
		must(t, os.WriteFile(name, []byte("[{"), 0o600))
		left = append(left, name)
	}
	if _, err := p.again().Resolve(ctx, "example.org/app:1", ""); err != nil {
		t.Error(err)
	}
	for _, name := range left {
		if _, err := os.Lstat(name); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
}
