package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/inspect"
	"github.com/cove-engine/cove/internal/state"
)

// Volumes gives the volumes that the filters choose, by name.
func (e *Engine) Volumes(ctx context.Context, filters map[string][]string) ([]inspect.Volume, error) {
	chosen, _, err := e.chooseVolumes(filters)
	if err != nil {
		return nil, err
	}
	out := make([]inspect.Volume, len(chosen))
	for i, v := range chosen {
		out[i] = inspect.NewVolume(v, e.volumeData(v.Name))
	}
	return out, nil
}

// Volume describes a volume.
func (e *Engine) Volume(ctx context.Context, name string) (inspect.Volume, error) {
	v, err := e.findVolume(name)
	if err != nil {
		return inspect.Volume{}, err
	}
	return inspect.NewVolume(v, e.volumeData(v.Name)), nil
}

// PruneVolumes removes the volumes that the filters choose and that no
// container has, and gives their names and, at the same places, the bytes
// that each gave back.
func (e *Engine) PruneVolumes(ctx context.Context, filters map[string][]string) (names []string, sizes []int64, err error) {
	chosen, used, err := e.chooseVolumes(filters)
	if err == nil {
		err = used.unknown
	}
	if err != nil {
		return nil, nil, err
	}
	var errs []error
	for _, v := range chosen {
		if used.links[v.Name] > 0 {
			continue // spares measuring it; dropVolume looks again
		}
		size := treeSize(e.volumeData(v.Name))
		switch err := e.dropVolume(ctx, v.Name); {
		case err == nil:
			names, sizes = append(names, v.Name), append(sizes, size)
		case !cove.Is(err, cove.InUse) && !cove.Is(err, cove.NotFound):
			errs = append(errs, err)
		}
	}
	return names, sizes, errors.Join(errs...)
}

// volumeUse tells of the use of volumes.
type volumeUse struct {
	links   map[string]int // how many containers have each, by its name
	unknown error          // damaged records of containers, which may have any
}

func (e *Engine) chooseVolumes(filters map[string][]string) ([]cove.Volume, volumeUse, error) {
	all, used, err := e.volumesAndUse()
	if err != nil {
		return nil, used, err
	}
	match, err := e.volumeMatcher(filters, used.links)
	if err != nil {
		return nil, used, err
	}
	return slices.DeleteFunc(all, func(v cove.Volume) bool { return !match(&v) }), used, nil
}

// volumesAndUse reads all volumes, by name, and their use, in one snapshot.
func (e *Engine) volumesAndUse() ([]cove.Volume, volumeUse, error) {
	gone := map[string]bool{}
	for _, id := range e.removedMarks() {
		gone[id] = true
	}
	var all []cove.Volume
	var used volumeUse
	err := e.store.View(func(tx state.Tx) error {
		all, used = nil, volumeUse{links: map[string]int{}}
		err := tx.List(state.Volumes, func(id string, raw []byte) error {
			var v cove.Volume
			if err := state.Decode(state.Volumes, id, raw, &v); err != nil {
				v = cove.Volume{Name: id} // that much is known
			}
			all = append(all, v)
			return nil
		})
		if err != nil {
			return err
		}
		return tx.List(state.Containers, func(id string, raw []byte) error {
			c, err := decodeContainer(id, raw)
			if err != nil {
				used.unknown = errors.Join(used.unknown, err)
				return nil
			}
			if !gone[id] {
				for _, name := range volumesOf(c) {
					used.links[name]++
				}
			}
			return nil
		})
	})
	return all, used, err
}

// volumesOf are the names of a container's volumes, each once.
func volumesOf(c *cove.Container) []string {
	var names []string
	for _, m := range c.Mounts {
		if m.Type == "volume" && !slices.Contains(names, m.Source) {
			names = append(names, m.Source)
		}
	}
	return names
}

// volumeMatcher compiles podman's volume filters: values of one key are
// alternatives, but labels must all be there; all keys must match.
func (e *Engine) volumeMatcher(filters map[string][]string, links map[string]int) (func(*cove.Volume) bool, error) {
	var tests []func(*cove.Volume) bool
	for key, values := range filters {
		test, err := e.volumeTest(strings.ToLower(key), values, links)
		if err != nil {
			return nil, err
		}
		tests = append(tests, test)
	}
	return func(v *cove.Volume) bool {
		for _, test := range tests {
			if !test(v) {
				return false
			}
		}
		return true
	}, nil
}

func (e *Engine) volumeTest(key string, values []string, links map[string]int) (func(*cove.Volume) bool, error) {
	switch key {
	case "name":
		exprs, err := regexps(key, values)
		if err != nil {
			return nil, err
		}
		return func(v *cove.Volume) bool { return matchesAny(exprs, v.Name) }, nil
	case "driver":
		return func(v *cove.Volume) bool { return slices.Contains(values, v.Driver) }, nil
	case "scope":
		return func(*cove.Volume) bool { return slices.Contains(values, "local") }, nil
	case "label":
		return func(v *cove.Volume) bool { return hasLabels(values, v.Labels) }, nil
	case "label!":
		return func(v *cove.Volume) bool { return lacksLabels(values, v.Labels) }, nil
	case "opt":
		return func(v *cove.Volume) bool {
			return slices.ContainsFunc(values, func(want string) bool { return hasLabel(want, v.Options) })
		}, nil
	case "dangling", "anonymous":
		if len(values) == 1 && !slices.Contains([]string{"true", "1", "false", "0"}, values[0]) {
			return nil, cove.E("", "", cove.Invalid, fmt.Errorf("%q is not a valid value for the %q filter - must be true or false", values[0], key))
		}
		want, err := boolFilter(key, values)
		if err != nil {
			return nil, err
		}
		if key == "anonymous" {
			return func(v *cove.Volume) bool { return v.Anonymous == want }, nil
		}
		return func(v *cove.Volume) bool { return (links[v.Name] == 0) == want }, nil
	case "until":
		at, err := momentFilter(key, values)
		if err != nil {
			return nil, err
		}
		return func(v *cove.Volume) bool { return v.Created.Before(at) }, nil
	case "after", "since":
		if len(values) != 1 {
			return nil, cove.E("", "", cove.Invalid, fmt.Errorf("specify exactly one volume for %s", key))
		}
		other, err := e.findVolume(values[0])
		if err != nil {
			return nil, err
		}
		return func(v *cove.Volume) bool { return v.Created.After(other.Created) }, nil
	}
	return nil, cove.E("", "", cove.Invalid, fmt.Errorf("%q is an invalid volume filter", key))
}
