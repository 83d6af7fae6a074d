package engine

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cove-engine/cove"
)

// ports settles where ports are published, and adds what -P publishes: every port that the image or --expose names,
// on a free port of the host's.
func (d *draft) ports() error {
	c := d.c
	defer func() { c.Ports = d.e.publishedOn(c.Ports) }()
	if !c.Spec.PublishAll {
		return nil
	}
	c.Ports = slices.Clone(c.Ports)
	for _, text := range append(slices.Clone(c.Image.ExposedPorts), c.Spec.Expose...) {
		number, proto, ok := strings.Cut(text, "/")
		if !ok {
			proto = "tcp"
		}
		first, last, isRange := strings.Cut(number, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err != nil || err2 != nil || from == 0 || to < from {
			return cove.E("", "", cove.Invalid, fmt.Errorf("invalid port to expose %q", text))
		}
		for p := from; p <= to; p++ {
			published := slices.ContainsFunc(c.Ports, func(m cove.PortMapping) bool {
				return m.Protocol == proto && uint64(m.ContainerPort) <= p && p < uint64(m.ContainerPort)+uint64(max(m.Range, 1))
			})
			if !published {
				c.Ports = append(c.Ports, cove.PortMapping{ContainerPort: uint16(p), Range: 1, Protocol: proto})
			}
		}
	}
	return nil
}
