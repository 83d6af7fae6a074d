package engine

import (
	"slices"
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
)

// The entries of a unit's container are found from a shell that is in another
// cgroup than its starter was.
func TestUnitEntriesFromElsewhere(t *testing.T) {
	e, _ := engineWith(t)
	c := &cove.Container{ID: newID()}
	c.Spec.Labels = map[string]string{UnitLabel: "u.service"}
	in := func(base string) {
		e.cgroups = func() (cgroup.Layout, error) { return cgroup.Layout{Unified: true, Base: base}, nil }
	}
	in("/delegated")
	_ = (&launch{e: e, c: c}).describe(t.Context()) // fails later: there is no image
	in("")
	want := []string{"_TRANSPORT=stdout", "_SYSTEMD_CGROUP=/delegated" + cgroupPath(c)}
	if got := e.unitEntries(c, "passthrough"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}

	// So are the container's cgroups, by root, too.
	e.cgroups = func() (cgroup.Layout, error) {
		return cgroup.Layout{Unified: true, Mount: "/m", Writable: true}, nil
	}
	if got, err := e.cgroupDirs(c); err != nil || !slices.Equal(got, []string{"/m/delegated" + cgroupPath(c)}) {
		t.Errorf("cgroups %q, %v", got, err)
	}
}
