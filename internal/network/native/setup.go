package native

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/network/teardown"
)

const setupOp = "connect container"

// defaultMetric is the metric of default routes, podman's.
const defaultMetric = 100

// Setup implements [network.Driver].
func (d Driver) Setup(ctx context.Context, r network.Request) (teardown.Teardown, error) {
	var none teardown.Teardown
	if err := r.Validate(); err != nil {
		return none, err
	}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	fail := func(kind cove.Kind, err error) (teardown.Teardown, error) {
		return none, cove.E(setupOp, r.ContainerID[:cove.ShortIDLength], kind, err)
	}
	host, err := open(unix.NETLINK_ROUTE)
	if err != nil {
		return fail(cove.Internal, err)
	}
	defer host.shut()
	inside, err := openIn(r.Netns)
	if err != nil {
		return fail(cove.Internal, err)
	}
	defer inside.shut()
	if err := ensureForwarding(&r); err != nil {
		return fail(cove.Internal, err)
	}
	if err := join(host, inside, &r); err != nil {
		return fail(kindOf(err), errors.Join(err, leave(host, &r)))
	}
	t, err := admit(&r, false)
	if err != nil {
		return fail(kindOf(err), errors.Join(err, leave(host, &r)))
	}
	return t, nil
}

// kindOf sorts the kernel's refusals.
func kindOf(err error) cove.Kind {
	var e *cove.Error
	var taken *network.Taken
	switch {
	case errors.As(err, &taken):
		return cove.InUse
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return cove.Denied
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT):
		return cove.Unsupported
	}
	return cove.Internal
}

// join makes the container's links, addresses and routes.
func join(host, inside socket, r *network.Request) error {
	for i := range r.Networks {
		if err := makeLink(host, r, &r.Networks[i]); err != nil {
			return err
		}
	}
	if err := configure(inside, r); err != nil {
		return err
	}
	return settle(host, r)
}

// makeLink links the container to one network's bridge.
func makeLink(host socket, r *network.Request, n *network.Membership) error {
	bridge, err := ensureBridge(host, &n.Network)
	if err != nil {
		return err
	}
	name := linkName(r, n)
	var m message
	m.veth(name, bridge, r.Netns, n.Attachment.Interface, hardwareAddr(n.Attachment), network.MTU(n.Network))
	if len(r.Ports) > 0 {
		m.hairpin(name)
	}
	claims := m.seq + 1
	for _, a := range n.Attachment.Addresses {
		m.claim(name, a.Addr())
	}
	m.ask(n.Network.NetworkInterface)
	for try := 0; ; try++ {
		var on link
		refused, err := host.ask(&m, func(l link) { on = l })
		switch {
		case err != nil:
			return err
		case on.foreign(&n.Network):
			err = otherNetwork(on.name)
		case len(refused) == 0:
			return nil
		case !errors.Is(refused[0].errno, unix.EEXIST):
			if err = isBridge(host, n.Network.NetworkInterface); err == nil {
				err = os.NewSyscallError("make link "+name+" to "+n.Attachment.Interface, refused[0].errno)
			}
		case refused[0].seq >= claims:
			err = yield(host, n.Attachment.Addresses[refused[0].seq-claims].Addr())
		}
		// What is there of that name is this half-made one, or was left by an
		// earlier run of this same container whose namespace something still holds.
		if rerr := removeLink(host, name); rerr != nil || err != nil {
			return errors.Join(err, rerr)
		}
		if try == linkTries {
			return os.NewSyscallError("make link "+name+" to "+n.Attachment.Interface, refused[0].errno)
		}
	}
}

// linkTries bounds how often a link is made anew: each time something that was in
// its way is gone.
const linkTries = 8

func linkName(r *network.Request, n *network.Membership) string {
	return network.LinkName(r.ContainerID, n.Attachment.Link)
}

