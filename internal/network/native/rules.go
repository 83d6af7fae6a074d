package native

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
)

// rulesVersion counts the changes of the rules below. It is part of every
// network's fingerprint, so that a new release rewrites what an old one made.
const rulesVersion = 3

// The table's parts:
//
//	chain guard       prerouting raw:  what bridges send to or from 127.0.0.0/8 is dropped
//	chain forward     forward filter:  by the link it came from: from-BRIDGE; to an internal bridge: drop;
//	                  to any other: inward
//	chain inward      what comes from no bridge: only answers, and what was sent to a published port
//	chain dnat-in     prerouting nat:  to an address of the host that others may send to: publish
//	chain dnat-out    output nat:      the same for what the host itself sends
//	chain publish     destination by four maps: with and without host address, IPv4 and IPv6
//	chain snat        postrouting nat: from 127.0.0.1 to a bridge: masquerade;
//	                  by the link it goes to: hairpin-BRIDGE; by the link it came from: nat-BRIDGE
//	chain from-BRIDGE     isolation of one network
//	chain nat-BRIDGE      masquerading of one network
//	chain hairpin-BRIDGE  masquerading between its own containers, through a published port
const (
	chainGuard   = "guard"
	chainForward = "forward"
	chainInward  = "inward"
	chainDNATIn  = "dnat-in"
	chainDNATOut = "dnat-out"
	chainPublish = "publish"
	chainSNAT    = "snat"

	setBridges  = "bridges"  // every bridge of cove's
	setIsolated = "isolated" // with isolate=true or strict
	setStrict   = "strict"   // with isolate=strict
	mapFrom     = "from"     // bridge: jump from-BRIDGE; the comment is the network's fingerprint
	setOpen4    = "open4"    // gateway_mode_ipv4=nat-unprotected
	setOpen6    = "open6"    // gateway_mode_ipv6=nat-unprotected
	mapTo       = "to"       // internal bridge: drop
	mapNAT      = "nat"      // bridge: jump nat-BRIDGE
	mapHairpin  = "hairpin"  // bridge: jump hairpin-BRIDGE

	mapPort4    = "port4" // address . protocol . port : address . port
	mapPort4Any = "port4-any"
	mapPort6    = "port6"
	mapPort6Any = "port6-any"
)

func chainFrom(bridge string) string { return "from-" + bridge }
func chainNAT(bridge string) string  { return "nat-" + bridge }

func chainHairpin(bridge string) string { return "hairpin-" + bridge }

