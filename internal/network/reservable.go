package network

import (
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// startFiles is how many files a container's start has open at the most beside those of its ports.
const startFiles = 64

// Reservable refuses mappings that can never be reserved together: each port takes a
// descriptor, and the kernel gives free ports (HostPort 0) from a range of its own on, in
// the network namespace of the calling thread. To find that out by trying takes long.
func Reservable(ports []cove.PortMapping) error {
	type place struct {
		host  netip.Addr
		proto byte
	}
	all, free := 0, map[place]int{}
	for _, p := range ports {
		host, proto, err := Binding(p)
		if err != nil {
			return err
		}
		all += Count(p)
		if p.HostPort == 0 {
			free[place{host, proto}] += Count(p)
		}
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil && uint64(all)+startFiles > limit.Cur {
		return cove.E("publish ports", "", cove.Unavailable, fmt.Errorf("%d ports take as many descriptors beside those of a start, and %d may be open (ulimit -n)", all, limit.Cur))
	}
	low, err := firstFreePort()
	for at, n := range free {
		if err == nil && n > 1<<16-low {
			return cove.E("publish ports", "", cove.Unavailable,
				fmt.Errorf("%d free %s ports are asked for, and the kernel has %d to give (net.ipv4.ip_local_port_range)", n, ProtocolName(at.proto), 1<<16-low))
		}
	}
	return nil
}

// firstFreePort is the first that the kernel gives to who asks for any, ip(7).
func firstFreePort() (int, error) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0, err
	}
	var low, high int
	_, err = fmt.Sscan(string(text), &low, &high)
	return low, err
}