// settle makes sure of the bridges' addresses, now that they are known to be
// bridges, and makes the links pass packets by the time it returns. The kernel tells
// a bridge from a work queue that a port has come up, and until then drops
// what is sent, which costs the first connection a second. Asking for a link
// makes that queue be run for it (since Linux 6.8; before, nothing is gained and
// the rest of a container's start is waiting enough).
func settle(host socket, r *network.Request) error {
	for some := range slices.Chunk(r.Networks, settledAtOnce) {
		if err := settleSome(host, r, some); err != nil {
			return err
		}
	}
	return nil
}

// settledAtOnce is how many networks are asked about in one send. What the kernel
// answers waits in the socket, which has room for some fifty links (208 KiB,
// net.core.rmem_default).
const settledAtOnce = 8

func settleSome(host socket, r *network.Request, some []network.Membership) error {
	var m message
	for i := range some {
		m.ask(linkName(r, &some[i]))
	}
	for i := range some {
		m.ask(some[i].Network.NetworkInterface)
	}
	gateways := m.seq
	var shared *cove.Network
	for i := range some {
		n := &some[i].Network
		if n.NetworkInterface == network.DefaultBridge {
			shared = n
			if err := takeOver6(host, n); err != nil {
				return err
			}
		}
		index, err := host.index(n.NetworkInterface)
		if err != nil {
			return err
		}
		m.gateways(index, n)
	}
	refused, err := host.do(&m)
	if err != nil {
		return os.NewSyscallError("set up bridges", err)
	}
	for _, x := range refused {
		// Those that a bridge has.
		if x.errno != unix.EEXIST {
			return os.NewSyscallError("set up bridges", x.errno)
		}
	}
	if int(m.seq-gateways) > len(refused) && shared != nil {
		return takeOver(host, shared)
	}
	return nil
}

// configure sets up the inside of the container's namespace, in one send.
func configure(inside socket, r *network.Request, tolerated ...unix.Errno) error {
	var (
		m            message
		have4, have6 bool // a default route
	)
	m.up(1) // lo is always the first link of a namespace
	for i := range r.Networks {
		n := &r.Networks[i]
		index, err := inside.index(n.Attachment.Interface)
		if err != nil {
			return err
		}
		if index == 0 && slices.Contains(tolerated, unix.ENODEV) {
			continue
		}
		if index == 0 {
			return os.NewSyscallError("find "+n.Attachment.Interface, unix.ENODEV)
		}
		m.up(index)
		for _, a := range n.Attachment.Addresses {
			m.address(index, a)
		}
		if !n.Network.Internal && !network.NoDefaultRoute(n.Network) {
			metric := uint32(defaultMetric)
			if v, ok := network.Metric(n.Network); ok {
				metric = v
			}
			for _, g := range n.Attachment.Gateways {
				have := &have4
				if g.Is6() {
					have = &have6
				}
				if !*have {
					*have = true
					m.route(index, netip.PrefixFrom(g, 0).Masked(), g, metric)
				}
			}
		}
		for _, route := range n.Network.Routes {
			var metric uint32 = defaultMetric
			if route.Metric != nil {
				metric = *route.Metric
			}
			m.route(index, route.Destination, route.Gateway, metric)
		}
	}
	if err := inside.must(&m, tolerated...); err != nil {
		return os.NewSyscallError("set up addresses and routes", err)
	}
	return nil
}

// leave deletes the links that a failed Setup made.
func leave(host socket, r *network.Request) error {
	var errs []error
	for i := range r.Networks {
		errs = append(errs, removeLink(host, linkName(r, &r.Networks[i])))
	}
	return errors.Join(errs...)
}

// hardwareAddr is the link-layer address asked for, nil to let the kernel
// choose.
func hardwareAddr(a cove.NetworkAttachment) net.HardwareAddr {
	hw, err := net.ParseMAC(a.MAC)
	if err != nil {
		return nil
	}
	return hw
}
