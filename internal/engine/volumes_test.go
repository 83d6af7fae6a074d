package engine

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
)

func withVolume(name string) func(*cove.Container) {
	return func(c *cove.Container) {
		c.Mounts = []cove.Mount{{Type: "volume", Source: name, Destination: "/v"}}
	}
}

func TestVolumes(t *testing.T) {
	needRoot(t)
	e, _ := engineWith(t)
	for _, v := range []cove.Volume{{Name: "data", Labels: map[string]string{"k": "v"}}, {Name: "spare"}, {}} {
		if _, err := e.CreateVolume(t.Context(), v, false); err != nil {
			t.Fatal(err)
		}
	}
	c := stored(t, e, "c1", withVolume("data"))
	for _, test := range []struct {
		filters map[string][]string
		want    []string
		many    int
	}{
		{map[string][]string{"name": {"^data$", "^spare$"}}, []string{"data", "spare"}, 0},
		{map[string][]string{"label": {"k=v"}}, []string{"data"}, 0},
		{map[string][]string{"label": {"k=w"}}, nil, 0},
		{map[string][]string{"dangling": {"false"}}, []string{"data"}, 0},
		{map[string][]string{"dangling": {"true"}}, nil, 2},
		{map[string][]string{"anonymous": {"true"}}, nil, 1},
		{map[string][]string{"driver": {"local"}}, nil, 3},
		{map[string][]string{"scope": {"global"}}, nil, 0},
		{map[string][]string{"since": {"data"}, "anonymous": {"false"}}, []string{"spare"}, 0},
		{map[string][]string{"until": {"1h"}}, nil, 0},
	} {
		got, err := e.Volumes(t.Context(), test.filters)
		var names []string
		for _, v := range got {
			names = append(names, v.Name)
		}
		if err != nil || test.many == 0 && !slices.Equal(names, test.want) || test.many > 0 && len(names) != test.many {
			t.Errorf("%v: %q, %v, want %q or %d", test.filters, names, err, test.want, test.many)
		}
	}
	_, err := e.Volumes(t.Context(), map[string][]string{"foo": {"x"}})
	wantKind(t, err, cove.Invalid, `"foo" is an invalid volume filter`)
	_, err = e.Volumes(t.Context(), map[string][]string{"dangling": {"x"}})
	wantKind(t, err, cove.Invalid, `"x" is not a valid value for the "dangling" filter - must be true or false`)

	v, err := e.Volume(t.Context(), "data")
	if err != nil || v.Mountpoint != e.volumeData("data") || v.Options == nil || v.Scope != "local" {
		t.Errorf("inspect %+v, %v", v, err)
	}
	_, err = e.RemoveVolume(t.Context(), "data", RemoveOptions{})
	wantKind(t, err, cove.InUse, "is being used by the following container(s): "+c.ID)

	mustWrite(t, filepath.Join(e.volumeData("spare"), "f"), "12345")
	names, sizes, err := e.PruneVolumes(t.Context(), map[string][]string{"anonymous": {"false"}})
	if err != nil || !slices.Equal(names, []string{"spare"}) || !slices.Equal(sizes, []int64{5}) {
		t.Errorf("pruned %q %v, %v", names, sizes, err)
	}
	name, err := e.RemoveVolume(t.Context(), "dat", RemoveOptions{Force: true})
	if err != nil || name != "data" || exists(e.volumeData("data")) {
		t.Errorf("forced: %q, %v", name, err)
	}
	if _, err := e.find(c.ID); !cove.Is(err, cove.NotFound) {
		t.Errorf("its container is still there: %v", err)
	}
}

// oneRecord is a store of containers with one record.
type oneRecord struct {
	state.Tx
	raw string
}

func (r oneRecord) List(_ state.Bucket, each func(string, []byte) error) error {
	return each("a", []byte(r.raw))
}

// The damage may have taken the volume's name, too.
func TestVolumeUsersDamaged(t *testing.T) {
	e, _ := engineWith(t)
	if users, err := e.volumeUsers(oneRecord{raw: `{"id":"a","mounts":[{"source":"other"}]}`}, []string{"data"}, ""); err != nil || len(users) > 0 {
		t.Error(users, err)
	}
	if _, err := e.volumeUsers(oneRecord{raw: `{"id":"a","mounts":[{"source":"da#a}]}`}, []string{"data"}, ""); !errors.Is(err, state.ErrDamaged) {
		t.Errorf("%v, want that the record is damaged", err)
	}
}

func TestPruneContainers(t *testing.T) {
	e, _ := engineWith(t)
	a := stored(t, e, "a", nil)
	b := stored(t, e, "b", func(c *cove.Container) { c.Spec.Labels = map[string]string{"keep": "1"} })
	mustWrite(t, filepath.Join(e.dir(a.ID), "diff", "f"), "123")
	ids, sizes, err := e.PruneContainers(t.Context(), map[string][]string{"label!": {"keep"}})
	if err != nil || !slices.Equal(ids, []string{a.ID}) || !slices.Equal(sizes, []int64{3}) {
		t.Errorf("pruned %q %v, %v", ids, sizes, err)
	}
	if _, err := e.find(b.ID); err != nil {
		t.Error(err)
	}
}
