// Package forward carries what comes to a container's published ports into
// the container, where no firewall of the host's can: an ordinary user's
// container on bridges, whose host side is the namespace that the monitor
// lives in. The listening sockets were made in the host's network namespace,
// those that go on are made in the calling thread's.
//
// Whoever connects is hostile, and so is the container: what either can make
// the monitor keep is bounded by constants. There is no goroutine: a Forwarder
// owns an epoll descriptor that the monitor's loop waits for.
//
// Standard library and x/sys only: it is a part of the monitor's program.
package forward

import (
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of one container's use.
const (
	maxStreams = 400 // connections, as far as there are descriptors; more wait in the kernel's queue
	backlog    = 128
	maxFlows   = 256              // UDP conversations
	idleTime   = 90 * time.Second // of a UDP conversation
	maxEvents  = 64               // handled in one step
	maxReads   = 16               // reads at one event: all are to have their turn
)

// Port is a published port.
type Port struct {
	FD       int    // bound in the host's network namespace; stays the caller's
	Protocol string // tcp or udp
	Port     uint16 // in the container
}

// Forwarder forwards one container's ports. It is used by one thread.
type Forwarder struct {
	epoll   int
	targets []netip.Addr
	sources map[int]source // by descriptor
	waiting []*acceptor    // have more connections than there may be
	streams int
	most    int // that there may be
	flows   map[flowKey]*flow
	buf     [64 << 10]byte
}

// source is something with a descriptor in the epoll set.
type source interface {
	ready(events uint32, now time.Time)
}

// New begins to listen. targets are the container's addresses, the ones to be
// tried first before others.
func New(ports []Port, targets []netip.Addr) (*Forwarder, error) {
	f := &Forwarder{targets: targets, sources: map[int]source{}, flows: map[flowKey]*flow{}, most: mostStreams()}
	var err error
	if f.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create", err)
	}
	for _, p := range ports {
		if err = unix.SetNonblock(p.FD, true); err != nil {
			break
		}
		if p.Protocol == "udp" {
			err = f.watch(p.FD, unix.EPOLLIN, &datagrams{f, p})
		} else if err = listen(p.FD); err == nil {
			err = f.watch(p.FD, unix.EPOLLIN, &acceptor{f, p})
		}
		if err != nil {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// mostStreams is how many connections there may be so that descriptors are left
// for all else: a connection that could not be accepted for want of them would be
// told of without end.
func mostStreams() int {
	const others = maxFlows + 100
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur >= 2*maxStreams+others {
		return maxStreams
	}
	return max(1, (int(l.Cur)-others)/2)
}

// listen turns a socket that reserves a port into one that takes connections:
// those that an earlier server left in TIME_WAIT are no obstacle.
func listen(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	return os.NewSyscallError("listen", unix.Listen(fd, backlog))
}

// FD is readable when [Forwarder.Step] has something to do.
func (f *Forwarder) FD() int { return f.epoll }

// Target changes where the ports lead to from now on.
func (f *Forwarder) Target(targets []netip.Addr) { f.targets = targets }

// Deadline is when Step wants to be called even if FD is not readable; zero
// for never.
func (f *Forwarder) Deadline() time.Time {
	var first time.Time
	for _, u := range f.flows {
		if t := u.used.Add(idleTime); first.IsZero() || t.Before(first) {
			first = t
		}
	}
	return first
}

// Step handles what is ready, without waiting.
func (f *Forwarder) Step(now time.Time) {
	var events [maxEvents]unix.EpollEvent
	n, _ := unix.EpollWait(f.epoll, events[:], 0)
	for _, e := range events[:max(n, 0)] {
		// One that an earlier event of this step has closed is gone; a new
		// owner of its number finds nothing to do.
		if s := f.sources[int(e.Fd)]; s != nil {
			s.ready(e.Events, now)
		}
	}
	for _, u := range f.flows {
		if now.Sub(u.used) >= idleTime {
			u.close()
		}
	}
}

// Close ends all connections. The ports' own sockets are left to the caller.
func (f *Forwarder) Close() {
	for fd, s := range f.sources {
		switch s.(type) {
		case *acceptor, *datagrams:
		default:
			_ = unix.Close(fd)
		}
	}
	clear(f.sources)
	_ = unix.Close(f.epoll)
}

func (f *Forwarder) watch(fd int, events uint32, s source) error {
	err := unix.EpollCtl(f.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
	if err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	f.sources[fd] = s
	return nil
}

// want changes what a watched descriptor waits for.
func (f *Forwarder) want(fd int, events uint32) {
	_ = unix.EpollCtl(f.epoll, unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

func (f *Forwarder) drop(fd int) {
	delete(f.sources, fd)
	_ = unix.Close(fd) // leaves the epoll set by itself
}

// dial starts to connect to the container: to an address of the client's
// family if it has one.
func (f *Forwarder) dial(kind int, client unix.Sockaddr, port uint16) (int, error) {
	if len(f.targets) == 0 {
		return -1, unix.ENETUNREACH
	}
	to := f.targets[0]
	for _, t := range f.targets {
		if t.Is4() == isIPv4(client) {
			to = t
			break
		}
	}
	domain, addr := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: to.As16(), Port: int(port)})
	if to.Is4() {
		domain, addr = unix.AF_INET, &unix.SockaddrInet4{Addr: to.As4(), Port: int(port)}
	}
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, addr); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// isIPv4 tells whether an address is of version 4, be it as a part of version 6.
func isIPv4(a unix.Sockaddr) bool {
	six, ok := a.(*unix.SockaddrInet6)
	return !ok || netip.AddrFrom16(six.Addr).Is4In6()
}
