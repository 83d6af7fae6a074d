package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
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
	ctr, n, err := parsePorts(rest)
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
		first, hn, err := parsePorts(host)
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

// parsePorts reads PORT or PORT-PORT and gives the first and how many.
func parsePorts(s string) (uint16, uint16, error) {
	if s == "" {
		return 0, 0, errors.New("must provide a non-empty container port to publish")
	}
	begin, end, isRange := strings.Cut(s, "-")
	first, err := parsePort(begin)
	if err != nil {
		return 0, 0, err
	}
	if !isRange {
		return first, 1, nil
	}
	if strings.Contains(end, "-") {
		return 0, 0, errors.New("invalid port format - port ranges are formatted as startPort-stopPort")
	}
	last, err := parsePort(end)
	if err != nil {
		return 0, 0, err
	}
	if last <= first {
		if last == first {
			return first, 1, nil
		}
		return 0, 0, fmt.Errorf("the end port of a range must be higher than the start port - %d is not higher than %d", last, first)
	}
	return first, last - first + 1, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("invalid port number: %w", err)
	}
	if n < 1 || n > 65535 {
		return 0, fmt.Errorf("port numbers must be between 1 and 65535 (inclusive), got %d", n)
	}
	return uint16(n), nil
}

// parsePublishes reads all -p flags and refuses one host port taken twice.
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
			for _, o := range all {
				if portsClash(o, m) {
					if o == m {
						continue
					}
					return nil, fmt.Errorf("conflicting port mappings for host port %d (protocol %s)", m.HostPort, m.Protocol)
				}
			}
			all = append(all, m)
		}
	}
	return all, nil
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
		if _, _, err := parsePorts(ports); err != nil {
			return fmt.Errorf("invalid range format for --expose: %s: %w", e, err)
		}
	}
	return nil
}
