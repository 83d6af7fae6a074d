// Package network is the door to everything that connects containers: what is
// asked of a network driver and what it answers, as plain data, and the pure
// rules by which networks are named, numbered and checked.
//
// A driver (network/native, network/cni) joins a container's network
// namespace to its networks and publishes its ports. It allocates nothing:
// addresses are leased by the engine from the state store and arrive in the
// [Request]. It keeps nothing: what it made can be listed from the kernel
// ([Reality]) and is named after its owner, and what must be undone when the
// container ends is data that the container's monitor carries out
// (network/teardown).
package network

import (
	"context"
	"net/netip"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network/teardown"
)

// Request asks for one container to be joined to its networks.
type Request struct {
	// ContainerID is the full ID: 64 lower-case hexadecimal digits. Links
	// and firewall elements are named after it.
	ContainerID string
	// Netns is an open file descriptor of the container's network
	// namespace. It stays the caller's.
	Netns int
	// Networks in the order in which they were asked for: the first one
	// with a gateway gives the default route, the first one that reaches
	// the outside receives the published ports.
	Networks []Membership
	// Ports must have every host port chosen (see [Reserve]).
	Ports []cove.PortMapping
}

// Membership is one network of a container, with the container's leases.
type Membership struct {
	Network    cove.Network
	Attachment cove.NetworkAttachment
}

// Driver joins containers to networks. Its methods act on the network
// namespace of the calling thread (the host's). They may be called from
// several processes at once, but by one at a time for the same container:
// callers hold the container's lock, and the network's when removing it.
type Driver interface {
	// Setup makes bridges, links, addresses, routes and firewall elements.
	// On error nothing of the container's is left behind; [Taken] is one that
	// other addresses mend. The answer undoes the firewall part; the links go with
	// the namespace.
	Setup(ctx context.Context, r Request) (teardown.Teardown, error)
	// Change makes what a running container has be what the request says:
	// links of networks that it has left go, those of networks that it has
	// joined come, default routes and published ports follow. The answer takes
	// the place of Setup's. After an error a part of it may have happened: the
	// same again, or a Change back, mends it.
	Change(ctx context.Context, r Request) (teardown.Teardown, error)
	// List tells what the kernel holds of cove's.
	List(ctx context.Context) (Reality, error)
	// Occupied tells which names and subnets the host uses.
	Occupied(ctx context.Context) (Occupied, error)
	// RemoveLink deletes a container's host-side link that outlived its
	// container. Gone already is no error.
	RemoveLink(ctx context.Context, name string) error
	// RemoveElements deletes all firewall elements of a container. The ID
	// may be one that no record knows any more.
	RemoveElements(ctx context.Context, containerID string) error
	// RemoveNetwork deletes a network's bridge and rules. Gone already is
	// no error.
	RemoveNetwork(ctx context.Context, n cove.Network) error
	// RemoveBridge deletes a bridge that no record knows, by its link's name.
	RemoveBridge(ctx context.Context, name string) error
	// RemoveEmpty deletes what the networks of all stores share, if there is
	// nothing of any in it.
	RemoveEmpty(ctx context.Context) error
}

// Reality is what the kernel holds of cove's in this network namespace.
type Reality struct {
	Links    []Link
	Bridges  []Bridge
	Elements []Element
	// Ruled tells that the firewall holds rules of networks, or could.
	Ruled bool
}

// Link is the host side of a container's link.
type Link struct {
	Name string // cv + 12 digits + index
	// OwnerPrefix is the start (12 digits) of the owning container's ID.
	OwnerPrefix string
	Loose       bool // it leads to no bridge
	Up          bool
	Addresses   []netip.Addr // the container's, which no other of the host can have
}

// Taken is the error of an address that another container of the host has: one of
// another store, or one whose record is gone and whose network namespace something
// still holds.
type Taken struct {
	Addr netip.Addr
	Link string // the host's side of that container's link
}

func (t *Taken) Error() string {
	owner, _ := LinkOwner(t.Link)
	return "requested ip address " + t.Addr.String() + " is already allocated to container ID " + owner + ", which another store of this host may have"
}

// Bridge is a network's bridge.
type Bridge struct {
	Name      string
	NetworkID string // "" when only the firewall still knows it
	Up        bool
	Addresses []netip.Prefix // with the length of their subnets; link-local ones are left out
	Rules     bool           // all of them are in the firewall
	Used      bool           // links lead to it, another store's containers' among them
}

// Element is a published port in the firewall.
type Element struct {
	ContainerID string
	HostIP      netip.Addr // invalid: every address of the family
	Protocol    string
	HostPort    uint16
	Target      netip.AddrPort
}

// LinkPrefix starts the names of the host-side links of containers.
const LinkPrefix = "cv"

// LinkDigits is how much of the container's ID is in a link's name: what the
// kernel's 15 characters leave beside the prefix and the index.
const LinkDigits = 12

// LinkName is the name of the host side of the container's link of that number
// (0 to 35). The ID must have at least 12 digits.
func LinkName(containerID string, index int) string {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	return LinkPrefix + containerID[:LinkDigits] + digits[index:index+1]
}

// MaxNetworks is how many networks one container can be on.
const MaxNetworks = 36

// LinkOwner gives the ID prefix in a link's name made by [LinkName]; false
// when the name is not of that form.
func LinkOwner(name string) (string, bool) {
	if len(name) != len(LinkPrefix)+LinkDigits+1 || name[:len(LinkPrefix)] != LinkPrefix {
		return "", false
	}
	id := name[len(LinkPrefix) : len(LinkPrefix)+LinkDigits]
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", false
		}
	}
	return id, true
}
