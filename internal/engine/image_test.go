package engine

import (
	"slices"
	"strings"
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
)

var (
	oneID = strings.Repeat("1", 64)
	twoID = strings.Repeat("2", 64)
)

func withImages(t *testing.T) (*Engine, *fakeRooms) {
	e, r := engineWith(t)
	r.images.all = []image.Summary{{ID: oneID, Names: []string{"localhost/one:latest"}}, {ID: twoID, Names: []string{"localhost/two:a", "localhost/two:b"}}}
	return e, r
}

func ofImage(id string) func(*cove.Container) {
	return func(c *cove.Container) { c.Image.ID = id }
}

func TestImages(t *testing.T) {
	e, _ := withImages(t)
	stored(t, e, "a", ofImage(oneID))
	stored(t, e, "b", ofImage(oneID))
	all, err := e.Images(t.Context(), image.ListOptions{})
	if err != nil || all[0].Containers != 2 || all[1].Containers != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestRemoveImages(t *testing.T) {
	e, r := withImages(t)
	a, b := stored(t, e, "a", ofImage(oneID)), stored(t, e, "b", ofImage(twoID))
	_, err := e.RemoveImages(t.Context(), []string{"localhost/one:latest"}, image.RemoveOptions{})
	if err == nil || !strings.Contains(err.Error(), a.ID) {
		t.Errorf("error %v, want one that names %s", err, a.ID)
	}
	r.events.has(t)
	// One of several names: the container stays whatever the force.
	if _, err := e.RemoveImages(t.Context(), []string{"localhost/two:a"}, image.RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
	if _, err := e.find(b.ID); err != nil {
		t.Error(err)
	}
	r.events.has(t, "image untag localhost/two:a")
	reports, err := e.RemoveImages(t.Context(), []string{oneID[:12]}, image.RemoveOptions{Force: true})
	if err != nil || len(reports) != 1 || !reports[0].Deleted {
		t.Errorf("%+v, %v", reports, err)
	}
	if _, err := e.find(a.ID); !cove.Is(err, cove.NotFound) {
		t.Errorf("the container is still there: %v", err)
	}
	r.events.has(t, "container remove a", "image untag localhost/one:latest", "image remove localhost/one:latest")
}

func TestImageEvents(t *testing.T) {
	e, r := withImages(t)
	ctx := t.Context()
	_, err := e.PullImage(ctx, "localhost/one:latest", image.PullOptions{})
	_, err2 := e.LoadImages(ctx, "/x.tar", nil, image.LoadOptions{})
	err3 := e.TagImage(ctx, "localhost/one:latest", []string{"n:1"})
	err4 := e.UntagImage(ctx, "localhost/two:a", nil)
	if err != nil || err2 != nil || err3 != nil || err4 != nil {
		t.Error(err, err2, err3, err4)
	}
	_, err = e.PullImage(ctx, "nowhere/x", image.PullOptions{})
	wantKind(t, err, cove.Unavailable, "")
	r.events.has(t, "image pull localhost/one:latest", "image loadfromarchive /x.tar", "image tag n:1",
		"image untag localhost/two:a", "image untag localhost/two:b", "image pull-error nowhere/x")
}

func TestBuiltin(t *testing.T) {
	e, r := engineWith(t)
	if ok, err := e.builtin(t.Context(), builtinName); ok || err != nil {
		t.Errorf("a program that carries none: %v, %v", ok, err)
	}
	e.builtinArchive = func() ([]byte, error) { return []byte("tar"), nil }
	for _, name := range []string{"hello", "docker.io/library/hello", "cove.local/hello:1"} {
		if ok, err := e.builtin(t.Context(), name); ok || err != nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
	for range 2 {
		if ok, err := e.builtin(t.Context(), "cove.local/hello"); !ok || err != nil {
			t.Errorf("%v, %v", ok, err)
		}
	}
	if !slices.Equal(r.images.loaded, []string{builtinName + " tar"}) {
		t.Errorf("loaded %q", r.images.loaded)
	}
}
