package native

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
)

// try is Setup of a container that may be refused. The namespace is the caller's to
// close.
func (l *lab) try(m network.Membership) (c *container, err error) {
	l.t.Helper()
	netns, err := newNetns()
	if err != nil {
		l.t.Fatal(err)
	}
	c = &container{Request: network.Request{ContainerID: newID(), Netns: netns, Networks: []network.Membership{m}}}
	l.in(l.host, func() error {
		_, err = Driver{}.Setup(context.Background(), c.Request)
		return nil
	})
	return c, err
}

// inPlace is try in the place of a container whose namespace is let go of: what sockets and
// threads have of it the kernel gives back when it has the time, which on a busy machine may
// be longer than a start waits for that.
func (l *lab) inPlace(m network.Membership) (c *container, tries int) {
	l.t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		tries++
		c, err := l.try(m)
		if err == nil {
			return c, tries
		}
		unix.Close(c.Netns)
		if !cove.Is(err, cove.InUse) || time.Now().After(end) {
			l.t.Fatal(err)
		}
	}
}

// TestAddressTaken: an address that a container of another store has is refused by
// the kernel, and is to be had at the instant at which that container is gone.
func TestAddressTaken(t *testing.T) {
	l := newLab(t)
	n := bridgeNet(0)
	first, err := l.try(joined(n, 0, "eth0"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range n.Subnets {
		one := joined(n, 0, "eth0")
		one.Attachment.Addresses = one.Attachment.Addresses[i : i+1]
		_, err = l.try(one)
		var taken *network.Taken
		if !errors.As(err, &taken) || taken.Addr != first.addr(i) || taken.Link != network.LinkName(first.ContainerID, 0) || !cove.Is(err, cove.InUse) {
			t.Errorf("%v: %v", one.Attachment.Addresses, err)
		}
	}
	if r := l.list(); len(r.Links) != 1 || len(r.Links[0].Addresses) != 2 {
		t.Errorf("after the refusals: %+v", r.Links)
	}
	atOnce := 0
	for range 20 {
		// Its last reference: the kernel clears it away when it has the time.
		unix.Close(first.Netns)
		var tries int
		if first, tries = l.inPlace(joined(n, 0, "eth0")); tries == 1 {
			atOnce++
		}
	}
	if atOnce == 0 {
		t.Error("the address of a container that is gone was never to be had at once")
	}
}

// TestBridgeOfAnotherStore: a bridge, and a subnet, are one network's, and
// whoever removes another network of that name leaves them alone.
func TestBridgeOfAnotherStore(t *testing.T) {
	l := newLab(t)
	n := bridgeNet(1)
	n.Created = time.Unix(1, 0)
	if _, err := l.try(joined(n, 0, "eth0")); err != nil {
		t.Fatal(err)
	}
	before := l.sh(l.host, "nft", "list", "ruleset")
	other := n
	other.Created = time.Unix(2, 0)
	if _, err := l.try(joined(other, 1, "eth0")); !cove.Is(err, cove.InUse) {
		t.Errorf("the same bridge: %v", err)
	}
	l.in(l.host, func() error { return Driver{}.RemoveNetwork(t.Context(), other) })
	overlapping := bridgeNet(2)
	overlapping.Subnets = n.Subnets
	if _, err := l.try(joined(overlapping, 1, "eth0")); !cove.Is(err, cove.InUse) {
		t.Errorf("the same subnet: %v", err)
	}
	if r := l.list(); len(r.Links) != 1 || len(r.Bridges) != 1 || r.Bridges[0].Name != n.NetworkInterface {
		t.Errorf("reality %+v", r)
	}
	if after := l.sh(l.host, "nft", "list", "ruleset"); after != before {
		t.Errorf("rules before %s\nand after %s", before, after)
	}
	// The default network is every store's.
	shared := bridgeNet(0)
	for i := range 2 {
		shared.Created = time.Unix(int64(i), 0)
		if _, err := l.try(joined(shared, i, "eth0")); err != nil {
			t.Error(err)
		}
	}
}

// TestUnfinishedBridge: one whose maker was killed before it had its alias is
// completed, or removed with its network.
func TestUnfinishedBridge(t *testing.T) {
	l := newLab(t)
	n := bridgeNet(1)
	half := func() {
		l.in(l.host, func() error {
			rt, err := open(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer rt.shut()
			return makeBridge(rt, &n)
		})
	}
	half()
	l.in(l.host, func() error { return Driver{}.RemoveNetwork(t.Context(), n) })
	if out := l.sh(l.host, "ip", "-o", "link", "show", "type", "bridge"); out != "" {
		t.Error(out)
	}
	half()
	l.container(nil, joined(n, 0, "eth0"))
	if r := l.list(); len(r.Bridges) != 1 || r.Bridges[0].NetworkID != n.ID {
		t.Errorf("reality %+v", r)
	}
}

// TestSharedBridge: the default bridge is that of those whose containers are on it.
func TestSharedBridge(t *testing.T) {
	l := newLab(t)
	n, other := bridgeNet(0), bridgeNet(7)
	other.Name, other.NetworkInterface = n.Name, n.NetworkInterface
	gateways := func(want cove.Network) {
		t.Helper()
		var got []netip.Prefix
		l.in(l.host, func() error {
			rt, err := open(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer rt.shut()
			index, err := rt.index(n.NetworkInterface)
			if err != nil {
				return err
			}
			return addresses(rt, func(at uint32, p netip.Prefix) {
				if int(at) == index {
					got = append(got, p)
				}
			})
		})
		if len(got) != 2 || got[0].Masked() != want.Subnets[0].Subnet || got[1].Masked() != want.Subnets[1].Subnet {
			t.Errorf("the bridge has %v", got)
		}
	}
	first, err := l.try(joined(n, 0, "eth0"))
	if err != nil {
		t.Fatal(err)
	}
	l.echo(l.outside, "tcp", 80, "outside")
	for _, subnets := range [][]cove.Subnet{other.Subnets, other.Subnets[:1], other.Subnets} {
		refused := other
		refused.Subnets = subnets
		c, err := l.try(joined(refused, 0, "eth0"))
		unix.Close(c.Netns)
		if !cove.Is(err, cove.InUse) || !strings.Contains(err.Error(), "a container on it has 10.88.0.2, which is not in 10.88.7.0/24") {
			t.Errorf("beside another store's container: %v", err)
		}
		gateways(n)
	}
	second := l.container(nil, joined(n, 1, "eth0"))
	l.answers(second.Netns, "tcp", at(outside4.Addr(), 80), "outside", "")
	l.answers(second.Netns, "tcp", at(outside6.Addr(), 80), "outside", "")
	// The containers end, the bridge stays.
	unix.Close(first.Netns) // the kernel clears it away when it has the time
	l.sh(l.host, "ip", "link", "del", network.LinkName(second.ContainerID, 0))
	third, _ := l.inPlace(joined(other, 0, "eth0"))
	gateways(other)
	l.answers(third.Netns, "tcp", at(outside4.Addr(), 80), "outside", "")
	l.answers(third.Netns, "tcp", at(outside6.Addr(), 80), "outside", "")
}
