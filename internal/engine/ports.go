package engine

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
)

// ports settles where ports are published, and adds what -P publishes: every port that the image or --expose names,
// on a free port of the host's.
func (d *draft) ports() error {
	c := d.c
	defer func() { c.Ports = d.e.publishedOn(c.Ports) }()
	var all []cove.PortMapping
	image := c.Image.ExposedPorts
	c.Image.ExposedPorts = nil
	for _, text := range image {
		ports, err := exposed(text)
		if err != nil {
			return cove.E("", "", cove.Invalid, fmt.Errorf("unable to convert image EXPOSE: %w", err))
		}
		for _, m := range ports {
			number, _, _ := strings.Cut(text, "/")
			c.Image.ExposedPorts = append(c.Image.ExposedPorts, number+"/"+m.Protocol)
		}
		all = append(all, ports...)
	}
	if !c.Spec.PublishAll {
		return nil
	}
	for _, text := range c.Spec.Expose {
		ports, err := exposed(text)
		if err != nil {
			return cove.E("expose port", text, cove.Invalid, err)
		}
		all = append(all, ports...)
	}
	type door struct {
		port     uint16
		protocol string
	}
	published := map[door]bool{}
	for _, m := range c.Ports {
		for i := range max(m.Range, 1) {
			published[door{m.ContainerPort + i, m.Protocol}] = true
		}
	}
	c.Ports = slices.Clone(c.Ports)
	for _, m := range all {
		for i := range m.Range {
			d := door{m.ContainerPort + i, m.Protocol}
			if !published[d] {
				published[d] = true
				c.Ports = append(c.Ports, cove.PortMapping{ContainerPort: d.port, Range: 1, Protocol: d.protocol})
			}
		}
	}
	return nil
}

// exposed reads PORT[-END][/PROTOCOL[,PROTOCOL]…].
func exposed(text string) (all []cove.PortMapping, err error) {
	ports, protocols, _ := strings.Cut(text, "/")
	first, count, err := cove.ParsePorts(ports)
	if err != nil {
		return nil, err
	}
	for p := range strings.SplitSeq(cmp.Or(strings.ToLower(protocols), "tcp"), ",") {
		switch p {
		case "tcp", "udp", "sctp":
			all = append(all, cove.PortMapping{ContainerPort: first, Range: count, Protocol: p})
		default:
			return nil, fmt.Errorf("unrecognized protocol %q in port mapping", p)
		}
	}
	return all, nil
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
	fixed := func(p cove.PortMapping) bool { return p.HostPort != 0 }
	if err := network.Reservable(slices.DeleteFunc(slices.Clone(d.c.Ports), fixed)); err != nil {
		return err
	}
	d.c.Ports = slices.Clone(d.c.Ports)
	for i, p := range d.c.Ports {
		if fixed(p) {
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
