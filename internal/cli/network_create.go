package cli

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cove-engine/cove"
)

// networkCreateFlags are the flags of network create as written.
type networkCreateFlags struct {
	name                       string
	driver, ipam, link         string
	subnets, gateways, ranges  []string
	routes, dns, labels, opts  []string
	ipv6, internal, disableDNS bool
}

func networkCreateCommand(a *app) *cobra.Command {
	var (
		f      networkCreateFlags
		ignore bool
	)
	c := &cobra.Command{
		Use:     "create [options] [NAME]",
		Long:    "Create networks for containers. Without --subnet a free one is chosen.",
		Example: "  cove network create net1",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				f.name = args[0]
			}
			n, err := f.network()
			if err != nil {
				return err
			}
			eng, err := a.engine()
			if err != nil {
				return err
			}
			made, err := eng.CreateNetwork(c.Context(), n, ignore)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.Out, made.Name)
			return err
		},
	}
	f.flags(c.Flags())
	c.Flags().BoolVar(&ignore, "ignore", false, "Don't fail if network already exists")
	refuse(c.Flags(), []unsupported{
		{name: "attachable", bool: true, accept: []string{"true", "false"}}, // every network of cove's is
		{name: "macvlan"}, {name: "scope", accept: []string{"local"}},
		{name: "aux-address"}, {name: "config-from"}, {name: "config-only", bool: true}, {name: "ingress", bool: true}, {name: "ipam-opt"},
	})
	return c
}

func (f *networkCreateFlags) flags(fs *pflag.FlagSet) {
	fs.StringVarP(&f.driver, "driver", "d", "bridge", "driver to manage the network")
	fs.StringArrayVarP(&f.opts, "opt", "o", nil, "Set driver specific options")
	fs.StringSliceVar(&f.gateways, "gateway", nil, "IPv4 or IPv6 gateway for the subnet")
	fs.BoolVar(&f.internal, "internal", false, "restrict external access from this network")
	fs.StringArrayVar(&f.ranges, "ip-range", nil, "allocate container IP from range")
	fs.StringVar(&f.ipam, "ipam-driver", "", "IP Address Management Driver")
	fs.BoolVar(&f.ipv6, "ipv6", false, "enable IPv6 networking")
	fs.StringArrayVar(&f.labels, "label", nil, "set metadata on a network")
	fs.StringVar(&f.link, "interface-name", "", "interface name which is used by the driver")
	fs.StringArrayVar(&f.subnets, "subnet", nil, "subnets in CIDR format")
	fs.StringArrayVar(&f.routes, "route", nil, "static routes: DESTINATION,GATEWAY[,METRIC]")
	fs.BoolVar(&f.disableDNS, "disable-dns", false, "disable dns plugin")
	fs.StringSliceVar(&f.dns, "dns", nil, "DNS servers this network will use")
}

// network is what the flags ask for. Flags that come several times go
// together by position: the first --gateway and --ip-range are the first
// --subnet's.
func (f *networkCreateFlags) network() (cove.Network, error) {
	n := cove.Network{
		Name: f.name, Driver: f.driver, NetworkInterface: f.link,
		IPv6Enabled: f.ipv6, Internal: f.internal, DNSEnabled: !f.disableDNS,
		Labels: labelMap(f.labels),
	}
	if f.ipam != "" {
		n.IPAM = map[string]string{"driver": f.ipam}
	}
	n.Options = networkOptions(&n, f.opts)
	if len(f.dns) > 0 && f.disableDNS {
		return n, usagef("cannot set --dns servers on a network with --disable-dns")
	}
	for _, s := range f.dns {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return n, usagef("invalid --dns %q: it must be an IP address", s)
		}
		n.DNSServers = append(n.DNSServers, addr.String())
	}
	if len(f.gateways) > len(f.subnets) || len(f.ranges) > len(f.subnets) {
		return n, usagef("cannot set gateway or range without subnet")
	}
	for i := range f.subnets {
		s, err := f.subnet(i)
		if err != nil {
			return n, err
		}
		n.IPv6Enabled = n.IPv6Enabled || s.Subnet.Addr().Is6()
		n.Subnets = append(n.Subnets, s)
	}
	for _, text := range f.routes {
		r, err := parseRoute(text)
		if err != nil {
			return n, err
		}
		n.Routes = append(n.Routes, r)
	}
	return n, nil
}

