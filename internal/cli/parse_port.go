package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cove-engine/cove"
)

// parsePublish reads -p [[IP:][HOST[-END]]:]CONTAINER[-END][/PROTOCOL].
func parsePublish(v string) ([]cove.PortMapping, error) {
	rest, protos, hasProto := strings.Cut(v, "/")
	if !hasProto {
		protos = "tcp"
	}
	if strings.Contains(protos, "/") {
		return nil, errors.New("invalid port format - protocol can only be specified once")
	}
	var ip, host string
	hasHost := false
	if strings.HasPrefix(rest, "[") {
		end := strings.IndexByte(rest, ']')
		if end < 0 || !strings.HasPrefix(rest[end+1:], ":") {
			return nil, errors.New("invalid IPv6 format - IPs must be of the form [IP]:hostPort:containerPort")
		}
		ip, rest = rest[1:end], rest[end+2:]
		if strings.Count(rest, ":") > 1 {
			return nil, errPortFormat
		}
		if h, c, ok := strings.Cut(rest, ":"); ok {
			host, rest, hasHost = h, c, true
		}
	} else {
		switch p := strings.Split(rest, ":"); len(p) {
		case 1:
		case 2:
			host, rest, hasHost = p[0], p[1], true
		case 3:
			ip, host, rest, hasHost = p[0], p[1], p[2], true
		default:
			return nil, errPortFormat
		}
	}
	ctr, n, err := cove.ParsePorts(rest)
	if err != nil {
		return nil, fmt.Errorf("parsing container port: %w", err)
	}
	m := cove.PortMapping{ContainerPort: ctr, Range: n}
	if ip != "" {
		if ip == "0.0.0.0" { // every address, as in podman
			m.HostIP = ip
		} else {
			addr, err := netip.ParseAddr(ip)
			if err != nil {
				return nil, fmt.Errorf("cannot parse %q as an IP address", ip)
			}
			m.HostIP = addr.String()
		}
	}
	if hasHost && host != "" {
		first, hn, err := cove.ParsePorts(host)
		if err != nil {
			return nil, fmt.Errorf("parsing host port: %w", err)
		}
		if hn != n {
			return nil, fmt.Errorf("host and container port ranges have different lengths: %d vs %d", hn, n)
		}
		m.HostPort = first
	}
	var out []cove.PortMapping
	for p := range strings.SplitSeq(strings.ToLower(protos), ",") {
		switch p {
		case "tcp", "udp", "sctp":
			m.Protocol = p
			out = append(out, m)
		default:
			return nil, fmt.Errorf("unrecognized protocol %q in port mapping", p)
		}
	}
	return out, nil
}

var errPortFormat = errors.New("invalid port format - format is [[hostIP:]hostPort:]containerPort")

// parsePublishes reads all -p flags. What two of them ask for counts once, and one host
// port for two ports of the container is refused.
func parsePublishes(values []string) ([]cove.PortMapping, error) {
	var all []cove.PortMapping
	for _, v := range values {
		if v == "" {
			continue
		}
		ms, err := parsePublish(v)
		if err != nil {
			return nil, err
		}
		for _, m := range ms {
			all = slices.DeleteFunc(all, func(o cove.PortMapping) bool { return joinPorts(&m, o) })
			for _, o := range all {
				if portsClash(o, m) {
					return nil, fmt.Errorf("conflicting port mappings for host port %d (protocol %s)", m.HostPort, m.Protocol)
				}
			}
			all = append(all, m)
		}
	}
	return all, nil
}

// joinPorts has m ask for what o does, too, if some of it is the same; else it gives false.
func joinPorts(m *cove.PortMapping, o cove.PortMapping) bool {
	everywhere := func(ip string) bool { return ip == "" || ip == "0.0.0.0" }
	if m.Protocol != o.Protocol || m.HostIP != o.HostIP && !(everywhere(m.HostIP) && everywhere(o.HostIP)) {
		return false
	}
	if chosen := m.HostPort == 0; chosen != (o.HostPort == 0) || !chosen && m.HostPort-m.ContainerPort != o.HostPort-o.ContainerPort {
		return false
	}
	endM, endO := int(m.ContainerPort)+int(m.Range), int(o.ContainerPort)+int(o.Range)
	if endM <= int(o.ContainerPort) || endO <= int(m.ContainerPort) {
		return false
	}
	if o.ContainerPort < m.ContainerPort {
		m.ContainerPort, m.HostPort = o.ContainerPort, o.HostPort
	}
	m.Range = uint16(max(endM, endO) - int(m.ContainerPort))
	return true
}

func portsClash(a, b cove.PortMapping) bool {
	return a.HostPort != 0 && b.HostPort != 0 && a.Protocol == b.Protocol && a.HostIP == b.HostIP &&
		int(a.HostPort) < int(b.HostPort)+int(b.Range) && int(b.HostPort) < int(a.HostPort)+int(a.Range)
}

// checkExpose checks --expose PORT[-END][/PROTOCOL].
func checkExpose(list []string) error {
	for _, e := range list {
		ports, proto, has := strings.Cut(e, "/")
		if has && proto != "tcp" && proto != "udp" && proto != "sctp" {
			return fmt.Errorf("invalid protocol for --expose: %s", e)
		}
		if _, _, err := cove.ParsePorts(ports); err != nil {
			return fmt.Errorf("invalid range format for --expose: %s: %w", e, err)
		}
	}
	return nil
}
