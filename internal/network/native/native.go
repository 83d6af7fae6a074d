// Package native is the network driver that needs no other program: bridges,
// links and routes by rtnetlink, ports and masquerading by nftables, both
// spoken directly to the kernel.
//
// Every bridge network has one bridge, and every container one veth pair per
// network, whose host side is named after the container's ID and whose
// container side is born inside the container's network namespace; it goes
// with the namespace. The firewall is one table, "inet cove": base chains, two
// chains per network, and maps in which one published port is one element (see
// rules.go). Nothing is kept outside the kernel.
//
// Requests are written as raw messages because a container's start waits for
// them: everything that can be one send is, nothing is looked up by listing,
// and the kernel's answers, which are ready when the send returns, are read
// once.
package native

import "github.com/cove-engine/cove/internal/network"

// Driver is the native network driver. The zero value is ready to use.
type Driver struct{}

var _ network.Driver = Driver{}