// base adds the table with everything that no network or container owns. It
// may be there already.
func (b *batch) base(nat bool) {
	b.table(unix.NFT_MSG_NEWTABLE)
	for _, s := range []string{setBridges, setIsolated, setStrict} {
		b.set(s, typeIfname, ifnameLen, 0, 0)
	}
	b.set(mapFrom, typeIfname, ifnameLen, dataVerdict, 0)
	b.set(mapTo, typeIfname, ifnameLen, dataVerdict, 0)

	b.hook(chainGuard, "filter", hookPrerouting, -300)
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	b.rule(chainGuard, inSet(setBridges), dest(loopback), verdict(verdictDrop))
	b.rule(chainGuard, inSet(setBridges), source(loopback), verdict(verdictDrop))

	b.hook(chainForward, "filter", hookForward, 0)
	b.rule(chainForward, inSet(mapFrom, unix.NFT_REG_VERDICT))
	b.rule(chainForward, outSet(mapTo, unix.NFT_REG_VERDICT))
	if !nat {
		return
	}
	// Without translation a network is of use only to who routes to it.
	b.set(setOpen4, typeIfname, ifnameLen, 0, 0)
	b.set(setOpen6, typeIfname, ifnameLen, 0, 0)
	b.chain(chainInward)
	b.rule(chainInward, inSet(setBridges), verdict(verdictReturn))
	b.rule(chainInward, established, verdict(verdictReturn))
	b.rule(chainInward, translated(true), verdict(verdictReturn))
	b.rule(chainInward, family(unix.NFPROTO_IPV4), outSet(setOpen4), verdict(verdictReturn))
	b.rule(chainInward, family(unix.NFPROTO_IPV6), outSet(setOpen6), verdict(verdictReturn))
	b.rule(chainInward, verdict(verdictDrop))
	b.rule(chainForward, outSet(setBridges), verdict(verdictJump, chainInward))

	b.set(mapNAT, typeIfname, ifnameLen, dataVerdict, 0)
	b.set(mapHairpin, typeIfname, ifnameLen, dataVerdict, 0)
	target4, target6 := typeIPv4<<6|typePort, typeIPv6<<6|typePort
	b.set(mapPort4Any, typeProto<<6|typePort, 8, target4, 8)
	b.set(mapPort4, typeIPv4<<12|typeProto<<6|typePort, 12, target4, 8)
	b.set(mapPort6Any, typeProto<<6|typePort, 8, target6, 20)
	b.set(mapPort6, typeIPv6<<12|typeProto<<6|typePort, 24, target6, 20)

	b.chain(chainPublish)
	b.rule(chainPublish, family(unix.NFPROTO_IPV4), destination(16, 4), service(1),
		lookup(mapPort4, unix.NFT_REG32_00, unix.NFT_REG32_00), dnat(unix.NFPROTO_IPV4, 1))
	b.rule(chainPublish, family(unix.NFPROTO_IPV4), service(0),
		lookup(mapPort4Any, unix.NFT_REG32_00, unix.NFT_REG32_00), dnat(unix.NFPROTO_IPV4, 1))
	b.rule(chainPublish, family(unix.NFPROTO_IPV6), destination(24, 16), service(4),
		lookup(mapPort6, unix.NFT_REG32_00, unix.NFT_REG32_00), dnat(unix.NFPROTO_IPV6, 4))
	b.rule(chainPublish, family(unix.NFPROTO_IPV6), service(0),
		lookup(mapPort6Any, unix.NFT_REG32_00, unix.NFT_REG32_00), dnat(unix.NFPROTO_IPV6, 4))

	b.hook(chainDNATIn, "nat", hookPrerouting, -100)
	// What was published there is the host's alone, whose own packets have come
	// by dnat-out. The kernel drops a neighbour's, but only after this hook.
	b.rule(chainDNATIn, dest(loopback), verdict(verdictReturn))
	b.rule(chainDNATIn, toHost, verdict(verdictJump, chainPublish))
	b.hook(chainDNATOut, "nat", hookOutput, -100)
	// Nothing can be sent on from ::1: the kernel has no route_localnet for
	// IPv6 and would drop the answer. Left alone, the connection is refused at
	// once and clients of "localhost" go on to 127.0.0.1.
	b.rule(chainDNATOut, dest(netip.MustParsePrefix("::1/128")), verdict(verdictReturn))
	b.rule(chainDNATOut, toHost, verdict(verdictJump, chainPublish))

	b.hook(chainSNAT, "nat", hookPostrouting, 100)
	b.rule(chainSNAT, outSet(setBridges), source(loopback), masquerade)
	b.rule(chainSNAT, outSet(mapHairpin, unix.NFT_REG_VERDICT))
	b.rule(chainSNAT, inSet(mapNAT, unix.NFT_REG_VERDICT))
}

// destination loads the packet's destination address into the first
// registers.
func destination(offset, length uint32) expr {
	return payload(payloadNetwork, offset, length, unix.NFT_REG32_00)
}

// service loads protocol and destination port into 32-bit registers from the
// given one on.
func service(register uint32) expr {
	return both(meta(unix.NFT_META_L4PROTO, unix.NFT_REG32_00+register),
		payload(payloadTransp, 2, 2, unix.NFT_REG32_00+register+1))
}

// dnat sends the packet to the address in the first registers and the port in
// the register given.
func dnat(family byte, port uint32) expr {
	return func(m *message) {
		m.expression("nat", func() {
			m.be32(unix.NFTA_NAT_TYPE, natDestination)
			m.be32(unix.NFTA_NAT_FAMILY, uint32(family))
			m.be32(unix.NFTA_NAT_REG_ADDR_MIN, unix.NFT_REG32_00)
			m.be32(unix.NFTA_NAT_REG_PROTO_MIN, unix.NFT_REG32_00+port)
			m.be32(unix.NFTA_NAT_FLAGS, 2) // NF_NAT_RANGE_PROTO_SPECIFIED
		})
	}
}

