package network

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/cove-engine/cove"
)

const createOp = "create network"

// ID is the ID of a network made by its name, podman's rule: the SHA-256 of
// the name in hexadecimal.
func ID(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

// Pool is a range from which subnets are cut, as default_subnet_pools of
// containers.conf has them.
type Pool struct {
	Base netip.Prefix
	Size int // prefix length of a subnet
}

// DefaultPools are containers.conf's defaults.
func DefaultPools() []Pool {
	pools := []Pool{{netip.MustParsePrefix("10.89.0.0/16"), 24}}
	for _, p := range []string{"10.90.0.0/15", "10.92.0.0/14", "10.96.0.0/11", "10.128.0.0/9"} {
		pools = append(pools, Pool{netip.MustParsePrefix(p), 24})
	}
	return pools
}

// Occupied is what of a host a new network has to keep clear of.
type Occupied struct {
	Links     []string       // names of links
	Addresses []netip.Prefix // of links, as subnets
	Routes    []netip.Prefix // destinations, without the default ones
}

// InterfacePrefix starts the names of bridges that cove chooses.
const InterfacePrefix = "cove"

// DefaultBridge is that of the default network, which all stores of a host
// share.
const DefaultBridge = InterfacePrefix + "0"

// Complete checks a network that is to be made and fills in what was not
// asked for: ID, driver, bridge name, subnets, gateways. others are all
// networks that exist.
func Complete(n *cove.Network, others []cove.Network, host Occupied, pools []Pool) error {
	fail := func(kind cove.Kind, text string) error { return cove.E(createOp, n.Name, kind, errors.New(text)) }
	if err := ValidName(n.Name); err != nil {
		return err
	}
	if n.Driver == "" {
		n.Driver = "bridge"
	}
	if n.Driver != "bridge" {
		return fail(cove.Unsupported, "unsupported network driver "+strconv.Quote(n.Driver)+": want bridge")
	}
	if driver := n.IPAM["driver"]; driver != "" && driver != "host-local" {
		return fail(cove.Unsupported, "unsupported ipam driver "+strconv.Quote(driver)+": want host-local")
	}
	if err := completeOptions(n); err != nil {
		return err
	}
	if n.ID == "" {
		n.ID = ID(n.Name)
	}
	for _, o := range others {
		if o.Name == n.Name || o.ID == n.ID {
			return cove.E(createOp, n.Name, cove.Exists, errors.New("network already exists"))
		}
	}
	if n.NetworkInterface == "" {
		n.NetworkInterface = FreeInterface(others, host)
	} else {
		if err := ValidInterface(n.NetworkInterface); err != nil {
			return fail(cove.Invalid, err.Error())
		}
		if _, is := LinkOwner(n.NetworkInterface); is || n.NetworkInterface == "lo" || n.NetworkInterface == "all" || n.NetworkInterface == "default" {
			return fail(cove.Invalid, "bridge name "+n.NetworkInterface+" is reserved")
		}
		for _, o := range others {
			if o.NetworkInterface == n.NetworkInterface {
				return fail(cove.InUse, "bridge name "+n.NetworkInterface+" is used by network "+o.Name)
			}
		}
	}
	if err := completeSubnets(n, others, host, pools); err != nil {
		return err
	}
	for _, r := range n.Routes {
		if !r.Destination.IsValid() || !r.Gateway.IsValid() || r.Destination.Addr().Is4() != r.Gateway.Is4() {
			return fail(cove.Invalid, "bad route "+r.Destination.String()+" via "+r.Gateway.String())
		}
	}
	if n.IPAM == nil {
		n.IPAM = map[string]string{"driver": "host-local"}
	}
	return nil
}

// ValidName checks a network's name: podman's pattern, and not a word of
// --network.
func ValidName(name string) error {
	ok := name != "" && name[0] != '_' && name[0] != '.' && name[0] != '-'
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-')
	}
	if !ok {
		return cove.E(createOp, name, cove.Invalid, errors.New("names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument"))
	}
	if len(name) > cove.MaxNameLength {
		return cove.E(createOp, name, cove.Invalid, fmt.Errorf("file name too long: at most %d characters", cove.MaxNameLength))
	}
	if slices.Contains([]string{"bridge", "container", "default", "host", "none", "ns", "pasta", "private", "slirp4netns"}, name) {
		return cove.E(createOp, name, cove.Invalid, errors.New("the name conflicts with a network mode"))
	}
	return nil
}