// subnet is the i-th --subnet with its gateway and range.
func (f *networkCreateFlags) subnet(i int) (cove.Subnet, error) {
	var s cove.Subnet
	p, err := netip.ParsePrefix(f.subnets[i])
	if err != nil {
		return s, usagef("invalid CIDR address: %s", f.subnets[i])
	}
	s.Subnet = p.Masked()
	if i < len(f.gateways) {
		gw, err := netip.ParseAddr(f.gateways[i])
		if err != nil {
			return s, usagef("invalid --gateway %q: it must be an IP address", f.gateways[i])
		}
		if !s.Subnet.Contains(gw) {
			return s, usagef("gateway %s not in subnet %s", gw, s.Subnet)
		}
		s.Gateway = gw
	}
	if i < len(f.ranges) {
		lease, err := parseLeaseRange(f.ranges[i])
		if err != nil {
			return s, err
		}
		if !s.Subnet.Contains(lease.StartIP) || !s.Subnet.Contains(lease.EndIP) {
			return s, usagef("ip range %s is not inside subnet %s", f.ranges[i], s.Subnet)
		}
		s.LeaseRange = &lease
	}
	return s, nil
}

// parseLeaseRange reads an --ip-range: a prefix, of which the first address
// is never leased, or FIRST-LAST.
func parseLeaseRange(text string) (cove.LeaseRange, error) {
	bad := usagef("invalid --ip-range %q: it must be a CIDR or FIRST-LAST", text)
	if first, last, ok := strings.Cut(text, "-"); ok {
		start, err1 := netip.ParseAddr(first)
		end, err2 := netip.ParseAddr(last)
		if err1 != nil || err2 != nil || start.Is4() != end.Is4() || end.Less(start) {
			return cove.LeaseRange{}, bad
		}
		return cove.LeaseRange{StartIP: start, EndIP: end}, nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return cove.LeaseRange{}, bad
	}
	start, end := p.Masked().Addr(), lastAddr(p)
	if start != end {
		start = start.Next()
	}
	return cove.LeaseRange{StartIP: start, EndIP: end}, nil
}

// lastAddr is the highest address of p.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

// parseRoute reads a --route: DESTINATION,GATEWAY[,METRIC].
func parseRoute(text string) (cove.Route, error) {
	var r cove.Route
	parts := strings.Split(text, ",")
	if len(parts) != 2 && len(parts) != 3 {
		return r, usagef("invalid route: %s\nFormat: --route <destination in CIDR>,<gateway>,<route metric (optional)>", text)
	}
	var err error
	if r.Destination, err = netip.ParsePrefix(parts[0]); err != nil {
		return r, usagef("invalid route destination %s", parts[0])
	}
	if r.Gateway, err = netip.ParseAddr(parts[1]); err != nil {
		return r, usagef("invalid route gateway %s", parts[1])
	}
	if len(parts) == 3 {
		m, err := strconv.ParseUint(parts[2], 10, 32)
		if err != nil {
			return r, usagef("invalid route metric %s", parts[2])
		}
		metric := uint32(m)
		r.Metric = &metric
	}
	return r, nil
}

// networkOptions reads --opt, docker's keys under podman's names; docker's
// name of the bridge goes to n.
func networkOptions(n *cove.Network, opts []string) map[string]string {
	m := labelMap(opts)
	if mtu, ok := m["com.docker.network.driver.mtu"]; ok {
		delete(m, "com.docker.network.driver.mtu")
		m["mtu"] = mtu
	}
	if name, ok := m["com.docker.network.bridge.name"]; ok {
		delete(m, "com.docker.network.bridge.name")
		n.NetworkInterface = name
	}
	if len(m) == 0 {
		return nil
	}
	return m
}
