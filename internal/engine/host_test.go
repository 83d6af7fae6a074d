package engine

import (
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
)

// A container that stays in its caller's cgroup has none of its own to divide.
func TestOwnCgroup(t *testing.T) {
	e, _ := engineWith(t)
	for _, tc := range []struct {
		layout  cgroup.Layout
		cgroups string
		want    bool
	}{
		{cgroup.Layout{Unified: true, Writable: true}, "", true},
		{cgroup.Layout{Unified: true, Writable: true}, cgroupsDisabled, false},
		{cgroup.Layout{Unified: true, Rootless: true}, "", false},
		{cgroup.Layout{Writable: true}, "", false},
	} {
		c := &cove.Container{ID: newID()}
		c.Spec.Cgroups = tc.cgroups
		h, err := e.host(c, tc.layout)
		if err != nil {
			t.Fatal(err)
		}
		if h.OwnCgroup != tc.want {
			t.Errorf("%+v, --cgroups=%s: %v, want %v", tc.layout, tc.cgroups, h.OwnCgroup, tc.want)
		}
	}
}
