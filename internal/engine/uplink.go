package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/rootless"
)

// An ordinary user cannot change the host's network, so the containers of one
// are connected by a program that passes on what they send by sockets of its
// own: pasta or slirp4netns. The monitor keeps it (internal/monitor/uplink).

// Addresses that the programs answer at, inside. Those of pasta are podman's
// choice, those of slirp4netns its own.
const (
	pastaResolver = "169.254.1.1"
	pastaHost     = "169.254.1.2"
	slirpResolver = "10.0.2.3"
	slirpHost     = "10.0.2.2"
	slirpAddress  = "10.0.2.100"
)

// userMode is the network of an ordinary user's container who asked for none
// in particular: what containers.conf names, or the one that is installed.
func (e *Engine) userMode() string {
	first, second := "pasta", "slirp4netns"
	if e.conf.File.Network.DefaultRootlessNetworkCmd == second {
		first, second = second, first
	}
	if _, err := e.networkProgram(first); err != nil {
		if _, err := e.networkProgram(second); err == nil {
			return second
		}
	}
	return first
}

func (e *Engine) networkProgram(name string) (string, error) {
	if path := e.conf.Slirp4netns(); path != "" && name == "slirp4netns" {
		return path, nil
	}
	return e.conf.File.FindHelperBinary(name, true)
}

// byProgram tells whether a network mode's word is one of the programs.
func byProgram(kind string) bool { return kind == "pasta" || kind == "slirp4netns" }

// checkUserNetwork refuses what cannot be had, before anything is recorded.
func (e *Engine) checkUserNetwork(c *cove.Container, mode string) error {
	kind, _, _ := strings.Cut(mode, ":")
	switch {
	case byProgram(kind) && !e.conf.Rootless:
		return cove.E("", "", cove.Unsupported, fmt.Errorf("%s networking is only supported for rootless mode", kind))
	case byProgram(kind):
		_, err := e.uplink(c)
		return err
	case kind == "bridge" && e.conf.Rootless:
		if i := slices.IndexFunc(c.Ports, func(p cove.PortMapping) bool { return p.Protocol == "sctp" }); i >= 0 {
			return cove.E("", "", cove.Unsupported, fmt.Errorf("port %d/sctp: an ordinary user's bridge networks publish tcp and udp", c.Ports[i].ContainerPort))
		}
		_, err := e.sharedUplink()
		return err
	}
	return nil
}

// sharedUplink is the program that connects the bridges of an ordinary user.
func (e *Engine) sharedUplink() (*wire.Uplink, error) {
	u, err := e.uplinkBy(e.userMode(), "", nil, filepath.Join(e.conf.Home(), "netns"), "")
	if err == nil && !u.ReadyFD {
		// Not the host's name, which may be one of a bridge.
		u.Args = slices.Insert(u.Args, 1, "--ns-ifname", "uplink")
	}
	return u, err
}

// keepUplink starts the process that connects the namespace of the user's
// bridges (rootless.Network.Keep).
func (e *Engine) keepUplink(netns, file int) error {
	u, err := e.sharedUplink()
	if err != nil {
		return err
	}
	program, err := e.monitor()
	if err != nil {
		return err
	}
	layout, err := e.cgroups()
	if err != nil {
		return err
	}
	u.Keep = &wire.Keep{FD: rootless.KeptNamespace, Own: rootless.Keeper, Users: rootless.Residents,
		Cgroups: e.monitorCgroups(&cove.Container{CgroupManager: cgroupfs}, layout).Dirs}
	return monitor.Keep(program, *u, netns, file)
}

// connection is the program through which the container reaches the world, its
// own or the one of all bridges; nil when there is none.
func (e *Engine) connection(c *cove.Container) (*wire.Uplink, error) {
	if e.lan != nil && e.networkMode(c) == "bridge" {
		return e.sharedUplink()
	}
	return e.uplink(c)
}

// uplink is the program that connects the container, nil when it needs none.
func (e *Engine) uplink(c *cove.Container) (*wire.Uplink, error) {
	kind, options, _ := strings.Cut(e.networkMode(c), ":")
	if !byProgram(kind) {
		return nil, nil
	}
	dir := e.dir(c.ID)
	return e.uplinkBy(kind, options, c.Ports, filepath.Join(dir, "netns"), filepath.Join(dir, "slirp4netns"))
}

