package library_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/imagetest"
)

// empty checks that nothing is left in the store's directories.
func (p place) empty(t testing.TB) {
	t.Helper()
	ids, err := p.again().LayerIDs()
	must(t, err)
	if len(ids) > 0 {
		t.Errorf("layers left: %v", ids)
	}
	dirs, err := os.ReadDir(filepath.Join(p.opts.GraphRoot, "overlay"))
	must(t, err)
	for _, d := range dirs {
		if len(d.Name()) == cove.IDLength {
			t.Errorf("directory left: overlay/%s", d.Name())
		}
	}
	for _, sub := range []string{"overlay-images", "overlay-containers"} {
		dirs, err := os.ReadDir(filepath.Join(p.opts.GraphRoot, sub))
		must(t, err)
		for _, d := range dirs {
			if d.IsDir() {
				t.Errorf("directory left: %s/%s", sub, d.Name())
			}
		}
	}
	var left []string
	for _, pattern := range []string{"cove-transfer-*/*", ".cove-*", "container_images_*"} {
		more, _ := filepath.Glob(filepath.Join(p.opts.TmpDir, pattern))
		left = append(left, more...)
	}
	if len(left) > 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestRemove(t *testing.T) {
	p, ctx := newPlace(t), context.Background()
	img := small(t, "example.org/app:1")
	p.mustLoad(t, img)
	_, err := p.Resolve(ctx, "example.org/app:1", "")
	must(t, err)
	must(t, p.Tag("example.org/app:1", "two", "example.org/three:3"))

	used := func(id string) []string {
		if id == img.ID(t) {
			return []string{"web"}
		}
		return nil
	}
	// By one of three names: only the name goes, whoever uses the image.
	reports, err := p.Remove(ctx, []string{"two"}, image.RemoveOptions{}, used)
	must(t, err)
	if len(reports) != 1 || reports[0].Deleted || reports[0].Untagged[0] != "localhost/two:latest" {
		t.Errorf("%+v", reports)
	}
	_, err = p.Remove(ctx, []string{img.ID(t)}, image.RemoveOptions{}, nil)
	wantKind(t, err, cove.Invalid)
	_, err = p.Remove(ctx, []string{img.ID(t)[:8]}, image.RemoveOptions{Force: true}, used)
	wantKind(t, err, cove.InUse)
	if !strings.Contains(err.Error(), "web") {
		t.Errorf("does not name the container: %v", err)
	}
	if _, err := p.again().Resolve(ctx, "example.org/three:3", ""); err != nil {
		t.Fatal(err)
	}
	_, err = p.Remove(ctx, []string{"nosuch"}, image.RemoveOptions{}, nil)
	wantKind(t, err, cove.NotFound)
	_, err = p.Remove(ctx, []string{"nosuch"}, image.RemoveOptions{Ignore: true}, nil)
	must(t, err)
	_, err = p.Remove(ctx, nil, image.RemoveOptions{}, nil)
	wantKind(t, err, cove.Invalid)

	reports, err = p.Remove(ctx, []string{img.ID(t)}, image.RemoveOptions{Force: true}, nil)
	must(t, err)
	if len(reports) != 1 || !reports[0].Deleted || len(reports[0].Untagged) != 2 {
		t.Errorf("%+v", reports)
	}
	_, err = p.again().Resolve(ctx, "example.org/app:1", "")
	wantKind(t, err, cove.NotFound)
	p.empty(t)
}

func TestRemoveAllKeepsForeign(t *testing.T) {
	p, ctx := newPlace(t), context.Background()
	p.mustLoad(t, small(t, "example.org/theirs:1"))
	p.mustLoad(t, small(t, "example.org/ours:1"))
	for _, n := range []string{"theirs:1", "ours:1"} {
		_, err := p.Resolve(ctx, n, "")
		must(t, err)
	}
	if out, err := p.podman(t, "create", "--no-healthcheck", "--name", "pod", "example.org/theirs:1"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	q := p.again()
	reports, err := q.Remove(ctx, nil, image.RemoveOptions{All: true, Force: true}, nil)
	wantKind(t, err, cove.InUse)
	if len(reports) != 1 {
		t.Errorf("%+v", reports)
	}
	if out, err := p.podman(t, "rm", "pod"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	_, err = p.again().Remove(ctx, nil, image.RemoveOptions{All: true}, nil)
	must(t, err)
	p.empty(t)
}

func TestPrune(t *testing.T) {
	p, ctx := newPlace(t), context.Background()
	used, unused, old := small(t, "example.org/used:1"), small(t, "example.org/unused:1"), small(t, "example.org/old:1")
	for _, img := range []imagetest.Image{used, unused, old} {
		p.mustLoad(t, img)
		_, err := p.Resolve(ctx, img.Name, "")
		must(t, err)
	}
	must(t, p.Untag("example.org/old:1"))
	users := func(id string) []string {
		if id == used.ID(t) {
			return []string{"c"}
		}
		return nil
	}
	reports, err := p.Prune(ctx, false, nil, users)
	must(t, err)
	if len(reports) != 1 || reports[0].ID != old.ID(t) || reports[0].Size == 0 {
		t.Errorf("%+v", reports)
	}
	reports, err = p.Prune(ctx, true, nil, users)
	must(t, err)
	if len(reports) != 1 || reports[0].ID != unused.ID(t) {
		t.Errorf("%+v", reports)
	}
	if _, err := p.again().Resolve(ctx, used.Name, ""); err != nil {
		t.Error(err)
	}
	// Another tool removes the used image by force: its layers stay while
	// the container does, and go with the next prune after it.
	if out, err := p.podman(t, "rmi", "-f", used.Name); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	q := place{p.again(), p.opts}
	_, err = q.Prune(ctx, true, nil, users)
	must(t, err)
	if ids, _ := q.LayerIDs(); len(ids) != 3 {
		t.Errorf("want two layers and the pin's, have %v", ids)
	}
	_, err = q.Prune(ctx, true, nil, nil)
	must(t, err)
	p.empty(t)
}

func TestHoldKeepsOut(t *testing.T) {
	p := newPlace(t)
	ctx, cancel := context.WithCancel(context.Background())
	p.mustLoad(t, small(t, "example.org/app:1"))
	release, err := p.Hold(ctx)
	must(t, err)
	cancel()
	if _, err := p.Remove(ctx, []string{"example.org/app:1"}, image.RemoveOptions{}, nil); err == nil {
		t.Error("removed while held")
	}
	must(t, release())
	_, err = p.Remove(context.Background(), []string{"example.org/app:1"}, image.RemoveOptions{}, nil)
	must(t, err)
	p.empty(t)
}
