package network

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/cove-engine/cove"
)

// FuzzComplete checks networks that anybody may have written: one that is
// accepted is whole, and keeps clear of the others.
func FuzzComplete(f *testing.F) {
	for _, s := range []string{
		`{"name":"n"}`,
		`{"name":"n","driver":"bridge","subnets":[{"subnet":"10.1.0.0/24","gateway":"10.1.0.1","lease_range":{"start_ip":"10.1.0.9","end_ip":"10.1.0.20"}}],"routes":[{"destination":"10.7.0.0/16","gateway":"10.1.0.5"}]}`,
		`{"name":"n","ipv6_enabled":true,"internal":true,"options":{"mtu":"x","vlan":"99999"},"network_interface":"../x"}`,
		`{"name":"n","subnets":[{"subnet":"fd00::/127"},{"subnet":"0.0.0.0/0"},{"subnet":"::ffff:10.0.0.0/104"}]}`,
	} {
		f.Add([]byte(s))
	}
	other := cove.Network{Name: "other", ID: ID("other"), NetworkInterface: "cove0", Subnets: []cove.Subnet{{Subnet: netip.MustParsePrefix("10.89.0.0/24")}}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var n cove.Network
		if json.Unmarshal(raw, &n) != nil || Complete(&n, []cove.Network{other}, Occupied{}, DefaultPools()) != nil {
			return
		}
		if n.ID == "" || ValidInterface(n.NetworkInterface) != nil || n.NetworkInterface == other.NetworkInterface {
			t.Errorf("accepted as %q on %q", n.ID, n.NetworkInterface)
		}
		for _, s := range n.Subnets {
			if !s.Subnet.IsValid() || s.Subnet.Overlaps(other.Subnets[0].Subnet) || s.Gateway.IsValid() && !s.Subnet.Contains(s.Gateway) {
				t.Errorf("accepted with %+v", s)
			}
		}
	})
}