// uplinkBy is the command line of one of the programs, which is shown the
// network namespace at a path. Without a socket it publishes no ports.
func (e *Engine) uplinkBy(kind, options string, ports []cove.PortMapping, netns, socket string) (*wire.Uplink, error) {
	program, err := e.networkProgram(kind)
	if err != nil {
		return nil, cove.E("", "", cove.Unavailable, fmt.Errorf("network mode %s: %s is not installed: install pasta (package passt) or slirp4netns, or use --network none", kind, kind))
	}
	u := &wire.Uplink{Env: []string{"PATH=" + os.Getenv("PATH")}, Netns: netns}
	var asked []string
	if options != "" {
		asked = strings.Split(options, ",")
	}
	if kind == "pasta" {
		u.Args, err = pastaArgs(program, u.Netns, append(slices.Clone(e.conf.File.Network.PastaOptions.Get()), asked...), ports, e.pastaMapsGuest)
		return u, err
	}
	u.Socket = socket
	u.ReadyFD = true
	asked = append(slices.Clone(e.conf.File.Engine.NetworkCmdOptions.Get()), asked...)
	if u.Args, err = slirpArgs(program, u.Netns, u.Socket, asked); err == nil {
		u.Requests, err = slirpRequests(ports)
	}
	return u, err
}

// pastaArgs makes pasta's command line, pasta(1). What the user gives takes the
// place of what podman would give.
func pastaArgs(program, netns string, options []string, ports []cove.PortMapping, mapsGuest func() bool) ([]string, error) {
	args := append([]string{program, "--config-net"}, options...)
	args = slices.DeleteFunc(args, func(s string) bool { return s == "--map-gw" }) // podman's own word
	given := func(names ...string) bool {
		return slices.ContainsFunc(args, func(s string) bool {
			name, _, _ := strings.Cut(s, "=")
			return slices.Contains(names, name)
		})
	}
	for _, p := range ports {
		flag := map[string]string{"": "-t", "tcp": "-t", "udp": "-u"}[p.Protocol]
		if flag == "" {
			return nil, cove.E("", "", cove.Unsupported, fmt.Errorf("pasta cannot publish ports of protocol %s", p.Protocol))
		}
		host := ""
		if p.HostIP != "" {
			host = p.HostIP + "/"
		}
		last := uint16(network.Count(p) - 1)
		args = append(args, flag, fmt.Sprintf("%s%d-%d:%d-%d", host, p.HostPort, p.HostPort+last, p.ContainerPort, p.ContainerPort+last))
	}
	if !given("--dns-forward") {
		args = append(args, "--dns-forward", pastaResolver)
	}
	for _, none := range [][2]string{{"-t", "--tcp-ports"}, {"-u", "--udp-ports"}, {"-T", "--tcp-ns"}, {"-U", "--udp-ns"}} {
		if !given(none[0], none[1]) {
			args = append(args, none[0], "none")
		}
	}
	if !slices.Contains(options, "--map-gw") && !given("--no-map-gw") {
		args = append(args, "--no-map-gw")
	}
	if !given("--map-guest-addr") && mapsGuest() {
		args = append(args, "--map-guest-addr", pastaHost)
	}
	if !given("-d", "--debug", "--trace", "-q", "--quiet") {
		args = append(args, "--quiet")
	}
	return append(args, "--netns", netns), nil
}

// mapsGuest tells whether this pasta knows the option that gives the host an
// address of its own. Older ones have neither it nor a version number; the
// words of its help are in the program, which is read once.
func mapsGuest(program string) bool {
	data, err := os.ReadFile(program)
	return err == nil && bytes.Contains(data, []byte("map-guest-addr"))
}