// completeOptions checks the options and turns docker's into podman's.
func completeOptions(n *cove.Network) error {
	for _, key := range sortedKeys(n.Options) {
		value := n.Options[key]
		invalid := func(want string) error {
			return cove.E(createOp, n.Name, cove.Invalid, errors.New("option "+key+": "+strconv.Quote(value)+": want "+want))
		}
		unsupported := func(text string) error {
			return cove.E(createOp, n.Name, cove.Unsupported, errors.New("unsupported bridge network option "+text))
		}
		switch key {
		case optMTU, optMTUDocker:
			if v, err := strconv.Atoi(value); err != nil || v < 0 || v > 65535 || v > 0 && v < 68 {
				return invalid("68 to 65535")
			}
			if key == optMTUDocker {
				delete(n.Options, key)
				n.Options[optMTU] = value
			}
		case optIsolate:
			if _, err := strconv.ParseBool(value); err != nil && value != "strict" {
				return invalid("true, false or strict")
			}
		case optMetric:
			if v, err := strconv.ParseUint(value, 10, 32); err != nil || v == 0 {
				return invalid("a number from 1 to 4294967295")
			}
		case optNoDefaultRoute:
			if _, err := strconv.ParseBool(value); err != nil {
				return invalid("true or false")
			}
		case optGatewayMode4, optGatewayMode6:
			if value != gatewayNAT && value != gatewayUnprotected {
				return unsupported(key + "=" + value + ": want " + gatewayNAT + " or " + gatewayUnprotected)
			}
		case optBridgeName:
			if n.NetworkInterface != "" && n.NetworkInterface != value {
				return invalid("the interface name " + n.NetworkInterface)
			}
			n.NetworkInterface = value
			delete(n.Options, key)
		case optMode:
			if value != "" && value != "managed" {
				return unsupported(key + "=" + value)
			}
		case optICC, optMasquerade:
			// What a bridge network does anyway.
			if yes, err := strconv.ParseBool(value); err != nil || !yes {
				return unsupported(key + "=" + value)
			}
			delete(n.Options, key)
		case optDefaultBridge:
			if yes, err := strconv.ParseBool(value); err != nil || yes {
				return unsupported(key + "=" + value)
			}
			delete(n.Options, key)
		default: // vlan, vrf and unknown ones
			return unsupported(key)
		}
	}
	return nil
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// completeSubnets checks the subnets asked for and chooses those missing.
func completeSubnets(n *cove.Network, others []cove.Network, host Occupied, pools []Pool) error {
	fail := func(kind cove.Kind, text string) error { return cove.E(createOp, n.Name, kind, errors.New(text)) }
	taken := slices.Clone(host.Addresses)
	for _, o := range others {
		for _, s := range o.Subnets {
			taken = append(taken, s.Subnet)
		}
	}
	var have4, have6 bool
	for i := range n.Subnets {
		s := &n.Subnets[i]
		if !s.Subnet.IsValid() || s.Subnet.Addr().Is4In6() {
			return fail(cove.Invalid, "bad subnet "+s.Subnet.String())
		}
		s.Subnet = s.Subnet.Masked()
		if s.Subnet.Addr().BitLen()-s.Subnet.Bits() < 2 {
			return fail(cove.Invalid, "subnet "+s.Subnet.String()+" is too small")
		}
		if j := slices.IndexFunc(taken, s.Subnet.Overlaps); j >= 0 {
			return fail(cove.InUse, "subnet "+s.Subnet.String()+" is already used on the host or by another config")
		}
		taken = append(taken, s.Subnet)
		have4 = have4 || s.Subnet.Addr().Is4()
		have6 = have6 || s.Subnet.Addr().Is6()
		if s.Gateway.IsValid() && !s.Subnet.Contains(s.Gateway) {
			return fail(cove.Invalid, "gateway "+s.Gateway.String()+" is not in subnet "+s.Subnet.String())
		}
		if r := s.LeaseRange; r != nil {
			for _, a := range []netip.Addr{r.StartIP, r.EndIP} {
				if a.IsValid() && !s.Subnet.Contains(a) {
					return fail(cove.Invalid, "lease range address "+a.String()+" is not in subnet "+s.Subnet.String())
				}
			}
			if r.StartIP.IsValid() && r.EndIP.IsValid() && r.EndIP.Less(r.StartIP) {
				return fail(cove.Invalid, "lease range ends before it starts")
			}
		}
	}
	if !have4 && !have6 {
		p, err := FreeSubnet(pools, taken, host.Routes)
		if err != nil {
			return cove.E(createOp, n.Name, cove.Unavailable, err)
		}
		n.Subnets = append(n.Subnets, cove.Subnet{Subnet: p})
		taken = append(taken, p)
	}
	if n.IPv6Enabled && !have6 {
		p, err := FreeSubnet6(taken)
		if err != nil {
			return cove.E(createOp, n.Name, cove.Unavailable, err)
		}
		n.Subnets = append(n.Subnets, cove.Subnet{Subnet: p})
	}
	n.IPv6Enabled = n.IPv6Enabled || have6
	for i := range n.Subnets {
		if s := &n.Subnets[i]; !s.Gateway.IsValid() {
			s.Gateway = s.Subnet.Addr().Next()
		}
	}
	return nil
}

// FreeInterface chooses a bridge's name: cove0, cove1 …, the first that
// neither a network nor a link of the host has.
func FreeInterface(others []cove.Network, host Occupied) string {
	for i := 0; ; i++ {
		name := InterfacePrefix + strconv.Itoa(i)
		if !slices.Contains(host.Links, name) &&
			!slices.ContainsFunc(others, func(o cove.Network) bool { return o.NetworkInterface == name }) {
			return name
		}
	}
}

var errNoSubnet = errors.New("no free subnet left in the pools")

// FreeSubnet cuts the first subnet out of the pools that overlaps none of
// taken, and if that can be none of avoid: a route to all of 10.0.0.0/8, as
// VPNs set it, must not make networks impossible.
func FreeSubnet(pools []Pool, taken, avoid []netip.Prefix) (netip.Prefix, error) {
	for _, not := range [][]netip.Prefix{slices.Concat(taken, avoid), taken} {
		for _, pool := range pools {
			if !pool.Base.Addr().Is4() || pool.Size < pool.Base.Bits() || pool.Size > 30 {
				continue
			}
			b := pool.Base.Masked().Addr().As4()
			first := uint64(binary.BigEndian.Uint32(b[:]))
			end := first + 1<<(32-pool.Base.Bits())
			for at := first; at < end; {
				p := netip.PrefixFrom(addr4(uint32(at)), pool.Size)
				i := slices.IndexFunc(not, p.Overlaps)
				if i < 0 {
					return p, nil
				}
				// Past what is in the way, to the next multiple.
				step := uint64(1) << (32 - min(pool.Size, not[i].Bits()))
				at = at/step*step + step
			}
		}
	}
	return netip.Prefix{}, errNoSubnet
}

func addr4(v uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}

// FreeSubnet6 makes a random unique local subnet (RFC 4193) that overlaps none
// of taken.
func FreeSubnet6(taken []netip.Prefix) (netip.Prefix, error) {
	for range 100 {
		var b [16]byte
		if _, err := rand.Read(b[:8]); err != nil {
			return netip.Prefix{}, err
		}
		b[0] = 0xfd
		p := netip.PrefixFrom(netip.AddrFrom16(b), 64)
		if !slices.ContainsFunc(taken, p.Overlaps) {
			return p, nil
		}
	}
	return netip.Prefix{}, errNoSubnet
}
