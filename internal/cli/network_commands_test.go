package cli

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/cove-engine/cove"
)

func oneNetwork() *objectsEngine {
	return &objectsEngine{
		networks: []cove.Network{{
			Name: "n1", ID: "c2d2a86156f9a0d799a786d281a96138e91af1169e5c4f02d6e18c6d2f31a94c", Driver: "bridge",
			NetworkInterface: "cove2", Created: time.Date(2026, 11, 23, 23, 4, 42, 521713084, time.UTC),
			Subnets: []cove.Subnet{{Subnet: netip.MustParsePrefix("10.99.0.0/24"), Gateway: netip.MustParseAddr("10.99.0.3"),
				LeaseRange: &cove.LeaseRange{StartIP: netip.MustParseAddr("10.99.0.129"), EndIP: netip.MustParseAddr("10.99.0.255")}}},
			DNSEnabled: true, Labels: map[string]string{"b": "c", "a": "b"}, Options: map[string]string{"mtu": "1400"},
			IPAM: map[string]string{"driver": "host-local"},
		}},
		fail: map[string]error{"busy": cove.E("remove network", "busy", cove.InUse, errors.New("used by c1"))},
	}
}

const networkN1 = `[
     {
          "name": "n1",
          "id": "c2d2a86156f9a0d799a786d281a96138e91af1169e5c4f02d6e18c6d2f31a94c",
          "driver": "bridge",
          "network_interface": "cove2",
          "created": "2026-11-23T23:04:42.521713084Z",
          "subnets": [
               {
                    "subnet": "10.99.0.0/24",
                    "gateway": "10.99.0.3",
                    "lease_range": {
                         "start_ip": "10.99.0.129",
                         "end_ip": "10.99.0.255"
                    }
               }
          ],
          "ipv6_enabled": false,
          "internal": false,
          "dns_enabled": true,
          "labels": {
               "a": "b",
               "b": "c"
          },
          "options": {
               "mtu": "1400"
          },
          "ipam_options": {
               "driver": "host-local"
          },
          "containers": {}
     }
]
`

