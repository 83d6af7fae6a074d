package native

import (
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/network/teardown"
)

// TestChange takes a container through networks while it runs.
func TestChange(t *testing.T) {
	l := newLab(t)
	l.echo(l.outside, "tcp", 80, "outside")
	n, m := bridgeNet(0), bridgeNet(1)
	onN, onM := joined(n, 3, "eth0"), joined(m, 3, "eth1")
	c := l.container([]cove.PortMapping{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}, onN)
	neighbour := l.container([]cove.PortMapping{{HostPort: 8081, ContainerPort: 80, Protocol: "tcp"}}, joined(m, 4, "eth0"))
	change := func(networks ...network.Membership) (down teardown.Teardown) {
		t.Helper()
		c.Networks = networks
		l.in(l.host, func() (err error) {
			down, err = Driver{}.Change(t.Context(), c.Request)
			return err
		})
		return down
	}
	state := func(links int, target string) {
		t.Helper()
		r := l.list()
		own := 0
		for _, k := range r.Links {
			if k.OwnerPrefix == c.ContainerID[:12] {
				own++
			}
		}
		got := ""
		for _, e := range r.Elements {
			if e.ContainerID == c.ContainerID && e.Target.Addr().Is4() {
				got = e.Target.Addr().String()
			}
		}
		if own != links || got != target {
			t.Errorf("%d links, ports to %q; want %d and %q", own, got, links, target)
		}
	}
	first, second := onN.Attachment.Addresses[0].Addr().String(), onM.Attachment.Addresses[0].Addr().String()
	change(onN)
	state(1, first)
	change(onN, onM)
	state(2, first)
	l.answers(c.Netns, "tcp", at(outside4.Addr(), 80), "outside", hostOut4.Addr().String())
	change(onN, onM) // again
	state(2, first)
	change(onM)
	state(1, second)
	l.answers(c.Netns, "tcp", at(outside4.Addr(), 80), "outside", hostOut4.Addr().String())
	change()
	state(0, "")
	l.silent(c.Netns, "tcp", at(outside4.Addr(), 80))
	// The other one has not noticed.
	l.answers(neighbour.Netns, "tcp", at(outside4.Addr(), 80), "outside", hostOut4.Addr().String())
	down := change(onM, onN)
	state(2, second)
	l.answers(c.Netns, "tcp", at(outside4.Addr(), 80), "outside", hostOut4.Addr().String())
	l.in(l.host, func() error { return teardown.Run(down) })
	state(2, "")
	if r := l.list(); len(r.Elements) != 2 {
		t.Errorf("elements %v", r.Elements)
	}
}
