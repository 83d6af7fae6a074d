package native

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/network"
)

// Every store gives out addresses by a ledger of its own, and bridges are the
// host's. So a container's addresses are also alternative names of the host's side
// of its link: the kernel has each name once per network namespace, and it goes with
// the link, whatever is killed.

// claimPrefix starts these names. A colon would be taken for the end of a
// link's name by the older system calls, so IPv6 has dashes in their place.
const claimPrefix = "cove-"

func claimName(a netip.Addr) string {
	return claimPrefix + strings.ReplaceAll(a.String(), ":", "-")
}

// claimed reads an alternative name.
func claimed(name string) (netip.Addr, bool) {
	text, ok := strings.CutPrefix(name, claimPrefix)
	if !ok {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(strings.ReplaceAll(text, "-", ":"))
	return a, err == nil
}

// claim gives a link the name that says whose the address is.
func (m *message) claim(link string, a netip.Addr) {
	m.begin(unix.RTM_NEWLINKPROP, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ifinfo(0, 0, 0)...)
	m.str(unix.IFLA_IFNAME, link)
	list := m.nest(unix.IFLA_PROP_LIST)
	m.str(unix.IFLA_ALT_IFNAME, claimName(a))
	m.close(list)
	m.end()
}

// yieldPatience is how long a container that is not gone yet is waited for: what
// sockets hold of a network namespace the kernel lets go of by RCU.
const yieldPatience = 200 * time.Millisecond

// yield removes the link that has claimed an address and leads nowhere any more:
// the kernel clears a dead network namespace away when it has the time. Of one that
// leads to a living one the answer is [network.Taken].
func yield(host socket, a netip.Addr) error {
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		holder, err := holderOf(host, a)
		if errors.Is(err, unix.ENODEV) {
			return nil
		}
		alive := false
		if err == nil {
			alive, err = leads(host, holder)
		}
		switch {
		case err != nil:
			return os.NewSyscallError("find the link of "+a.String(), err)
		case !alive:
			// By number: its container may have made another of its name.
			var m message
			m.begin(unix.RTM_DELLINK, 0, ifinfo(int(holder.index), 0, 0)...)
			m.end()
			if err := host.must(&m, unix.ENODEV); err != nil {
				return os.NewSyscallError("delete link "+holder.name, err)
			}
			return nil
		case time.Since(began) > yieldPatience:
			return &network.Taken{Addr: a, Link: holder.name}
		}
	}
}

// holderOf finds the link that has claimed an address; ENODEV when none has.
func holderOf(host socket, a netip.Addr) (holder link, err error) {
	var m message
	m.begin(unix.RTM_GETLINK, 0, ifinfo(0, 0, 0)...)
	m.str(unix.IFLA_ALT_IFNAME, claimName(a))
	m.end()
	refused, err := host.ask(&m, func(l link) { holder = l })
	if err == nil && len(refused) > 0 {
		err = refused[0].errno
	}
	return holder, err
}

// leads tells whether the network namespace at the other end of a link is alive.
// Its number has none any more once the last reference is gone, get_net_ns_by_id in
// net/core/net_namespace.c.
func leads(host socket, l link) (bool, error) {
	var m message
	m.begin(unix.RTM_GETLINK, 0, ifinfo(1, 0, 0)...) // lo
	m.u32(unix.IFLA_TARGET_NETNSID, uint32(l.netns))
	m.end()
	err := host.must(&m)
	if errors.Is(err, unix.EINVAL) {
		return false, nil
	}
	return err == nil, err
}
