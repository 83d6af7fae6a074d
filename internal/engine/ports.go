package engine

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
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

// choosePorts chooses the host ports that are left to us, for a container that is
// started later: they can be asked for before. Nothing keeps others from them.
func (d *draft) choosePorts() error {
	var open []*os.File
	defer func() {
		for _, f := range open {
			_ = f.Close()
		}
	}()
	d.c.Ports = slices.Clone(d.c.Ports)
	for i, p := range d.c.Ports {
		if p.HostPort != 0 {
			continue
		}
		chosen, files, err := network.Reserve([]cove.PortMapping{p})
		if err != nil {
			return err
		}
		open = append(open, files...) // not one port twice
		d.c.Ports[i] = chosen[0]
	}
	return nil
}
