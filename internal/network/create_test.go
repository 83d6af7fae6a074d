package network

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/cove-engine/cove"
)

func prefixes(ss ...string) (ps []netip.Prefix) {
	for _, s := range ss {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func TestFreeSubnet(t *testing.T) {
	small := []Pool{{netip.MustParsePrefix("10.0.0.0/30"), 30}}
	for _, c := range []struct {
		pools        []Pool
		taken, avoid []netip.Prefix
		want         string
	}{
		{DefaultPools(), nil, nil, "10.89.0.0/24"},
		{DefaultPools(), prefixes("10.89.0.0/24", "10.89.1.128/25"), prefixes("10.89.2.0/30"), "10.89.3.0/24"},
		{DefaultPools(), prefixes("10.89.0.0/16"), nil, "10.90.0.0/24"},
		{DefaultPools(), prefixes("10.89.0.0/24"), prefixes("10.0.0.0/8"), "10.89.1.0/24"},
		{DefaultPools(), prefixes("0.0.0.0/1"), nil, ""},
		{small, nil, prefixes("10.0.0.0/30"), "10.0.0.0/30"},
		{small, prefixes("10.0.0.0/30"), nil, ""},
		{[]Pool{{netip.MustParsePrefix("255.255.255.0/24"), 25}}, prefixes("255.255.255.0/25"), nil, "255.255.255.128/25"},
		{[]Pool{{netip.MustParsePrefix("255.255.255.0/24"), 25}}, prefixes("255.255.255.0/24"), nil, ""},
		{nil, nil, nil, ""},
	} {
		got, err := FreeSubnet(c.pools, c.taken, c.avoid)
		if c.want == "" {
			if err == nil {
				t.Errorf("taken %v: got %v, want an error", c.taken, got)
			}
		} else if err != nil || got.String() != c.want {
			t.Errorf("taken %v avoid %v: got %v %v, want %s", c.taken, c.avoid, got, err, c.want)
		}
	}
}

func TestComplete(t *testing.T) {
	others := []cove.Network{{Name: "old", ID: ID("old"), NetworkInterface: "cove0", Subnets: []cove.Subnet{{Subnet: netip.MustParsePrefix("10.89.0.0/24")}}}}
	host := Occupied{Links: []string{"lo", "cove1"}, Addresses: prefixes("192.168.1.0/24")}
	n := cove.Network{Name: "new", IPv6Enabled: true, Options: map[string]string{"com.docker.network.driver.mtu": "1400", "isolate": "strict", "com.docker.network.bridge.enable_icc": "true"}}
	if err := Complete(&n, others, host, DefaultPools()); err != nil {
		t.Fatal(err)
	}
	if n.NetworkInterface != "cove2" || len(n.Subnets) != 2 || n.Subnets[0].Gateway.String() != "10.89.1.1" || n.ID != ID("new") ||
		MTU(n) != 1400 || IsolateOf(n) != IsolateStrict || len(n.Options) != 2 || n.Subnets[1].Subnet.Bits() != 64 {
		t.Errorf("%+v", n)
	}
	// podman's ID of the default network.
	if ID("podman") != "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9" {
		t.Error("ID", ID("podman"))
	}
	opt := func(k, v string) cove.Network {
		return cove.Network{Name: "n", Options: map[string]string{k: v}}
	}
	sub := func(s, gw string) cove.Network {
		n := cove.Network{Name: "n", Subnets: []cove.Subnet{{Subnet: netip.MustParsePrefix(s)}}}
		if gw != "" {
			n.Subnets[0].Gateway = netip.MustParseAddr(gw)
		}
		return n
	}
	for _, c := range []struct {
		n    cove.Network
		kind cove.Kind
	}{
		{cove.Network{Name: "old"}, cove.Exists},
		{cove.Network{Name: ""}, cove.Invalid},
		{cove.Network{Name: "-x"}, cove.Invalid},
		{cove.Network{Name: "a/b"}, cove.Invalid},
		{cove.Network{Name: "host"}, cove.Invalid},
		{cove.Network{Name: "n", Driver: "macvlan"}, cove.Unsupported},
		{cove.Network{Name: "n", NetworkInterface: "cove0"}, cove.InUse},
		{cove.Network{Name: "n", NetworkInterface: "a/b"}, cove.Invalid},
		{cove.Network{Name: "n", NetworkInterface: "cv0123456789ab0"}, cove.Invalid},
		{opt("vlan", "3"), cove.Unsupported},
		{opt("vrf", "x"), cove.Unsupported},
		{opt("nonsense", "x"), cove.Unsupported},
		{opt("mode", "unmanaged"), cove.Unsupported},
		{opt("mtu", "-1"), cove.Invalid},
		{opt("isolate", "perhaps"), cove.Invalid},
		{opt("com.docker.network.bridge.enable_icc", "false"), cove.Unsupported},
		{opt("com.docker.network.bridge.gateway_mode_ipv4", "routed"), cove.Unsupported},
		{opt("com.docker.network.bridge.gateway_mode_ipv6", ""), cove.Unsupported},
		{sub("10.89.0.128/25", ""), cove.InUse},
		{sub("192.168.0.0/16", ""), cove.InUse},
		{sub("10.1.0.0/24", "10.2.0.1"), cove.Invalid},
		{sub("10.1.0.0/31", ""), cove.Invalid},
	} {
		err := Complete(&c.n, others, host, DefaultPools())
		if err == nil || cove.KindOf(err) != c.kind {
			t.Errorf("%+v: %v, want kind %d", c.n, err, c.kind)
		}
	}
}

func TestLinkName(t *testing.T) {
	id := ID("x")
	for i := range MaxNetworks {
		name := LinkName(id, i)
		owner, ok := LinkOwner(name)
		if !ok || owner != id[:12] || len(name) != 15 {
			t.Errorf("%s: %s %v", name, owner, ok)
		}
	}
	for _, name := range []string{"", "eth0", "cv", "cvABCDEF012345x", "cove0", "cv0123456789ab", "xx0123456789ab0"} {
		if _, ok := LinkOwner(name); ok {
			t.Errorf("%s has an owner", name)
		}
	}
}

func TestBinding(t *testing.T) {
	for _, c := range []struct {
		p    cove.PortMapping
		kind cove.Kind
	}{
		{cove.PortMapping{ContainerPort: 1, Protocol: "icmp"}, cove.Invalid},
		{cove.PortMapping{}, cove.Invalid},
		{cove.PortMapping{ContainerPort: 65535, Range: 2}, cove.Invalid},
		{cove.PortMapping{ContainerPort: 1, HostPort: 65535, Range: 2}, cove.Invalid},
		{cove.PortMapping{ContainerPort: 1, HostIP: "localhost"}, cove.Invalid},
		{cove.PortMapping{ContainerPort: 1, HostIP: "fe80::1%eth0"}, cove.Invalid},
		{cove.PortMapping{ContainerPort: 1, HostIP: "::1"}, cove.Unsupported},
	} {
		_, _, err := Binding(c.p)
		var e *cove.Error
		if !errors.As(err, &e) || e.Kind != c.kind {
			t.Errorf("%+v: %v", c.p, err)
		}
	}
}
