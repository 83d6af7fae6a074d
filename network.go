package cove

import (
	"net/netip"
	"time"
)

// Network is the record of a network. Its JSON is the format of podman's
// network files, so that definitions can be carried from one to the other.
type Network struct {
	Name             string            `json:"name"`
	ID               string            `json:"id"`
	Driver           string            `json:"driver"` // bridge
	NetworkInterface string            `json:"network_interface,omitempty"`
	Created          time.Time         `json:"created"`
	Subnets          []Subnet          `json:"subnets,omitempty"`
	Routes           []Route           `json:"routes,omitempty"`
	IPv6Enabled      bool              `json:"ipv6_enabled"`
	Internal         bool              `json:"internal"`
	DNSEnabled       bool              `json:"dns_enabled"`
	DNSServers       []string          `json:"network_dns_servers,omitempty"`
	Labels           map[string]string `json:"labels,omitempty"`
	Options          map[string]string `json:"options,omitempty"`      // mtu, isolate, vlan …
	IPAM             map[string]string `json:"ipam_options,omitempty"` // driver: host-local
}

// Subnet is an address range of a network.
type Subnet struct {
	Subnet     netip.Prefix `json:"subnet"`
	Gateway    netip.Addr   `json:"gateway,omitzero"`
	LeaseRange *LeaseRange  `json:"lease_range,omitempty"`
}

// LeaseRange limits the addresses that are leased.
type LeaseRange struct {
	StartIP netip.Addr `json:"start_ip,omitzero"`
	EndIP   netip.Addr `json:"end_ip,omitzero"`
}

// Route is a static route given to each container of a network.
type Route struct {
	Destination netip.Prefix `json:"destination"`
	Gateway     netip.Addr   `json:"gateway"`
	Metric      *uint32      `json:"metric,omitempty"`
}

// NetworkAttachment is one container on one network: what was asked and, once
// leased, which addresses it has.
type NetworkAttachment struct {
	Network   string         `json:"network"` // name
	Aliases   []string       `json:"aliases,omitempty"`
	Interface string         `json:"interface,omitempty"` // in the container: eth0 …
	MAC       string         `json:"mac,omitempty"`
	StaticIPs []netip.Addr   `json:"staticIPs,omitempty"` // asked by the user
	Addresses []netip.Prefix `json:"addresses,omitempty"` // leased, with the subnet's prefix length
	Gateways  []netip.Addr   `json:"gateways,omitempty"`
	Link      int            `json:"link,omitempty"` // the number in its link's name
	// Pending is the change of a running container that is under way.
	Pending Pending `json:"pending,omitempty"`
}

// Pending is a change of a running container's attachment. It is recorded
// before the first side effect, so that whoever finds it can finish it.
type Pending string

// The changes.
const (
	Joining Pending = "connect"
	Leaving Pending = "disconnect"
)

// PortMapping publishes Range consecutive ports of a container on the host.
type PortMapping struct {
	HostIP        string `json:"host_ip"` // "" is every address
	ContainerPort uint16 `json:"container_port"`
	HostPort      uint16 `json:"host_port"` // 0: chosen at creation
	Range         uint16 `json:"range"`     // 0 counts as 1
	Protocol      string `json:"protocol"`  // tcp, udp, sctp
}