func TestNetworkCommands(t *testing.T) {
	warning := "WARNING! This will remove all networks not used by at least one container.\nAre you sure you want to continue? [y/N] "
	for _, c := range []struct {
		name  string
		args  []string
		stdin string
		code  int
		out   string
		err   string
		calls []string
	}{
		{name: "create", args: []string{"create"}, out: "cove1\n", calls: []string{"create network  false"}},
		{name: "create ignore", args: []string{"create", "n1", "--ignore", "--attachable"}, out: "n1\n", calls: []string{"create network n1 true"}},
		{name: "create two", args: []string{"create", "x", "y"}, code: 125, err: "accepts at most 1 arg(s), received 2"},
		{name: "create macvlan flag", args: []string{"create", "--macvlan", "eth0"}, code: 125, err: "--macvlan is not supported by cove yet"},
		{name: "ls", args: []string{"ls"}, out: "NETWORK ID    NAME        DRIVER\nc2d2a86156f9  n1          bridge\n", calls: []string{"networks "}},
		{name: "ls long", args: []string{"ls", "--no-trunc", "-n"}, calls: []string{"networks "},
			out: "c2d2a86156f9a0d799a786d281a96138e91af1169e5c4f02d6e18c6d2f31a94c  n1          bridge\n"},
		{name: "ls -q", args: []string{"ls", "-q", "-f", "name=n"}, out: "n1\n", calls: []string{"networks name=n"}},
		{name: "ls template", args: []string{"ls", "--format", "{{.Name}} {{.ID}} {{.Labels}} {{.IPAMOptions}} {{.DNSEnabled}}"},
			out: "n1 c2d2a86156f9 a=b,b=c map[driver:host-local] true\n", calls: []string{"networks "}},
		{name: "ls table", args: []string{"ls", "--format", "table {{.Name}} {{.ID}}"}, out: "NAME        NETWORK ID\nn1          c2d2a86156f9\n", calls: []string{"networks "}},
		{name: "ls filter", args: []string{"ls", "-f", "foo=1"}, code: 125, err: `"foo" is an invalid network filter`},
		{name: "inspect", args: []string{"inspect", "n1"}, out: networkN1},
		{name: "inspect missing", args: []string{"inspect", "n1", "zz"}, code: 125, out: networkN1, err: "inspect network zz"},
		{name: "inspect template", args: []string{"inspect", "n1", "--format", "{{.Name}} {{range .Subnets}}{{.Subnet}} {{.Gateway}}{{end}}"}, out: "n1 10.99.0.0/24 10.99.0.3\n"},
		{name: "inspect none", args: []string{"inspect"}, code: 125, err: "requires at least 1 arg(s), only received 0"},
		{name: "exists", args: []string{"exists", "n1"}},
		{name: "not exists", args: []string{"exists", "zz"}, code: 1},
		{name: "rm", args: []string{"rm", "n1"}, out: "n1\n", calls: []string{"rm network n1 false -"}},
		{name: "rm missing", args: []string{"rm", "zz"}, code: 1, err: "zz", calls: []string{"rm network zz false -"}},
		{name: "rm -f missing", args: []string{"rm", "-f", "zz"}, calls: []string{"rm network zz true -"}},
		{name: "rm in use", args: []string{"rm", "busy"}, code: 2, err: "used by c1", calls: []string{"rm network busy false -"}},
		{name: "rm -t alone", args: []string{"rm", "-t", "1", "n1"}, code: 125, err: "--force option must be specified"},
		{name: "prune", args: []string{"prune"}, stdin: "y\n", out: warning + "n1\nn2\n", calls: []string{"prune networks "}},
		{name: "prune no", args: []string{"prune"}, stdin: "\n", out: warning},
		{name: "prune without answer", args: []string{"prune"}, code: 125, out: warning, err: "EOF"},
		{name: "prune -f", args: []string{"prune", "-f", "--filter", "until=1h"}, out: "n1\nn2\n", calls: []string{"prune networks until=1h"}},
		{name: "connect", args: []string{"connect", "n1", "c1"}, calls: []string{"connect c1 n1 [] [] "}},
		{name: "connect with", args: []string{"connect", "--alias", "a,b", "--ip", "10.99.0.9", "--ip6", "fd00::9", "--mac-address", "02:00:00:00:00:09", "n1", "c1"},
			calls: []string{"connect c1 n1 [a b] [10.99.0.9 fd00::9] 02:00:00:00:00:09"}},
		{name: "connect bad ip", args: []string{"connect", "--ip", "fd00::9", "n1", "c1"}, code: 125, err: "is not an IPv4 address"},
		{name: "connect link", args: []string{"connect", "--link", "x", "n1", "c1"}, code: 125, err: "--link is not supported by cove yet"},
		{name: "connect one", args: []string{"connect", "n1"}, code: 125, err: "accepts 2 arg(s), received 1"},
		{name: "disconnect", args: []string{"disconnect", "n1", "c1"}, calls: []string{"disconnect c1 n1 false"}},
		{name: "disconnect -f", args: []string{"disconnect", "-f", "n1", "busy"}, code: 125, err: "used by c1", calls: []string{"disconnect busy n1 true"}},
		{name: "reload", args: []string{"reload", "c1"}, out: "id of c1\n", calls: []string{"reload c1"}},
		{name: "reload nothing", args: []string{"reload"}, code: 125, err: "you must provide at least one name or id"},
		{name: "reload -a c1", args: []string{"reload", "-a", "c1"}, code: 125, err: "no arguments are needed with --all"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := oneNetwork()
			e.on(t, c.stdin, append([]string{"network"}, c.args...)...).want(t, c.code, c.out, c.err)
			e.wantCalls(t, c.calls...)
		})
	}
}

