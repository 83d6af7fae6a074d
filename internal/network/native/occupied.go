package native

import (
	"context"
	"encoding/binary"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
)

// Occupied implements [network.Driver].
func (d Driver) Occupied(ctx context.Context) (network.Occupied, error) {
	var o network.Occupied
	fail := func(err error) (network.Occupied, error) {
		return network.Occupied{}, cove.E("list subnets of the host", "", kindOf(err), err)
	}
	rt, err := open(unix.NETLINK_ROUTE)
	if err != nil {
		return fail(err)
	}
	defer rt.shut()
	if err := links(rt, func(l link) { o.Links = append(o.Links, l.name) }); err != nil {
		return fail(err)
	}
	if err := addresses(rt, func(_ uint32, p netip.Prefix) { o.Addresses = append(o.Addresses, p.Masked()) }); err != nil {
		return fail(err)
	}
	var m message
	const size = unix.SizeofRtMsg
	m.begin(unix.RTM_GETROUTE, unix.NLM_F_DUMP, make([]byte, size)...)
	m.end()
	err = rt.dump(&m, func(typ uint16, body []byte) {
		if typ == unix.RTM_NEWROUTE && len(body) >= size && body[4] != unix.RT_TABLE_LOCAL && body[1] > 0 {
			if p, ok := prefixIn(body[size:], unix.RTA_DST, int(body[1])); ok && !p.Addr().IsLinkLocalUnicast() && !p.Addr().IsMulticast() {
				o.Routes = append(o.Routes, p.Masked())
			}
		}
	})
	if err != nil {
		return fail(os.NewSyscallError("list routes", err))
	}
	return o, nil
}

// addresses calls f for each address of the socket's namespace, but for link-local
// ones, with its prefix length and the index of its link.
func addresses(rt socket, f func(index uint32, p netip.Prefix)) error {
	var m message
	const size = unix.SizeofIfAddrmsg
	m.begin(unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, size)...)
	m.end()
	err := rt.dump(&m, func(typ uint16, body []byte) {
		if typ == unix.RTM_NEWADDR && len(body) >= size {
			if p, ok := prefixIn(body[size:], unix.IFA_ADDRESS, int(body[1])); ok && !p.Addr().IsLinkLocalUnicast() {
				f(binary.NativeEndian.Uint32(body[4:]), p)
			}
		}
	})
	if err != nil {
		return os.NewSyscallError("list addresses", err)
	}
	return nil
}

// prefixIn finds an address among attributes.
func prefixIn(b []byte, want uint16, bits int) (p netip.Prefix, ok bool) {
	attributes(b, func(typ uint16, data []byte) {
		if a, is := netip.AddrFromSlice(data); is && typ == want {
			p, ok = netip.PrefixFrom(a, bits), true
		}
	})
	return p, ok
}