// slirpArgs makes slirp4netns's command line, slirp4netns(1), with the options
// that podman knows.
func slirpArgs(program, netns, socket string, options []string) ([]string, error) {
	hostLoopback, mtu := false, "65520"
	var more []string
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		bad := cove.E("", "", cove.Invalid, fmt.Errorf("invalid option of slirp4netns %q", o))
		switch key {
		case "allow_host_loopback", "enable_ipv6":
			on, err := strconv.ParseBool(value)
			if err != nil {
				return nil, bad
			}
			if key == "allow_host_loopback" {
				hostLoopback = on
			} else if on {
				more = append(more, "--enable-ipv6")
			}
		case "mtu":
			if _, err := strconv.ParseUint(value, 10, 16); err != nil {
				return nil, bad
			}
			mtu = value
		case "cidr":
			if p, err := netip.ParsePrefix(value); err != nil || !p.Addr().Is4() {
				return nil, bad
			}
			return nil, cove.E("", "", cove.Unsupported, errors.New("slirp4netns's cidr is not supported by cove yet"))
		case "outbound_addr":
			more = append(more, "--outbound-addr="+value)
		case "outbound_addr6":
			more = append(more, "--outbound-addr6="+value)
		case "port_handler":
			if value != "slirp4netns" {
				return nil, cove.E("", "", cove.Unsupported, fmt.Errorf("slirp4netns's port_handler %q is not supported by cove: it is always slirp4netns", value))
			}
		default:
			return nil, bad
		}
	}
	args := []string{program, "--configure", "--mtu=" + mtu, "--ready-fd=3", "--enable-sandbox", "--enable-seccomp"}
	if !hostLoopback {
		args = append(args, "--disable-host-loopback")
	}
	if socket != "" {
		more = append(more, "--api-socket="+filepath.Base(socket))
	}
	return append(append(args, more...), "--netns-type=path", netns, "tap0"), nil
}

// slirpRequests publishes ports over slirp4netns's socket.
func slirpRequests(ports []cove.PortMapping) ([]string, error) {
	type arguments struct {
		Proto     string `json:"proto"`
		HostAddr  string `json:"host_addr"`
		HostPort  uint16 `json:"host_port"`
		GuestAddr string `json:"guest_addr"`
		GuestPort uint16 `json:"guest_port"`
	}
	var all []string
	for _, p := range ports {
		a := arguments{Proto: p.Protocol, HostAddr: p.HostIP, GuestAddr: slirpAddress}
		if a.Proto == "" {
			a.Proto = "tcp"
		}
		if a.HostAddr == "" {
			a.HostAddr = "0.0.0.0"
		}
		if ip, err := netip.ParseAddr(a.HostAddr); err != nil || !ip.Is4() || a.Proto == "sctp" {
			return nil, cove.E("", "", cove.Unsupported, fmt.Errorf("slirp4netns cannot publish %s ports on %s", a.Proto, a.HostAddr))
		}
		for i := range uint16(network.Count(p)) {
			a.HostPort, a.GuestPort = p.HostPort+i, p.ContainerPort+i
			text, err := json.Marshal(map[string]any{"execute": "add_hostfwd", "arguments": a})
			if err != nil {
				return nil, cove.E("", "", cove.Internal, err)
			}
			all = append(all, string(text))
		}
	}
	return all, nil
}

// userAddress is the container's own address on such a network: slirp4netns
// gives always the same, pasta copies the host's.
func userAddress(kind string) string {
	if kind == "slirp4netns" {
		return slirpAddress
	}
	// No packet is sent: connecting a datagram socket chooses the address.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	if unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 1}, Port: 9}) != nil {
		return ""
	}
	if at, err := unix.Getsockname(fd); err == nil {
		if a, ok := at.(*unix.SockaddrInet4); ok {
			return netip.AddrFrom4(a.Addr).String()
		}
	}
	return ""
}

// userResolver is where the program answers for the host's name servers.
func userResolver(u *wire.Uplink) string {
	if u.ReadyFD {
		return slirpResolver
	}
	for i, a := range u.Args[:len(u.Args)-1] {
		if a == "--dns-forward" {
			return u.Args[i+1]
		}
	}
	return ""
}

// userHost is where a container reaches its host, "" where it does not.
func userHost(u *wire.Uplink) string {
	if u.ReadyFD {
		if slices.Contains(u.Args, "--disable-host-loopback") {
			// The host's own address is reached like any other.
			return userAddress("pasta")
		}
		return slirpHost
	}
	for i, a := range u.Args[:len(u.Args)-1] {
		if a == "--map-guest-addr" {
			return u.Args[i+1]
		}
	}
	return ""
}
