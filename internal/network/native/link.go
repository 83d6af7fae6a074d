package native

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
)

const (
	vethInfoPeer   = 1 // VETH_INFO_PEER of linux/veth.h
	rtextSkipStats = 8 // RTEXT_FILTER_SKIP_STATS
	brportMode     = 4 // IFLA_BRPORT_MODE: hairpin
	// aliasPrefix starts a bridge's alias, by which it is known to be cove's and
	// whose (aliasOf).
	aliasPrefix = "cove:"
)

// ifinfo is a struct ifinfomsg.
func ifinfo(index int, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}

// ensureBridge gives the index of the network's bridge, made, addressed and up.
// It is right when other processes do the same at the same time, and
// completes what one that was killed left half-made: up is the last step. Of a
// link that is up already nothing is changed: that it is a bridge shows when the
// container is linked to it, and settle makes sure of its addresses then.
func ensureBridge(rt socket, n *cove.Network) (int, error) {
	name := n.NetworkInterface
	index, err := rt.index(name)
	if err != nil {
		return 0, err
	}
	if index != 0 {
		if flags, err := rt.flags(name); err == nil && flags&unix.IFF_UP != 0 {
			return index, nil
		}
	}
	if index == 0 {
		if err := makeBridge(rt, n); err != nil {
			return 0, err
		}
	}
	if index, err = ownedBridge(rt, n); err != nil {
		return 0, err
	}
	if err := bridgeSysctls(n); err != nil {
		return 0, err
	}
	var m message
	m.gateways(index, n)
	m.up(index)
	if err := rt.must(&m, unix.EEXIST); err != nil {
		return 0, os.NewSyscallError("set up bridge "+name, err)
	}
	return index, nil
}

// makeBridge makes the network's bridge unless there is a link of that name.
func makeBridge(rt socket, n *cove.Network) error {
	var m message
	m.begin(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ifinfo(0, 0, 0)...)
	m.str(unix.IFLA_IFNAME, n.NetworkInterface)
	mac := bridgeMAC(n)
	m.attr(unix.IFLA_ADDRESS, mac[:])
	if mtu := network.MTU(*n); mtu != 0 {
		m.u32(unix.IFLA_MTU, uint32(mtu))
	}
	info := m.nest(unix.IFLA_LINKINFO)
	m.str(unix.IFLA_INFO_KIND, "bridge")
	m.close(info)
	m.end()
	if err := rt.must(&m, unix.EEXIST); err != nil {
		return os.NewSyscallError("make bridge "+n.NetworkInterface, err)
	}
	return nil
}

// ownedBridge gives the index of the network's bridge, which is there, and gives it
// its alias, which it cannot be born with. That of another store's network, or another
// one's with the network's subnets, is an error.
func ownedBridge(rt socket, n *cove.Network) (int, error) {
	if err := isBridge(rt, n.NetworkInterface); err != nil {
		return 0, err
	}
	var bridge link
	others := map[uint32]string{}
	err := links(rt, func(l link) {
		if l.name == n.NetworkInterface {
			bridge = l
		} else if _, ok := ownBridge(l.alias); ok {
			others[l.index] = l.name
		}
	})
	switch {
	case err != nil:
		return 0, err
	case bridge.index == 0:
		return 0, os.NewSyscallError("find bridge "+n.NetworkInterface, unix.ENODEV)
	case bridge.foreign(n):
		return 0, otherNetwork(bridge.name)
	case !bridge.unfinished(n):
		return int(bridge.index), nil
	}
	var overlap error
	err = addresses(rt, func(index uint32, p netip.Prefix) {
		for _, s := range n.Subnets {
			if name := others[index]; name != "" && s.Subnet.Overlaps(p) {
				overlap = otherNetwork(name)
			}
		}
	})
	if err == nil {
		err = overlap
	}
	if err != nil {
		return 0, errors.Join(err, removeLink(rt, bridge.name))
	}
	var m message
	m.begin(unix.RTM_NEWLINK, 0, ifinfo(int(bridge.index), 0, 0)...)
	m.str(unix.IFLA_IFALIAS, aliasOf(n))
	m.end()
	if err := rt.must(&m); err != nil {
		return 0, os.NewSyscallError("make bridge "+bridge.name, err)
	}
	return int(bridge.index), nil
}