// network adds one network's chains and elements, whatever of them was there
// before.
func (b *batch) network(n *cove.Network, fingerprint string, nat bool) {
	bridge := n.NetworkInterface
	key := ifname(bridge)
	isolate := network.IsolateOf(*n)

	from := chainFrom(bridge)
	b.chain(from)
	b.rule(from, out(bridge), verdict(verdictAccept))
	switch {
	case n.Internal:
		b.rule(from, verdict(verdictDrop))
	case isolate == network.IsolateStrict:
		b.rule(from, outSet(setBridges), verdict(verdictDrop))
	case isolate == network.IsolateYes:
		b.rule(from, outSet(setIsolated), verdict(verdictDrop))
	}
	b.rule(from, outSet(setStrict), verdict(verdictDrop))
	b.replace(element{set: mapFrom, key: key, isVerdict: true, verdict: verdictJump, chain: from, comment: fingerprint})
	b.add(element{set: setBridges, key: key})
	b.member(element{set: setIsolated, key: key}, isolate != network.IsolateNo)
	b.member(element{set: setStrict, key: key}, isolate == network.IsolateStrict)
	b.member(element{set: mapTo, key: key, isVerdict: true, verdict: verdictDrop}, n.Internal)
	if !nat {
		return
	}
	open4, open6 := network.Unprotected(*n)
	b.member(element{set: setOpen4, key: key}, open4)
	b.member(element{set: setOpen6, key: key}, open6)
	masq := chainNAT(bridge)
	b.chain(masq)
	b.rule(masq, out(bridge), verdict(verdictReturn))
	b.rule(masq, dest(netip.MustParsePrefix("224.0.0.0/4")), verdict(verdictReturn))
	b.rule(masq, dest(netip.MustParsePrefix("ff00::/8")), verdict(verdictReturn))
	for _, s := range n.Subnets {
		b.rule(masq, source(s.Subnet), masquerade)
	}
	b.member(element{set: mapNAT, key: key, isVerdict: true, verdict: verdictJump, chain: masq}, !n.Internal)
	// Between containers of the network only what was sent to a published
	// port of the host needs the host as its source: the answer must come back
	// through it. The rule cannot ask where the packet came from: with
	// br_netfilter it never leaves the bridge, and has no incoming link here.
	pin := chainHairpin(bridge)
	b.chain(pin)
	for _, s := range n.Subnets {
		b.rule(pin, translated(true), source(s.Subnet), masquerade)
	}
	b.member(element{set: mapHairpin, key: key, isVerdict: true, verdict: verdictJump, chain: pin}, !n.Internal)
}

// replace adds an element whose comment may differ from the one there: an
// element cannot be changed, and deleting one that is not there fails.
func (b *batch) replace(e element) {
	b.add(e)
	b.remove(e.set, e.key)
	b.add(e)
}

// member makes an element be there, or not.
func (b *batch) member(e element, yes bool) {
	b.add(e)
	if !yes {
		b.remove(e.set, e.key)
	}
}

// removeNetwork deletes what network added. Each part must be there.
func (b *batch) removeNetwork(bridge string, nat bool) {
	key := ifname(bridge)
	b.base(nat)
	b.chain(chainFrom(bridge))
	b.add(element{set: mapFrom, key: key, isVerdict: true, verdict: verdictJump, chain: chainFrom(bridge)})
	b.remove(mapFrom, key)
	b.member(element{set: setBridges, key: key}, false)
	b.member(element{set: setIsolated, key: key}, false)
	b.member(element{set: setStrict, key: key}, false)
	b.member(element{set: mapTo, key: key, isVerdict: true, verdict: verdictDrop}, false)
	b.deleteChain(chainFrom(bridge))
	if nat {
		b.member(element{set: setOpen4, key: key}, false)
		b.member(element{set: setOpen6, key: key}, false)
		b.chain(chainNAT(bridge))
		b.member(element{set: mapNAT, key: key, isVerdict: true, verdict: verdictJump, chain: chainNAT(bridge)}, false)
		b.deleteChain(chainNAT(bridge))
		b.chain(chainHairpin(bridge))
		b.member(element{set: mapHairpin, key: key, isVerdict: true, verdict: verdictJump, chain: chainHairpin(bridge)}, false)
		b.deleteChain(chainHairpin(bridge))
	}
}

// fingerprint tells whether a network's rules are those of this release for
// this definition on this host.
func fingerprint(n *cove.Network, nat bool, docker dockerChains) string {
	open4, open6 := network.Unprotected(*n)
	text, _ := json.Marshal(struct {
		Version  int
		Bridge   string
		Subnets  []cove.Subnet
		Internal bool
		Isolate  network.Isolate
		Open4    bool
		Open6    bool
		NAT      bool
		Docker   dockerChains
	}{rulesVersion, n.NetworkInterface, n.Subnets, n.Internal, network.IsolateOf(*n), open4, open6, nat, docker})
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
