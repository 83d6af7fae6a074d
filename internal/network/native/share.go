package native

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
)

// The default bridge is shared by all stores of a host, whose default_subnet may
// differ: then it is that of those whose containers are on it.

// takeOver6 is takeOver before the network's gateways are added, for one that has
// IPv6. To add an address and to take it off at once takes the bridge out of the
// multicast group in which its neighbours look for another address with the same
// last 24 bits: the kernel joins later, in a work queue, and leaves at once.
func takeOver6(rt socket, n *cove.Network) error {
	if slices.ContainsFunc(n.Subnets, func(s cove.Subnet) bool { return s.Subnet.Addr().Is6() }) {
		return takeOver(rt, n)
	}
	return nil
}

// takeOver takes what subnets a default bridge has from other settings off it. When
// there are containers of theirs, it takes off those of the network and is an error.
func takeOver(rt socket, n *cove.Network) error {
	within := func(a netip.Addr) bool {
		return slices.ContainsFunc(n.Subnets, func(s cove.Subnet) bool { return s.Subnet.Contains(a) })
	}
	ours := func(p netip.Prefix) bool {
		return slices.ContainsFunc(n.Subnets, func(s cove.Subnet) bool { return s.Subnet == p.Masked() })
	}
	var bridge uint32
	foreign := map[uint32][]netip.Addr{} // by the bridge's index
	err := links(rt, func(l link) {
		if l.name == n.NetworkInterface {
			bridge = l.index
		}
		for _, a := range l.addresses {
			if !within(a) {
				foreign[l.master] = append(foreign[l.master], a)
			}
		}
	})
	if err != nil {
		return err
	}
	var holder *network.Taken
	for _, a := range foreign[bridge] {
		if err = yield(rt, a); err != nil {
			break
		}
	}
	if err != nil && !errors.As(err, &holder) {
		return err
	}
	var m message
	err = addresses(rt, func(index uint32, p netip.Prefix) {
		if index == bridge && ours(p) == (holder != nil) {
			m.dropAddress(int(index), p)
		}
	})
	if err == nil {
		err = rt.must(&m, unix.EADDRNOTAVAIL)
	}
	switch {
	case err != nil:
		return os.NewSyscallError("take addresses off bridge "+n.NetworkInterface, err)
	case holder != nil:
		return cove.E("make bridge of network", n.NetworkInterface, cove.InUse, fmt.Errorf("a container on it has %v, which is not in %v: it is another store's, or was started before default_subnet was changed; stop it, or set default_subnet to its subnet", holder.Addr, n.Subnets[0].Subnet))
	}
	return nil
}
