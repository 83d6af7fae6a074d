package network

import (
	"strconv"

	"github.com/cove-engine/cove"
)

// Isolate says how far a network is kept from others, podman's "isolate"
// option.
type Isolate uint8

// The degrees of isolation.
const (
	IsolateNo     Isolate = iota
	IsolateYes            // from other isolated networks
	IsolateStrict         // from every other network
)

// Options of networks, in podman's words and docker's.
const (
	optMTU            = "mtu"
	optMTUDocker      = "com.docker.network.driver.mtu"
	optIsolate        = "isolate"
	optICC            = "com.docker.network.bridge.enable_icc"
	optBridgeName     = "com.docker.network.bridge.name"
	optMetric         = "metric"
	optNoDefaultRoute = "no_default_route"
	optMode           = "mode"
	optMasquerade     = "com.docker.network.bridge.enable_ip_masquerade"
	optDefaultBridge  = "com.docker.network.bridge.default_bridge"
	optGatewayMode4   = "com.docker.network.bridge.gateway_mode_ipv4"
	optGatewayMode6   = "com.docker.network.bridge.gateway_mode_ipv6"
)

// Docker's gateway modes that there are.
const (
	gatewayNAT         = "nat"
	gatewayUnprotected = "nat-unprotected"
)

// MTU is the network's MTU in bytes; 0 is the kernel's default.
func MTU(n cove.Network) int {
	v := n.Options[optMTU]
	if v == "" {
		v = n.Options[optMTUDocker]
	}
	i, err := strconv.Atoi(v)
	if err != nil {
		return 0
	}
	return i
}

// IsolateOf is the network's degree of isolation.
func IsolateOf(n cove.Network) Isolate {
	v := n.Options[optIsolate]
	if v == "strict" {
		return IsolateStrict
	}
	if yes, err := strconv.ParseBool(v); err == nil && yes {
		return IsolateYes
	}
	return IsolateNo
}

// Unprotected reports in which families who routes to a network's containers
// from outside reaches all their ports, docker's gateway mode nat-unprotected.
// Without it only published ports are reached, by the host's addresses.
func Unprotected(n cove.Network) (v4, v6 bool) {
	return n.Options[optGatewayMode4] == gatewayUnprotected, n.Options[optGatewayMode6] == gatewayUnprotected
}

// Metric is the metric of the network's default routes, if one is set.
func Metric(n cove.Network) (uint32, bool) {
	v, err := strconv.ParseUint(n.Options[optMetric], 10, 32)
	return uint32(v), err == nil && v > 0
}

// NoDefaultRoute reports whether containers get no default route through the
// network.
func NoDefaultRoute(n cove.Network) bool {
	yes, err := strconv.ParseBool(n.Options[optNoDefaultRoute])
	return err == nil && yes
}
