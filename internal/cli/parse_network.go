package cli

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/cove-engine/cove"
)

// networkFlags are the flags about a container's network.
type networkFlags struct {
	networks, aliases []string
	ip, ip6, mac      string
	aliasSet          bool
}

// spec sets Network and Networks of s. An attachment with an empty Network
// is to the default network of containers.conf.
func (f networkFlags) spec(s *cove.ContainerSpec) error {
	mode := ""
	for i, v := range f.networks {
		name, opts, hasOpts := strings.Cut(v, ":")
		var m string
		switch name {
		case "", "default", "private":
			m = ""
		case "bridge":
			m = "bridge"
			if i > 0 {
				return errors.New("can only set extra network names, selected mode bridge conflicts with bridge: invalid argument")
			}
			if hasOpts || len(f.networks) > 1 {
				at, err := parseAttachment("", opts)
				if err != nil {
					return err
				}
				s.Networks = append(s.Networks, at)
			}
		case "none", "host":
			if hasOpts {
				return fmt.Errorf("cannot set network options with network mode %s", name)
			}
			m = name
		case "container", "ns":
			if opts == "" {
				return fmt.Errorf("namespace mode %s requires a value", name)
			}
			m = v
		case "pasta", "slirp4netns":
			m = v
		case "pod":
			return &refusedError{name: "network", value: v}
		default:
			m = "bridge"
			names := []string{name}
			if !hasOpts {
				names = strings.Split(name, ",")
			}
			for _, name := range names {
				at, err := parseAttachment(name, opts)
				if err != nil {
					return err
				}
				if slices.ContainsFunc(s.Networks, func(o cove.NetworkAttachment) bool { return o.Network == name }) {
					return fmt.Errorf("network %s was given twice", name)
				}
				s.Networks = append(s.Networks, at)
			}
		}
		if len(f.networks) > 1 && mode == "" && m != "bridge" {
			return fmt.Errorf("cannot set multiple networks without bridge network mode, selected mode %s: invalid argument", m)
		}
		if mode != "" && m != mode {
			return fmt.Errorf("can only set extra network names, selected mode %s conflicts with bridge: invalid argument", m)
		}
		mode = m
	}
	s.Network = mode
	return f.extra(s)
}

// extra applies the flags that are not part of --network.
func (f networkFlags) extra(s *cove.ContainerSpec) error {
	if !f.aliasSet && f.ip == "" && f.ip6 == "" && f.mac == "" {
		return nil
	}
	if s.Network != "" && s.Network != "bridge" {
		return errors.New("invalid config provided: networks and static ip/mac address can only be used with Bridge mode networking")
	}
	if len(s.Networks) == 0 {
		s.Networks = []cove.NetworkAttachment{{}}
	}
	if len(s.Networks) > 1 && (f.ip != "" || f.ip6 != "" || f.mac != "") {
		return errors.New("--ip, --ip6 and --mac-address can only be set for a single network: use --network NAME:ip=…,mac=…")
	}
	at := &s.Networks[0]
	for _, ip := range []struct {
		value string
		v6    bool
	}{{f.ip, false}, {f.ip6, true}} {
		if ip.value == "" {
			continue
		}
		addr, err := netip.ParseAddr(ip.value)
		if err != nil {
			return fmt.Errorf("%q is not an ip address", ip.value)
		}
		if addr.Is4() == ip.v6 {
			return fmt.Errorf("%q is not an IPv%s address", ip.value, map[bool]string{false: "4", true: "6"}[ip.v6])
		}
		at.StaticIPs = append(at.StaticIPs, addr)
	}
	if f.mac != "" {
		if _, err := net.ParseMAC(f.mac); err != nil {
			return err
		}
		at.MAC = f.mac
	}
	for i := range s.Networks {
		s.Networks[i].Aliases = append(s.Networks[i].Aliases, f.aliases...)
	}
	return nil
}

// parseAttachment reads the options behind NAME: in --network.
func parseAttachment(name, opts string) (cove.NetworkAttachment, error) {
	at := cove.NetworkAttachment{Network: name}
	if opts == "" {
		return at, nil
	}
	for o := range strings.SplitSeq(opts, ",") {
		k, v, _ := strings.Cut(o, "=")
		switch k {
		case "ip", "ip6":
			addr, err := netip.ParseAddr(v)
			if err != nil {
				return at, fmt.Errorf("invalid ip address %q", v)
			}
			at.StaticIPs = append(at.StaticIPs, addr)
		case "mac":
			if _, err := net.ParseMAC(v); err != nil {
				return at, err
			}
			at.MAC = v
		case "alias":
			if v == "" {
				return at, errors.New("alias cannot be empty")
			}
			at.Aliases = append(at.Aliases, v)
		case "interface_name":
			if v == "" {
				return at, errors.New("interface_name cannot be empty")
			}
			if len(v) > 15 {
				return at, fmt.Errorf("invalid interface_name %q: longer than 15 bytes", v)
			}
			at.Interface = v
		case "host_interface_name", "mtu", "metric", "no_default_route", "vrf", "mode", "bclim":
			return at, &refusedError{name: "network", value: name + ":" + o}
		default:
			return at, fmt.Errorf("unknown bridge network option: %s", k)
		}
	}
	return at, nil
}

// checkAddHosts checks --add-host NAME[;NAME…]:IP and separates the names.
func checkAddHosts(list []string) ([]string, error) {
	var out []string
	for _, h := range list {
		names, ip, ok := strings.Cut(h, ":")
		if !ok || names == "" {
			return nil, fmt.Errorf("bad format for add-host: %q", h)
		}
		if ip == "" {
			return nil, fmt.Errorf("bad format for add-host: %q", h)
		}
		if ip != "host-gateway" {
			if _, err := netip.ParseAddr(strings.Trim(ip, "[]")); err != nil {
				return nil, fmt.Errorf("invalid IP address in add-host: %q", ip)
			}
			ip = strings.Trim(ip, "[]")
		}
		for name := range strings.SplitSeq(names, ";") {
			if name == "" || strings.ContainsAny(name, "\r\n") { // a line of the file
				return nil, fmt.Errorf("bad format for add-host: %q", h)
			}
			out = append(out, name+":"+ip)
		}
	}
	return out, nil
}

// checkDNS checks --dns addresses; "none" stands alone.
func checkDNS(list []string) error {
	for _, d := range list {
		if d == "none" {
			if len(list) > 1 {
				return fmt.Errorf("%s is not allowed to be specified with other DNS ip addresses", d)
			}
			return nil
		}
		if _, err := netip.ParseAddr(d); err != nil {
			return fmt.Errorf("%s is not an ip address", d)
		}
	}
	return nil
}
