package inspect

import (
	"slices"
	"strings"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/capability"
)

// capNames writes capabilities as the kernel's headers do, sorted.
func capNames(in []string) []string {
	out := []string{}
	for _, c := range in {
		c = strings.ToUpper(c)
		if c != "ALL" && !strings.HasPrefix(c, "CAP_") {
			c = "CAP_" + c
		}
		out = append(out, c)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// capabilities is the set that root has in the container.
func capabilities(c cove.Container) []string {
	s := c.Spec
	add, drop := capNames(s.CapAdd), capNames(s.CapDrop)
	if s.Privileged || slices.Contains(add, "ALL") {
		return without(capability.Sorted(), drop)
	}
	set := c.BaseCapabilities()
	if slices.Contains(drop, "ALL") {
		set = nil
		drop = nil
	}
	out := slices.Concat(without(set, drop), add)
	slices.Sort(out)
	return slices.Compact(out)
}

func without(set, drop []string) []string {
	return slices.DeleteFunc(slices.Clone(set), func(c string) bool { return slices.Contains(drop, c) })
}
