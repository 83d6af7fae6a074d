package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// Reserve takes the host ports of mappings by binding a socket to each, in the
// network namespace of the calling thread, and gives the mappings with every
// host port chosen. A port that another program or container has is an error
// of kind Unavailable naming it. The sockets are to be kept open for as long
// as the ports are published, beyond the teardown; a connection is never taken
// from them: the firewall sends it to the container before.
//
// On error nothing stays reserved.
func Reserve(ports []cove.PortMapping) ([]cove.PortMapping, []*os.File, error) {
	if err := Reservable(ports); err != nil {
		return nil, nil, err
	}
	chosen := slices.Clone(ports)
	var files []*os.File
	for i := range chosen {
		fs, err := reserve(&chosen[i])
		if err != nil {
			for _, f := range files {
				_ = f.Close()
			}
			return nil, nil, err
		}
		files = append(files, fs...)
	}
	return chosen, files, nil
}

// triesForRange is how often a free run of consecutive ports is looked for.
const triesForRange = 64

// reserve takes one mapping's ports.
func reserve(p *cove.PortMapping) ([]*os.File, error) {
	host, proto, err := Binding(*p)
	if err != nil {
		return nil, err
	}
	if p.HostPort != 0 {
		files, _, err := reserveRun(p, host, proto, p.HostPort)
		return files, err
	}
	var taken []int // in the midst of runs that were tried: it would take thousands of sockets to meet each again
	for range triesForRange {
		fd, port, err := bind(host, proto, 0)
		if err != nil {
			return nil, refusal(*p, err)
		}
		first := file(fd, *p)
		if Count(*p) == 1 {
			p.HostPort = port
			return []*os.File{first}, nil
		}
		end := int(port) + Count(*p)
		if end > 1<<16 || slices.ContainsFunc(taken, func(t int) bool { return int(port) <= t && t < end }) {
			_ = first.Close()
			continue
		}
		q := *p
		q.Range--
		q.HostPort = port + 1
		rest, at, err := reserveRun(&q, host, proto, q.HostPort)
		if err == nil {
			p.HostPort = port
			return append([]*os.File{first}, rest...), nil
		}
		_ = first.Close()
		if !errors.Is(err, unix.EADDRINUSE) {
			return nil, err
		}
		taken = append(taken, at)
	}
	return nil, refusal(*p, unix.EADDRINUSE)
}

// reserveRun takes consecutive ports from first on, or gives the one that is not to be had.
func reserveRun(p *cove.PortMapping, host netip.Addr, proto byte, first uint16) (files []*os.File, not int, err error) {
	for i := range Count(*p) {
		q := *p
		q.HostPort = first + uint16(i)
		fd, _, err := bind(host, proto, q.HostPort)
		if err != nil {
			for _, f := range files {
				_ = f.Close()
			}
			return nil, int(q.HostPort), refusal(q, err)
		}
		if fd >= 0 {
			files = append(files, file(fd, q))
		}
	}
	return files, 0, nil
}

func file(fd int, p cove.PortMapping) *os.File { return os.NewFile(uintptr(fd), portName(p)) }

// refusal is a failed bind in podman's words.
func refusal(p cove.PortMapping, err error) error {
	kind := cove.Unavailable
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		kind = cove.Denied
		if p.HostPort < 1024 {
			err = fmt.Errorf("%w: an ordinary user cannot publish a privileged port; choose one from 1024 on, or lower net.ipv4.ip_unprivileged_port_start", err)
			return cove.E(publishOp, portName(p), kind, err)
		}
	}
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		kind = cove.Unsupported
	}
	return cove.E(publishOp, portName(p), kind, os.NewSyscallError("bind", err))
}

// bind gives a socket bound to an address and port (0: a free one, returned).
// The invalid address is every one of both families. A host without the
// protocol (SCTP is often a module, and forwarding does not need it) has no
// socket to conflict with: then the descriptor is -1, unless a port is to be
// chosen.
func bind(host netip.Addr, proto byte, port uint16) (int, uint16, error) {
	if host.IsValid() {
		return bindTo(host, false, proto, port)
	}
	fd, got, err := bindTo(netip.IPv6Unspecified(), true, proto, port)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
		return bindTo(netip.IPv4Unspecified(), false, proto, port)
	}
	return fd, got, err
}

func bindTo(host netip.Addr, dual bool, proto byte, port uint16) (fd int, got uint16, err error) {
	domain, kind := unix.AF_INET, unix.SOCK_STREAM
	var to unix.Sockaddr
	if host.Is4() {
		to = &unix.SockaddrInet4{Addr: host.As4(), Port: int(port)}
	} else {
		domain = unix.AF_INET6
		to = &unix.SockaddrInet6{Addr: host.As16(), Port: int(port)}
	}
	if proto == unix.IPPROTO_UDP {
		kind = unix.SOCK_DGRAM
	}
	fd, err = unix.Socket(domain, kind|unix.SOCK_CLOEXEC, int(proto))
	if err != nil {
		if errors.Is(err, unix.EPROTONOSUPPORT) && proto == unix.IPPROTO_SCTP && port != 0 {
			return -1, port, nil
		}
		return -1, 0, err
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	if domain == unix.AF_INET6 {
		only := 1
		if dual {
			only = 0
		}
		if err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return -1, 0, err
		}
	}
	if proto == unix.IPPROTO_TCP {
		err = claimTCP(fd, to, port == 0)
	} else {
		err = unix.Bind(fd, to)
	}
	if err != nil {
		return -1, 0, err
	}
	if port != 0 {
		return fd, port, nil
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		return -1, 0, err
	}
	switch a := at.(type) {
	case *unix.SockaddrInet4:
		got = uint16(a.Port)
	case *unix.SockaddrInet6:
		got = uint16(a.Port)
	}
	return fd, got, nil
}

// claimTCP binds so that a listener, or another claim, is a conflict, but the
// connections that a stopped server left in TIME_WAIT are not ("systemctl
// stop nginx; cove run -p 80:80"). Without SO_REUSEADDR bind(2) refuses the
// latter too; with it, it accepts the former. listen(2) tells them apart; then
// the option is taken back, which makes this socket a conflict for whoever
// comes later, and listening is ended at once.
func claimTCP(fd int, to unix.Sockaddr, anyPort bool) error {
	if anyPort {
		return unix.Bind(fd, to)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, to); err != nil {
		return err
	}
	if err := unix.Listen(fd, 0); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0); err != nil {
		return err
	}
	return unix.Shutdown(fd, unix.SHUT_RD)
}
