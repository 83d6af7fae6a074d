package native

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/network"
)

// publications are the elements that publish the container's ports. Ports of
// a family that the container does not have are left out, as are all ports of
// a container on internal networks only.
func publications(r *network.Request) ([]element, error) {
	if len(r.Ports) == 0 {
		return nil, nil
	}
	target4, target6 := targets(r)
	var es []element
	seen := map[string]bool{}
	for _, p := range r.Ports {
		host, protocol, err := network.Binding(p)
		if err != nil {
			return nil, err
		}
		for i := range network.Count(p) {
			hp, cp := p.HostPort+uint16(i), p.ContainerPort+uint16(i)
			for _, to := range []netip.Addr{target4, target6} {
				if !to.IsValid() || host.IsValid() && host.Is4() != to.Is4() {
					continue
				}
				e := publication(host, protocol, hp, netip.AddrPortFrom(to, cp), r.ContainerID)
				if k := e.set + string(e.key); !seen[k] {
					seen[k] = true
					es = append(es, e)
				}
			}
		}
	}
	return es, nil
}

// targets are the container's addresses on the first network of each family
// that reaches the outside.
func targets(r *network.Request) (v4, v6 netip.Addr) {
	for i := range r.Networks {
		n := &r.Networks[i]
		if n.Network.Internal {
			continue
		}
		for _, a := range n.Attachment.Addresses {
			switch {
			case a.Addr().Is4() && !v4.IsValid():
				v4 = a.Addr()
			case a.Addr().Is6() && !v6.IsValid():
				v6 = a.Addr()
			}
		}
	}
	return v4, v6
}

// publication is the element for one port. Every field of a key or value
// takes a multiple of 4 bytes.
func publication(host netip.Addr, protocol byte, port uint16, to netip.AddrPort, owner string) element {
	e := element{set: mapPort4Any, comment: owner}
	if to.Addr().Is6() {
		e.set = mapPort6Any
	}
	if host.IsValid() && !host.IsUnspecified() {
		e.set = mapPort4
		if to.Addr().Is6() {
			e.set = mapPort6
		}
		e.key = host.AsSlice()
	}
	e.key = append(e.key, protocol, 0, 0, 0)
	e.key = append(binary.BigEndian.AppendUint16(e.key, port), 0, 0)
	e.data = append(binary.BigEndian.AppendUint16(to.Addr().AsSlice(), to.Port()), 0, 0)
	return e
}

// published reads an element back.
func published(e element) (network.Element, error) {
	bad := errors.New("firewall: malformed element in " + e.set)
	out := network.Element{ContainerID: e.comment}
	k := e.key
	if e.set == mapPort4 || e.set == mapPort6 {
		if len(k) < 8 {
			return out, bad
		}
		out.HostIP, _ = netip.AddrFromSlice(k[:len(k)-8])
		k = k[len(k)-8:]
	}
	if len(k) != 8 || len(e.data) < 4 {
		return out, bad
	}
	out.Protocol = network.ProtocolName(k[0])
	out.HostPort = binary.BigEndian.Uint16(k[4:])
	at := len(e.data) - 4
	to, ok := netip.AddrFromSlice(e.data[:at])
	if !ok {
		return out, bad
	}
	out.Target = netip.AddrPortFrom(to, binary.BigEndian.Uint16(e.data[at:]))
	return out, nil
}

// forgetFlows makes the kernel forget UDP conversations with the published
// ports. One that began before the port was published (a client that never
// stops sending) would go on to its old destination for as long as it lasts.
// It needs a kernel that filters deletions (6.8); on others, which refuse the
// request, the conversation ends by its time-out.
func (f *firewall) forgetFlows(r *network.Request) {
	const (
		msgDelete     = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2 // IPCTNL_MSG_CT_DELETE
		ctaTupleOrig  = 1
		ctaTupleProto = 2
		ctaProtoNum   = 1
		ctaDstPort    = 3
		ctaFilter     = 25
		ctaFilterOrig = 1
		byProtoPort   = 1<<3 | 1<<5 // CTA_FILTER_F_CTA_PROTO_NUM, _DST_PORT
		most          = 32          // each walks the whole table
	)
	var m message
	for _, p := range r.Ports {
		if p.Protocol != "udp" || 2*network.Count(p)+int(m.seq) > most {
			continue
		}
		for i := range 2 * network.Count(p) {
			family := [2]byte{unix.AF_INET, unix.AF_INET6}[i%2]
			m.begin(msgDelete, 0, nfgen(family, 0)...)
			tuple := m.nest(ctaTupleOrig)
			proto := m.nest(ctaTupleProto)
			m.attr(ctaProtoNum, []byte{unix.IPPROTO_UDP})
			m.attr(ctaDstPort, binary.BigEndian.AppendUint16(nil, p.HostPort+uint16(i/2)))
			m.close(proto)
			m.close(tuple)
			filter := m.nest(ctaFilter)
			m.u32(ctaFilterOrig, byProtoPort)
			m.close(filter)
			m.end()
		}
	}
	_, _ = f.do(&m)
}
