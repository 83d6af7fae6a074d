// Package resolver is the DNS server that a container's monitor runs inside
// the container's network namespace, on 127.0.0.11:53, so that containers on
// the same network find each other by name without a daemon.
//
// Names are files, written by the engine and read anew for every query:
//
//	DIR/NETWORK/NAME/CONTAINERID   one address a line; NAME in lower case
//	DIR/NETWORK/.ptr/ADDRESS       one name a line
//
// A query for NAME or NAME.dns.podman is answered from the container's
// networks; every other one with a dot in it goes to the upstream servers of the
// host. The sockets that listen are made in the container's namespace
// ([Listen]); those that forward are made by [Resolver.Step], in the namespace of
// its thread, which is the host's.
//
// The container is hostile: everything it can make the monitor keep (queries
// on their way, connections, octets) is bounded by constants, and nothing it
// sends becomes a path unchecked. There is no goroutine: a Resolver owns an epoll
// descriptor that the monitor's loop waits for.
package resolver

import (
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Address and Port are where a container's resolv.conf points, docker's.
const (
	Address = "127.0.0.11"
	Port    = 53
)

// Bounds of one container's use.
const (
	maxForwards = 64              // queries on their way to upstream servers
	maxClients  = 16              // TCP connections
	maxUpstream = 8               // servers used of the list
	maxQuery    = 4096            // octets of a query
	maxAnswer   = 65535           // octets of an answer by TCP
	tryTime     = 2 * time.Second // for one upstream server
	rounds      = 2               // over the list of servers
	idleTime    = 10 * time.Second
	maxEvents   = 64 // handled in one step
	maxReads    = 32 // datagrams read at one event
)

// Config is what a container's resolver answers from.
type Config struct {
	Dir      string   // the tree of names
	Networks []string // directories of the container's networks in it
	// Upstream are the servers asked for other names, in order: an address,
	// or address and port. None: other names do not exist.
	Upstream []string
}

// Resolver answers one container's queries. It is used by one thread.
type Resolver struct {
	dir      string
	networks []string
	upstream []netip.AddrPort

	epoll    int
	udp, tcp int
	sources  map[int]source // by descriptor
	forwards int
	clients  int
}

// source is something with a descriptor in the epoll set.
type source interface {
	// ready handles events; a source that is done closes itself.
	ready(events uint32, now time.Time)
	// expire is when late is to be called; zero for never.
	expire() time.Time
	late(now time.Time)
}

// Listen makes the listening sockets, on a thread that is in the container's
// network namespace. The loopback link need not be up yet.
func Listen() (udp, tcp int, err error) {
	if udp, err = listen(unix.SOCK_DGRAM); err != nil {
		return -1, -1, err
	}
	if tcp, err = listen(unix.SOCK_STREAM); err != nil {
		_ = unix.Close(udp)
		return -1, -1, err
	}
	return udp, tcp, nil
}

func listen(kind int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	a := netip.MustParseAddr(Address).As4()
	_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1)
	if kind == unix.SOCK_STREAM {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	err = unix.Bind(fd, &unix.SockaddrInet4{Addr: a, Port: Port})
	if err == nil && kind == unix.SOCK_STREAM {
		err = unix.Listen(fd, maxClients)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("listen on "+Address+":53", err)
	}
	return fd, nil
}

// New makes a resolver of listening sockets, which become its own even on
// error.
func New(c Config, udp, tcp int) (*Resolver, error) {
	r := &Resolver{dir: c.Dir, epoll: -1, udp: udp, tcp: tcp, sources: map[int]source{}}
	fail := func(err error) (*Resolver, error) {
		return nil, errors.Join(err, r.Close())
	}
	for _, n := range c.Networks {
		if !safe(n) {
			return fail(errors.New("resolver: bad network name " + n))
		}
		r.networks = append(r.networks, n)
	}
	for _, s := range c.Upstream {
		a, err := netip.ParseAddrPort(s)
		if err != nil {
			ip, err := netip.ParseAddr(s)
			if err != nil {
				return fail(errors.New("resolver: bad upstream server " + s))
			}
			a = netip.AddrPortFrom(ip, Port)
		}
		if len(r.upstream) < maxUpstream {
			r.upstream = append(r.upstream, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
		}
	}
	var err error
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fail(os.NewSyscallError("epoll_create", err))
	}
	if err := r.watch(udp, unix.EPOLLIN, &datagrams{r}); err != nil {
		return fail(err)
	}
	if err := r.watch(tcp, unix.EPOLLIN, &acceptor{r}); err != nil {
		return fail(err)
	}
	return r, nil
}

// FD is readable when [Resolver.Step] has something to do.
func (r *Resolver) FD() int { return r.epoll }

// Deadline is when Step wants to be called even if FD is not readable; zero
// for never.
func (r *Resolver) Deadline() time.Time {
	var first time.Time
	for _, s := range r.sources {
		if t := s.expire(); !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// Step handles what is ready, without waiting. An error means that the
// resolver cannot go on; what a container or an upstream server does is none.
func (r *Resolver) Step(now time.Time) error {
	var events [maxEvents]unix.EpollEvent
	n, err := unix.EpollWait(r.epoll, events[:], 0)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("epoll_wait", err)
	}
	for _, e := range events[:max(n, 0)] {
		// A source that an earlier event of this step closed is gone. Should
		// its number have a new owner already, that one finds nothing to read,
		// or at worst a connection of this same container ends.
		if s := r.sources[int(e.Fd)]; s != nil {
			s.ready(e.Events, now)
		}
	}
	for _, s := range r.sources {
		if t := s.expire(); !t.IsZero() && !now.Before(t) {
			s.late(now)
		}
	}
	return nil
}

// Close closes everything, the listening sockets too. Queries on their way
// stay unanswered.
func (r *Resolver) Close() error {
	var errs []error
	for fd := range r.sources {
		if fd != r.udp && fd != r.tcp {
			errs = append(errs, unix.Close(fd))
		}
	}
	clear(r.sources)
	for _, fd := range []*int{&r.udp, &r.tcp, &r.epoll} {
		if *fd >= 0 {
			errs = append(errs, unix.Close(*fd))
			*fd = -1
		}
	}
	return errors.Join(errs...)
}

func (r *Resolver) watch(fd int, events uint32, s source) error {
	err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
	if err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	r.sources[fd] = s
	return nil
}

// want changes what a watched descriptor waits for.
func (r *Resolver) want(fd int, events uint32) {
	_ = unix.EpollCtl(r.epoll, unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// drop ends a watched descriptor.
func (r *Resolver) drop(fd int) {
	delete(r.sources, fd)
	_ = unix.Close(fd) // leaves the epoll set by itself
}

// serve answers a query or forwards it. limit is what the client takes; 0: as
// its EDNS record says. answer is called at once or later, at most once.
func (r *Resolver) serve(b []byte, stream bool, now time.Time, answer func([]byte)) *forward {
	q, code, ok := parse(b)
	if !ok {
		return nil
	}
	if code != rcodeOK {
		answer(reply(b, &q, code))
		return nil
	}
	if stream {
		q.limit = maxAnswer
	}
	out, found, only := r.local(b, &q, q.limit)
	switch {
	case found:
		answer(out)
	case only || len(r.upstream) == 0:
		answer(addOPT(reply(b, &q, rcodeNoName), &q))
	case r.forwards >= maxForwards:
		answer(addOPT(reply(b, &q, rcodeServer), &q))
	default:
		return r.forward(b, &q, stream, now, answer)
	}
	return nil
}

// datagrams is the listening UDP socket.
type datagrams struct{ r *Resolver }

func (d *datagrams) expire() time.Time { return time.Time{} }
func (d *datagrams) late(time.Time)    {}

func (d *datagrams) ready(_ uint32, now time.Time) {
	var buf [maxQuery + 1]byte
	for range maxReads {
		n, from, err := unix.Recvfrom(d.r.udp, buf[:], 0)
		if err != nil || from == nil {
			return
		}
		if n > maxQuery {
			continue
		}
		d.r.serve(buf[:n], false, now, func(out []byte) {
			// A client that does not read loses its answer.
			_ = unix.Sendto(d.r.udp, out, unix.MSG_DONTWAIT, from)
		})
	}
}
