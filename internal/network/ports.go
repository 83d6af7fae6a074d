package network

import (
	"errors"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

const publishOp = "publish port"

// Count is how many ports a mapping publishes.
func Count(p cove.PortMapping) int { return max(int(p.Range), 1) }

// Binding gives the host address (invalid: every address of both families)
// and the number of the protocol of a mapping, or says what is wrong with it.
func Binding(p cove.PortMapping) (netip.Addr, byte, error) {
	fail := func(text string) (netip.Addr, byte, error) {
		return netip.Addr{}, 0, cove.E(publishOp, portName(p), cove.Invalid, errors.New(text))
	}
	var proto byte
	switch p.Protocol {
	case "tcp", "":
		proto = unix.IPPROTO_TCP
	case "udp":
		proto = unix.IPPROTO_UDP
	case "sctp":
		proto = unix.IPPROTO_SCTP
	default:
		return fail("unknown protocol " + strconv.Quote(p.Protocol) + ": want tcp, udp or sctp")
	}
	if p.ContainerPort == 0 {
		return fail("container port 0")
	}
	if int(p.ContainerPort)+Count(p) > 1<<16 || int(p.HostPort)+Count(p) > 1<<16 {
		return fail("the range of " + strconv.Itoa(Count(p)) + " ports goes beyond 65535")
	}
	var host netip.Addr
	if p.HostIP != "" {
		var err error
		if host, err = netip.ParseAddr(p.HostIP); err != nil || host.Zone() != "" {
			return fail("bad host address " + strconv.Quote(p.HostIP))
		}
		host = host.Unmap()
		if host == netip.IPv6Loopback() {
			return netip.Addr{}, 0, cove.E(publishOp, portName(p), cove.Unsupported,
				errors.New("the kernel cannot forward from ::1: publish on 127.0.0.1"))
		}
	}
	return host, proto, nil
}

// ProtocolName is the name of a protocol number, as in a mapping.
func ProtocolName(n byte) string {
	switch n {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_SCTP:
		return "sctp"
	}
	return strconv.Itoa(int(n))
}

// portName is address:port/protocol for errors.
func portName(p cove.PortMapping) string {
	host := p.HostIP
	if host == "" {
		host = "0.0.0.0"
	}
	if a, err := netip.ParseAddr(host); err == nil {
		host = netip.AddrPortFrom(a, p.HostPort).String()
	} else {
		host += ":" + strconv.Itoa(int(p.HostPort))
	}
	if p.Protocol == "" {
		return host + "/tcp"
	}
	return host + "/" + p.Protocol
}
