package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/network/teardown"
	"github.com/cove-engine/cove/internal/state"
)

// lease gives the container an address in every subnet of its networks, none of
// those held by others. It keeps those it has.
func (e *Engine) lease(tx state.Tx, c *cove.Container, held map[netip.Addr]bool) error {
	for i := range c.Attachments {
		a := &c.Attachments[i]
		n, err := e.getNetwork(tx, a.Network)
		if err != nil {
			return err
		}
		a.Network = n.Name
		if len(a.Addresses) > 0 {
			continue
		}
		a.Gateways = nil
		for _, s := range n.Subnets {
			addr, err := e.leaseIn(tx, n, s, wanted(a.StaticIPs, s.Subnet), held, c.ID)
			if err != nil {
				return err
			}
			a.Addresses = append(a.Addresses, netip.PrefixFrom(addr, s.Subnet.Bits()))
			if s.Gateway.IsValid() && !n.Internal {
				a.Gateways = append(a.Gateways, s.Gateway)
			}
		}
		for _, ip := range a.StaticIPs {
			if !slices.ContainsFunc(n.Subnets, func(s cove.Subnet) bool { return s.Subnet.Contains(ip) }) {
				return cove.E("", "", cove.Invalid, fmt.Errorf("requested static ip %s not in any subnet on network %s", ip, n.Name))
			}
		}
	}
	return nil
}

// dropOutdated takes addresses of a container that does not run away that are in no
// subnet of their network: the default network's is a setting.
func (e *Engine) dropOutdated(tx state.Tx, c *cove.Container) error {
	for i := range c.Attachments {
		a := &c.Attachments[i]
		n, err := e.getNetwork(tx, a.Network)
		if err != nil {
			return err
		}
		outdated := func(p netip.Prefix) bool {
			return !slices.ContainsFunc(n.Subnets, func(s cove.Subnet) bool { return s.Subnet == p.Masked() })
		}
		if !slices.ContainsFunc(a.Addresses, outdated) {
			continue
		}
		if err := tx.Unlease(n.Name, c.ID); err != nil {
			return err
		}
		a.Addresses = nil
	}
	return nil
}

func wanted(static []netip.Addr, subnet netip.Prefix) netip.Addr {
	for _, ip := range static {
		if subnet.Contains(ip) {
			return ip
		}
	}
	return netip.Addr{}
}

// leaseIn leases one address. When none is free, those of containers that do
// not run are taken back first.
func (e *Engine) leaseIn(tx state.Tx, n cove.Network, s cove.Subnet, want netip.Addr, held map[netip.Addr]bool, owner string) (netip.Addr, error) {
	first, last := leaseRange(s)
	taken := func(a netip.Addr) bool { return a == s.Gateway || held[a] }
	addr, err := tx.Lease(n.Name, s.Subnet, first, last, want, taken, owner)
	if !cove.Is(err, cove.Unavailable) {
		return addr, err
	}
	if rerr := e.reclaim(tx, n.Name); rerr != nil {
		return addr, errors.Join(err, rerr)
	}
	return tx.Lease(n.Name, s.Subnet, first, last, want, taken, owner)
}

// reclaim takes back the addresses of containers that neither run nor insist
// on theirs. They get others when they start.
func (e *Engine) reclaim(tx state.Tx, name string) error {
	var idle []string
	err := readable(tx, func(c *cove.Container) {
		on := slices.ContainsFunc(c.Attachments, func(a cove.NetworkAttachment) bool {
			return a.Network == name && len(a.Addresses) > 0 && len(a.StaticIPs) == 0
		})
		if !on {
			return
		}
		// One that is being started, or that nobody has taken down yet, still
		// has links and firewall elements with its address.
		if now, err := e.look(c); err == nil && now.Run.PID == 0 && !now.unsettled() && (c.Desired == cove.DesireStop || now.Status == cove.Exited) {
			idle = append(idle, c.ID)
		}
	})
	if err != nil {
		return err
	}
	for _, id := range idle {
		c := new(cove.Container)
		if err := tx.Get(state.Containers, id, c); err != nil {
			return err
		}
		for i := range c.Attachments {
			if c.Attachments[i].Network == name {
				c.Attachments[i].Addresses, c.Attachments[i].Gateways = nil, nil
			}
		}
		if err := tx.Unlease(name, id); err != nil {
			return err
		}
		if err := tx.Put(state.Containers, id, c); err != nil {
			return err
		}
	}
	return nil
}

