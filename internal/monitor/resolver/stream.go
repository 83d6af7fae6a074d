package resolver

import (
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// acceptor is the listening TCP socket.
type acceptor struct{ r *Resolver }

func (a *acceptor) expire() time.Time { return time.Time{} }
func (a *acceptor) late(time.Time)    {}

func (a *acceptor) ready(_ uint32, now time.Time) {
	for range maxClients {
		fd, _, err := unix.Accept4(a.r.tcp, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err != nil {
			return
		}
		c := &client{r: a.r, fd: fd, ends: now.Add(idleTime)}
		if a.r.clients >= maxClients || a.r.watch(fd, unix.EPOLLIN, c) != nil {
			_ = unix.Close(fd)
			continue
		}
		a.r.clients++
	}
}

// client is one TCP connection of the container: a query at a time is read,
// answered and the answer written before the next is read.
type client struct {
	r    *Resolver
	fd   int // -1 when closed
	ends time.Time
	in   []byte   // what has come of the query, with its length before it
	out  []byte   // what has not been written of the answer
	wait *forward // the query on its way
}

func (c *client) expire() time.Time  { return c.ends }
func (c *client) late(now time.Time) { c.close() }

func (c *client) close() {
	if c.fd < 0 {
		return
	}
	c.r.drop(c.fd)
	c.fd = -1
	c.r.clients--
	if f := c.wait; f != nil {
		c.wait = nil
		f.done(nil)
	}
}

func (c *client) ready(events uint32, now time.Time) {
	switch {
	case events&(unix.EPOLLERR|unix.EPOLLHUP) != 0:
		c.close()
	case len(c.out) > 0:
		c.write(now)
	case c.wait == nil:
		c.read(now)
	}
}

// read takes what has come, up to the end of one query.
func (c *client) read(now time.Time) {
	need := 2
	if len(c.in) >= 2 {
		need = 2 + int(binary.BigEndian.Uint16(c.in))
	}
	for len(c.in) < need {
		var buf [1024]byte
		n, err := unix.Read(c.fd, buf[:min(len(buf), need-len(c.in))])
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			return
		}
		if err != nil || n == 0 {
			c.close()
			return
		}
		c.in = append(c.in, buf[:n]...)
		if len(c.in) == 2 {
			need = 2 + int(binary.BigEndian.Uint16(c.in))
			if need > 2+maxQuery || need < 2+headerLen {
				c.close()
				return
			}
		}
	}
	c.ends = now.Add(idleTime)
	c.r.want(c.fd, 0) // but errors: nothing is read before the answer is out
	query := c.in[2:]
	c.in = nil
	answered := false
	f := c.r.serve(query, true, now, func(out []byte) {
		answered = true
		c.wait = nil
		c.out = append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)
		c.write(now)
	})
	switch {
	case answered:
	case f != nil:
		c.wait = f
		c.ends = now.Add(idleTime + rounds*tryTime*time.Duration(len(c.r.upstream)))
	default:
		c.close() // not a query
	}
}

// write sends what is left of the answer, and then waits for a query again.
func (c *client) write(now time.Time) {
	if c.fd < 0 {
		return
	}
	for len(c.out) > 0 {
		n, err := unix.SendmsgN(c.fd, c.out, nil, nil, unix.MSG_NOSIGNAL)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			c.r.want(c.fd, unix.EPOLLOUT)
			return
		}
		if err != nil {
			c.close()
			return
		}
		c.out = c.out[n:]
	}
	c.out = nil
	c.r.want(c.fd, unix.EPOLLIN)
}
