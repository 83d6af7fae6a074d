package forward

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// datagrams is a bound UDP socket.
type datagrams struct {
	f    *Forwarder
	port Port
}

// flowKey names a conversation: a client of a port.
type flowKey struct {
	port   int // descriptor
	client netip.AddrPort
}

// flow is a UDP conversation: a socket of its own that is connected to the
// container, so that answers find their client.
type flow struct {
	f      *Forwarder
	key    flowKey
	client unix.Sockaddr
	fd     int
	used   time.Time
}

func (d *datagrams) ready(_ uint32, now time.Time) {
	for range maxReads {
		n, from, err := unix.Recvfrom(d.port.FD, d.f.buf[:], unix.MSG_DONTWAIT)
		if err != nil || from == nil {
			return
		}
		if u := d.f.flow(d, from, now); u != nil {
			// A container that does not read loses what it is sent.
			_, _ = unix.Write(u.fd, d.f.buf[:n])
		}
	}
}

// flow finds a client's conversation or begins one; nil when there are too
// many.
func (f *Forwarder) flow(d *datagrams, from unix.Sockaddr, now time.Time) *flow {
	key := flowKey{d.port.FD, addrPort(from)}
	if u := f.flows[key]; u != nil {
		u.used = now
		return u
	}
	if len(f.flows) >= maxFlows {
		var oldest *flow
		for _, u := range f.flows {
			if oldest == nil || u.used.Before(oldest.used) {
				oldest = u
			}
		}
		oldest.close()
	}
	fd, err := f.dial(unix.SOCK_DGRAM, from, d.port.Port)
	if err != nil {
		return nil
	}
	u := &flow{f: f, key: key, client: from, fd: fd, used: now}
	if f.watch(fd, unix.EPOLLIN, u) != nil {
		_ = unix.Close(fd)
		return nil
	}
	f.flows[key] = u
	return u
}

func (u *flow) ready(_ uint32, now time.Time) {
	for range maxReads {
		n, err := unix.Read(u.fd, u.f.buf[:])
		if err == unix.EAGAIN || err == unix.EINTR {
			return
		}
		if err != nil {
			continue // nobody listens there: told once for each datagram
		}
		u.used = now
		_ = unix.Sendto(u.key.port, u.f.buf[:n], unix.MSG_DONTWAIT, u.client)
	}
}

func (u *flow) close() {
	delete(u.f.flows, u.key)
	u.f.drop(u.fd)
}

func addrPort(a unix.Sockaddr) netip.AddrPort {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return netip.AddrPort{}
}