// leaseRange is the addresses of a subnet that are handed out: all but the
// first and, in IPv4, the broadcast address.
func leaseRange(s cove.Subnet) (first, last netip.Addr) {
	first, last = s.Subnet.Masked().Addr().Next(), lastAddr(s.Subnet)
	if r := s.LeaseRange; r != nil {
		if r.StartIP.IsValid() {
			first = r.StartIP
		}
		if r.EndIP.IsValid() {
			return first, r.EndIP
		}
	}
	if last.Is4() {
		last = last.Prev()
	}
	return first, last
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := range b {
		for bit := range 8 {
			if i*8+bit >= p.Bits() {
				b[i] |= 0x80 >> bit
			}
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// join sets up the container's network.
func (l *launch) join(ctx context.Context) (td teardown.Teardown, err error) {
	written := l.c.Attachments // in its files
	err = l.e.whileTaken(ctx, l.c, func() (err error) {
		if !slices.EqualFunc(written, l.c.Attachments, sameAddresses) {
			if err := l.e.writeFiles(l.c, l.extra.Hostname, l.networks); err != nil {
				return err
			}
			written = l.c.Attachments
		}
		td, err = l.e.networks.Setup(ctx, request(l.c, l.netns, l.networks))
		return err
	})
	return td, err
}

func sameAddresses(a, b cove.NetworkAttachment) bool { return slices.Equal(a.Addresses, b.Addresses) }

// addressTries bounds how often a container gets other addresses because those
// that it had were taken: each time by somebody who was faster.
const addressTries = 8

// whileTaken does what connects the container, and where another container of the
// host has an address of its, does it again with another one. An address that was
// asked for it keeps, and then that is the answer. The bridges of an ordinary user
// are one store's: there the ledger is right, and what has the address is left over.
func (e *Engine) whileTaken(ctx context.Context, c *cove.Container, connect func() error) error {
	for try := 0; ; try++ {
		err := connect()
		var taken *network.Taken
		if try == addressTries || !errors.As(err, &taken) {
			return err
		}
		asked := func(a cove.NetworkAttachment) bool { return slices.Contains(a.StaticIPs, taken.Addr) }
		switch {
		case e.lan != nil:
			err = e.networks.RemoveLink(ctx, taken.Link)
		case !slices.ContainsFunc(c.Attachments, asked):
			err = e.leaseAnew(ctx, c)
		}
		if err != nil {
			return err
		}
	}
}

// leaseAnew gives the container addresses that no other container of the host has
// in the place of those that one has.
func (e *Engine) leaseAnew(ctx context.Context, c *cove.Container) error {
	held := map[netip.Addr]bool{}
	r, err := e.networks.List(ctx)
	for _, l := range r.Links {
		for _, a := range l.Addresses {
			held[a] = held[a] || !strings.HasPrefix(c.ID, l.OwnerPrefix)
		}
	}
	if err != nil {
		return err
	}
	return e.update(func(tx state.Tx) error {
		now := new(cove.Container)
		if err := tx.Get(state.Containers, c.ID, now); err != nil {
			return err
		}
		for i := range now.Attachments {
			a := &now.Attachments[i]
			if !slices.ContainsFunc(a.Addresses, func(p netip.Prefix) bool { return held[p.Addr()] }) {
				continue
			}
			if err := tx.Unlease(a.Network, c.ID); err != nil {
				return err
			}
			a.Addresses = nil
		}
		if err := e.lease(tx, now, held); err != nil {
			return err
		}
		c.Attachments = now.Attachments
		return tx.Put(state.Containers, c.ID, now)
	})
}