// isBridge refuses a link of the host's that has the name of a network's bridge and
// is something else.
func isBridge(rt socket, name string) error {
	kind, there := "", false
	if err := links(rt, func(l link) {
		if l.name == name {
			kind, there = l.kind, true
		}
	}); err != nil {
		return err
	}
	if there && kind != "bridge" {
		if kind == "" {
			kind = "device"
		}
		return cove.E("make bridge", name, cove.InUse, errors.New("bridge interface "+name+" already exists but is a "+kind+" interface"))
	}
	return nil
}

// gateways gives a bridge its network's gateway addresses. Those that it has
// are refused with EEXIST.
func (m *message) gateways(index int, n *cove.Network) {
	for _, s := range n.Subnets {
		if s.Gateway.IsValid() {
			m.address(index, netip.PrefixFrom(s.Gateway, s.Subnet.Bits()))
		}
	}
}

// bridgeSysctls prepares a bridge that is not up yet. A container must not
// be able to steer the host with router advertisements; publishing on
// 127.0.0.1 needs route_localnet, which the firewall's guard chain makes safe.
func bridgeSysctls(n *cove.Network) error {
	conf6 := "/proc/sys/net/ipv6/conf/" + n.NetworkInterface + "/"
	errs := []error{routeLocalnet(n, "1")}
	for _, s := range []struct{ path, value string }{
		{conf6 + "accept_ra", "0"},
		{conf6 + "accept_dad", "0"},
		{conf6 + "autoconf", "0"},
	} {
		// A kernel without IPv6 has no such file.
		if err := writeSysctl(s.path, s.value); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// routeLocalnet lets packets between a bridge and 127.0.0.0/8 pass, or not.
func routeLocalnet(n *cove.Network, value string) error {
	return writeSysctl("/proc/sys/net/ipv4/conf/"+n.NetworkInterface+"/route_localnet", value)
}

// ensureForwarding turns on the host's forwarding of the families used.
// Internal networks need none.
func ensureForwarding(r *network.Request) error {
	var v4, v6 bool
	for _, m := range r.Networks {
		if m.Network.Internal {
			continue
		}
		for _, a := range m.Attachment.Addresses {
			v4 = v4 || a.Addr().Is4()
			v6 = v6 || a.Addr().Is6()
		}
	}
	if v4 {
		if err := ensureSysctl("/proc/sys/net/ipv4/ip_forward", '1'); err != nil {
			return err
		}
	}
	if v6 {
		return ensureSysctl("/proc/sys/net/ipv6/conf/all/forwarding", '1')
	}
	return nil
}

// ensureSysctl writes only what differs: reading works where /proc/sys is
// read-only and takes no lock.
func ensureSysctl(path string, value byte) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	var b [1]byte
	n, err := unix.Read(fd, b[:])
	_ = unix.Close(fd)
	if err == nil && n == 1 && b[0] == value {
		return nil
	}
	return writeSysctl(path, string(value))
}

func writeSysctl(path, value string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	_, err = unix.Write(fd, []byte(value))
	_ = unix.Close(fd)
	if err != nil {
		return &os.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

// stableMAC derives a locally administered unicast address from a name.
func stableMAC(of string) [6]byte {
	sum := sha256.Sum256([]byte(of))
	return [6]byte{sum[0]&^1 | 2, sum[1], sum[2], sum[3], sum[4], sum[5]}
}

// veth asks for a pair of links: the host's named, up and in the bridge, the
// container's born in its namespace with its final name.
func (m *message) veth(hostName string, bridge, netns int, name string, mac []byte, mtu int) {
	m.begin(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ifinfo(0, unix.IFF_UP, unix.IFF_UP)...)
	m.str(unix.IFLA_IFNAME, hostName)
	m.u32(unix.IFLA_MASTER, uint32(bridge))
	if mtu != 0 {
		m.u32(unix.IFLA_MTU, uint32(mtu))
	}
	info := m.nest(unix.IFLA_LINKINFO)
	m.str(unix.IFLA_INFO_KIND, "veth")
	data := m.nest(unix.IFLA_INFO_DATA)
	peer := m.nest(vethInfoPeer)
	// Not up: the kernel has not paired the two yet (ENOTCONN).
	m.b = append(m.b, ifinfo(0, 0, 0)...)
	m.str(unix.IFLA_IFNAME, name)
	m.u32(unix.IFLA_NET_NS_FD, uint32(netns))
	if len(mac) == 6 {
		m.attr(unix.IFLA_ADDRESS, mac)
	}
	if mtu != 0 {
		m.u32(unix.IFLA_MTU, uint32(mtu))
	}
	m.close(peer)
	m.close(data)
	m.close(info)
	m.end()
}

// hairpin lets a bridge port send back what it received: a container that
// uses its own published port, on a host with br_netfilter.
func (m *message) hairpin(name string) {
	m.begin(unix.RTM_NEWLINK, 0, ifinfo(0, 0, 0)...)
	m.str(unix.IFLA_IFNAME, name)
	info := m.nest(unix.IFLA_LINKINFO)
	m.str(unix.IFLA_INFO_SLAVE_KIND, "bridge")
	data := m.nest(unix.IFLA_INFO_SLAVE_DATA)
	m.attr(brportMode, []byte{1})
	m.close(data)
	m.close(info)
	m.end()
}

// ask asks for a link by name.
func (m *message) ask(name string) {
	m.begin(unix.RTM_GETLINK, 0, ifinfo(0, 0, 0)...)
	m.str(unix.IFLA_IFNAME, name)
	m.u32(unix.IFLA_EXT_MASK, rtextSkipStats)
	m.end()
}

// up sets a link up.
func (m *message) up(index int) {
	m.begin(unix.RTM_NEWLINK, 0, ifinfo(index, unix.IFF_UP, unix.IFF_UP)...)
	m.end()
}

// address gives a link an address, usable at once.
func (m *message) address(index int, p netip.Prefix) {
	family, flags := byte(unix.AF_INET), byte(0)
	if p.Addr().Is6() {
		family, flags = unix.AF_INET6, unix.IFA_F_NODAD
	}
	h := []byte{family, byte(p.Bits()), flags, unix.RT_SCOPE_UNIVERSE}
	h = binary.NativeEndian.AppendUint32(h, uint32(index))
	m.begin(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, h...)
	m.attr(unix.IFA_LOCAL, p.Addr().AsSlice())
	m.attr(unix.IFA_ADDRESS, p.Addr().AsSlice())
	if family == unix.AF_INET && p.Bits() < 31 {
		b := p.Masked().Addr().As4()
		v := binary.BigEndian.Uint32(b[:]) | (1<<(32-p.Bits()) - 1)
		m.attr(unix.IFA_BROADCAST, binary.BigEndian.AppendUint32(nil, v))
	}
	m.end()
}

// dropAddress takes an address off a link.
func (m *message) dropAddress(index int, p netip.Prefix) {
	family := byte(unix.AF_INET)
	if p.Addr().Is6() {
		family = unix.AF_INET6
	}
	h := binary.NativeEndian.AppendUint32([]byte{family, byte(p.Bits()), 0, 0}, uint32(index))
	m.begin(unix.RTM_DELADDR, 0, h...)
	m.attr(unix.IFA_LOCAL, p.Addr().AsSlice())
	m.end()
}

// route adds a route through a gateway; a dst of length 0 is the default one.
func (m *message) route(index int, dst netip.Prefix, gateway netip.Addr, metric uint32) {
	family := byte(unix.AF_INET)
	if gateway.Is6() {
		family = unix.AF_INET6
	}
	h := []byte{family, byte(dst.Bits()), 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
	m.begin(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, h...)
	if dst.Bits() > 0 {
		m.attr(unix.RTA_DST, dst.Masked().Addr().AsSlice())
	}
	m.attr(unix.RTA_GATEWAY, gateway.AsSlice())
	m.u32(unix.RTA_OIF, uint32(index))
	if metric != 0 {
		m.u32(unix.RTA_PRIORITY, metric)
	}
	m.end()
}

// removeLink deletes a link by name. Gone already is no error.
func removeLink(rt socket, name string) error {
	var m message
	m.begin(unix.RTM_DELLINK, 0, ifinfo(0, 0, 0)...)
	m.str(unix.IFLA_IFNAME, name)
	m.end()
	if err := rt.must(&m, unix.ENODEV); err != nil {
		return os.NewSyscallError("delete link "+name, err)
	}
	return nil
}

// link is one of the kernel's.
type link struct {
	index       uint32
	name, alias string
	up          bool
	mac         []byte
	kind        string       // "veth", "bridge", …
	master      uint32       // index of the bridge that it is a port of, or 0
	addresses   []netip.Addr // that it has claimed
	netns       int32        // number of the network namespace of its other end
}

// linkIn reads a struct ifinfomsg with its attributes.
func linkIn(body []byte) (l link) {
	l.index = binary.NativeEndian.Uint32(body[4:]) // ifi_index
	l.up = binary.NativeEndian.Uint32(body[8:])&unix.IFF_UP != 0
	attributes(body[unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
		switch typ {
		case unix.IFLA_IFNAME:
			l.name = cstring(data)
		case unix.IFLA_IFALIAS:
			l.alias = cstring(data)
		case unix.IFLA_ADDRESS:
			l.mac = bytes.Clone(data)
		case unix.IFLA_MASTER:
			if len(data) >= 4 {
				l.master = binary.NativeEndian.Uint32(data)
			}
		case unix.IFLA_LINK_NETNSID:
			if len(data) >= 4 {
				l.netns = int32(binary.NativeEndian.Uint32(data))
			}
		case unix.IFLA_LINKINFO:
			attributes(data, func(typ uint16, data []byte) {
				if typ == unix.IFLA_INFO_KIND {
					l.kind = cstring(data)
				}
			})
		case unix.IFLA_PROP_LIST:
			attributes(data, func(typ uint16, data []byte) {
				if a, ok := claimed(cstring(data)); ok && typ == unix.IFLA_ALT_IFNAME {
					l.addresses = append(l.addresses, a)
				}
			})
		}
	})
	return l
}

// links calls f for each link of the socket's namespace.
func links(rt socket, f func(link)) error {
	var m message
	m.begin(unix.RTM_GETLINK, unix.NLM_F_DUMP, ifinfo(0, 0, 0)...)
	m.u32(unix.IFLA_EXT_MASK, rtextSkipStats)
	m.end()
	err := rt.dump(&m, func(typ uint16, body []byte) {
		if typ != unix.RTM_NEWLINK || len(body) < unix.SizeofIfInfomsg {
			return
		}
		f(linkIn(body))
	})
	if err != nil {
		return os.NewSyscallError("list links", err)
	}
	return nil
}

// aliasOf is the alias of a network's bridge. The ID is made from the name, so
// it does not tell the networks of two stores apart; when they were made does. The
// bridge of the default network all stores share.
func aliasOf(n *cove.Network) string {
	alias := aliasPrefix + n.ID
	if n.NetworkInterface != network.DefaultBridge {
		alias += ":" + strconv.FormatInt(n.Created.UnixNano(), 36)
	}
	return alias
}

// ownBridge gives the network ID in a bridge's alias.
func ownBridge(alias string) (string, bool) {
	rest, ok := strings.CutPrefix(alias, aliasPrefix)
	id, _, _ := strings.Cut(rest, ":")
	return id, ok
}

// foreign tells whether a bridge is that of another network of cove's. The
// bridges of earlier releases have the network's ID alone.
func (l link) foreign(n *cove.Network) bool {
	id, ok := ownBridge(l.alias)
	switch {
	case !ok || n.NetworkInterface == network.DefaultBridge:
		return false
	case l.alias == aliasPrefix+id:
		return id != n.ID
	}
	return l.alias != aliasOf(n)
}

// unfinished tells whether a bridge was made for the network and has no alias
// yet.
func (l link) unfinished(n *cove.Network) bool {
	mac := bridgeMAC(n)
	return l.alias == "" && l.kind == "bridge" && bytes.Equal(l.mac, mac[:])
}

func otherNetwork(bridge string) error {
	return cove.E("make bridge of network", bridge, cove.InUse, errors.New("another store of this host has a network there: remove this store's network and create it again"))
}

// bridgeMAC is a bridge's own address: without one it takes its lowest port's and
// changes it as ports come and go.
func bridgeMAC(n *cove.Network) [6]byte { return stableMAC(aliasOf(n) + n.NetworkInterface) }
