package forward

import (
	"time"

	"golang.org/x/sys/unix"
)

// acceptor is a listening TCP socket.
type acceptor struct {
	f    *Forwarder
	port Port
}

func (a *acceptor) ready(uint32, time.Time) {
	for range maxReads {
		if a.f.streams >= a.f.most {
			a.f.want(a.port.FD, 0)
			a.f.waiting = append(a.f.waiting, a)
			return
		}
		client, from, err := unix.Accept4(a.port.FD, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err != nil {
			return
		}
		server, err := a.f.dial(unix.SOCK_STREAM, from, a.port.Port)
		if err != nil {
			_ = unix.Close(client)
			continue
		}
		s := &stream{f: a.f, client: end{fd: client}, server: end{fd: server, connecting: true}}
		// The client only once there is somebody to listen to it.
		if a.f.watch(server, unix.EPOLLOUT, s) != nil {
			_ = unix.Close(client)
			_ = unix.Close(server)
			continue
		}
		a.f.streams++
	}
}

// stream is one connection, both ways.
type stream struct {
	f              *Forwarder
	client, server end
}

// end is one of a stream's two sockets.
type end struct {
	fd         int
	connecting bool
	unsent     []byte // what the other one has said and this one does not take yet
	read       bool   // it has said all
	shut       bool   // it was told all
}

func (s *stream) ready(events uint32, _ time.Time) {
	if s.server.connecting {
		code, err := unix.GetsockoptInt(s.server.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil || code != 0 {
			s.close()
			return
		}
		if events&unix.EPOLLOUT == 0 {
			return
		}
		s.server.connecting = false
		if s.f.watch(s.client.fd, 0, s) != nil {
			s.close()
			return
		}
	}
	if !s.carry(&s.client, &s.server) || !s.carry(&s.server, &s.client) || s.client.shut && s.server.shut {
		s.close()
		return
	}
	s.arm(&s.client, &s.server)
	s.arm(&s.server, &s.client)
}

// carry passes on what there is from one end to the other; false when the
// connection is broken.
func (s *stream) carry(from, to *end) bool {
	for reads := 0; (reads < maxReads || from.read) && !to.shut; {
		if len(to.unsent) > 0 {
			n, err := unix.Write(to.fd, to.unsent)
			if err != nil {
				return err == unix.EAGAIN || err == unix.EINTR
			}
			to.unsent = to.unsent[n:]
			continue
		}
		to.unsent = nil
		if from.read {
			to.shut = true
			_ = unix.Shutdown(to.fd, unix.SHUT_WR)
			break
		}
		reads++
		n, err := unix.Read(from.fd, s.f.buf[:])
		if err != nil {
			return err == unix.EAGAIN || err == unix.EINTR
		}
		if n == 0 {
			from.read = true
			continue
		}
		sent, err := unix.Write(to.fd, s.f.buf[:n])
		if err != nil && err != unix.EAGAIN && err != unix.EINTR {
			return false
		}
		if sent = max(sent, 0); sent < n {
			to.unsent = append([]byte(nil), s.f.buf[sent:n]...)
		}
	}
	return true
}

// arm asks for what an end is ready for. One that has said and was told all is
// taken out: its end is told for ever.
func (s *stream) arm(e, other *end) {
	if e.read && e.shut {
		_ = unix.EpollCtl(s.f.epoll, unix.EPOLL_CTL_DEL, e.fd, nil)
		return
	}
	events := uint32(0)
	if !e.read && len(other.unsent) == 0 {
		events |= unix.EPOLLIN
	}
	if len(e.unsent) > 0 {
		events |= unix.EPOLLOUT
	}
	s.f.want(e.fd, events)
}

func (s *stream) close() {
	s.f.drop(s.client.fd)
	s.f.drop(s.server.fd)
	s.f.streams--
	for _, a := range s.f.waiting {
		s.f.want(a.port.FD, unix.EPOLLIN)
	}
	s.f.waiting = nil
}