func TestNetworkCreateRecord(t *testing.T) {
	ten := uint32(10)
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	for _, c := range []struct {
		name string
		args []string
		want cove.Network
		err  string
	}{
		{name: "plain", want: cove.Network{Driver: "bridge", DNSEnabled: true}},
		{name: "range", args: []string{"--subnet", "10.99.0.0/24", "--gateway", "10.99.0.3", "--ip-range", "10.99.0.128/25", "--label", "a=b", "--opt", "mtu=1400"},
			want: cove.Network{Driver: "bridge", DNSEnabled: true, Labels: map[string]string{"a": "b"}, Options: map[string]string{"mtu": "1400"},
				Subnets: []cove.Subnet{{Subnet: prefix("10.99.0.0/24"), Gateway: addr("10.99.0.3"), LeaseRange: &cove.LeaseRange{StartIP: addr("10.99.0.129"), EndIP: addr("10.99.0.255")}}}}},
		{name: "two subnets", args: []string{"--subnet", "10.97.1.5/16", "--subnet", "fd00:1::/64", "--gateway", "10.97.0.9", "--ip-range", "10.97.0.10-10.97.0.20"},
			want: cove.Network{Driver: "bridge", DNSEnabled: true, IPv6Enabled: true, Subnets: []cove.Subnet{
				{Subnet: prefix("10.97.0.0/16"), Gateway: addr("10.97.0.9"), LeaseRange: &cove.LeaseRange{StartIP: addr("10.97.0.10"), EndIP: addr("10.97.0.20")}},
				{Subnet: prefix("fd00:1::/64")}}}},
		{name: "switches", args: []string{"--ipv6", "--internal", "--disable-dns", "-d", "macvlan", "--ipam-driver", "dhcp", "--interface-name", "br9"},
			want: cove.Network{Driver: "macvlan", IPv6Enabled: true, Internal: true, NetworkInterface: "br9", IPAM: map[string]string{"driver": "dhcp"}}},
		{name: "dns and routes", args: []string{"--dns", "1.1.1.1,fd00::1", "--route", "10.1.0.0/16,10.99.0.9", "--route", "10.2.0.0/16,10.99.0.9,10"},
			want: cove.Network{Driver: "bridge", DNSEnabled: true, DNSServers: []string{"1.1.1.1", "fd00::1"}, Routes: []cove.Route{
				{Destination: prefix("10.1.0.0/16"), Gateway: addr("10.99.0.9")}, {Destination: prefix("10.2.0.0/16"), Gateway: addr("10.99.0.9"), Metric: &ten}}}},
		{name: "docker's options", args: []string{"-o", "com.docker.network.driver.mtu=9000", "-o", "com.docker.network.bridge.name=br7"},
			want: cove.Network{Driver: "bridge", DNSEnabled: true, NetworkInterface: "br7", Options: map[string]string{"mtu": "9000"}}},
		{name: "one address", args: []string{"--subnet", "10.0.0.0/24", "--ip-range", "10.0.0.7/32"},
			want: cove.Network{Driver: "bridge", DNSEnabled: true, Subnets: []cove.Subnet{{Subnet: prefix("10.0.0.0/24"), LeaseRange: &cove.LeaseRange{StartIP: addr("10.0.0.7"), EndIP: addr("10.0.0.7")}}}}},
		{name: "bad subnet", args: []string{"--subnet", "foo"}, err: "invalid CIDR address: foo"},
		{name: "gateway alone", args: []string{"--gateway", "1.2.3.4"}, err: "cannot set gateway or range without subnet"},
		{name: "range alone", args: []string{"--ip-range", "10.1.1.0/24"}, err: "cannot set gateway or range without subnet"},
		{name: "gateway outside", args: []string{"--subnet", "10.0.0.0/24", "--gateway", "10.0.1.1"}, err: "gateway 10.0.1.1 not in subnet 10.0.0.0/24"},
		{name: "range outside", args: []string{"--subnet", "10.0.0.0/24", "--ip-range", "10.0.0.0/16"}, err: "is not inside subnet"},
		{name: "range backwards", args: []string{"--subnet", "10.0.0.0/24", "--ip-range", "10.0.0.9-10.0.0.1"}, err: "invalid --ip-range"},
		{name: "bad dns", args: []string{"--dns", "x"}, err: `invalid --dns "x"`},
		{name: "dns without dns", args: []string{"--dns", "1.1.1.1", "--disable-dns"}, err: "--disable-dns"},
		{name: "bad route", args: []string{"--route", "10.1.0.0/16"}, err: "invalid route: 10.1.0.0/16"},
		{name: "bad metric", args: []string{"--route", "10.1.0.0/16,10.0.0.1,-1"}, err: "invalid route metric -1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := oneNetwork()
			r := e.on(t, "", append([]string{"network", "create", "net"}, c.args...)...)
			if c.err != "" {
				r.want(t, 125, "", c.err)
				e.wantCalls(t)
				return
			}
			r.want(t, 0, "net\n", "")
			c.want.Name = "net"
			if !reflect.DeepEqual(e.network, c.want) {
				t.Errorf("got  %+v\nwant %+v", e.network, c.want)
			}
		})
	}
}
