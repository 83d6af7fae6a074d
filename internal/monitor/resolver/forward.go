package resolver

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// forward is a query on its way to the upstream servers, one after the other.
// Each try has a socket of its own, connected and so with a random port, and a
// random ID: an answer must match both, and the question.
type forward struct {
	r      *Resolver
	q      query
	packet []byte // the client's query
	stream bool   // by TCP
	answer func([]byte)

	try  int // counts tries, over all rounds
	fd   int // -1 between tries
	id   uint16
	ends time.Time

	// By TCP: what is still to be sent, and what has come so far.
	unsent, got []byte
}

// forward starts to ask. It gives nil when that was refused at once.
func (r *Resolver) forward(b []byte, q *query, stream bool, now time.Time, answer func([]byte)) *forward {
	f := &forward{r: r, q: *q, packet: append([]byte(nil), b...), stream: stream, answer: answer, fd: -1}
	r.forwards++
	f.next(now)
	if f.fd < 0 {
		return nil
	}
	return f
}

// next asks the next server, or gives up.
func (f *forward) next(now time.Time) {
	f.hang()
	for f.try < rounds*len(f.r.upstream) {
		to := f.r.upstream[f.try%len(f.r.upstream)]
		f.try++
		if f.ask(to, now) == nil {
			return
		}
		f.hang()
	}
	f.done(addOPT(reply(f.packet, &f.q, rcodeServer), &f.q))
}

// ask sends the query to one server.
func (f *forward) ask(to netip.AddrPort, now time.Time) error {
	kind := unix.SOCK_DGRAM
	if f.stream {
		kind = unix.SOCK_STREAM
	}
	domain, sa := sockaddr(to)
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	f.fd = fd
	if err := unix.Connect(fd, sa); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd)
		f.fd = -1
		return err
	}
	events := uint32(unix.EPOLLIN)
	if f.stream {
		events = unix.EPOLLOUT
	}
	if err := f.r.watch(fd, events, f); err != nil {
		_ = unix.Close(fd)
		f.fd = -1
		return err
	}
	var random [2]byte
	if _, err := unix.Getrandom(random[:], 0); err != nil {
		return err
	}
	f.id = binary.NativeEndian.Uint16(random[:])
	binary.BigEndian.PutUint16(f.packet, f.id)
	f.ends = now.Add(tryTime)
	f.got = nil
	if f.stream {
		f.unsent = append(binary.BigEndian.AppendUint16(nil, uint16(len(f.packet))), f.packet...)
		return nil
	}
	_, err = unix.Write(fd, f.packet)
	return err
}

// hang ends the present try.
func (f *forward) hang() {
	if f.fd >= 0 {
		f.r.drop(f.fd)
		f.fd = -1
	}
}

// done gives the answer (nil: there is nobody to take it) and ends.
func (f *forward) done(out []byte) {
	f.hang()
	f.r.forwards--
	if out != nil {
		f.answer(out)
	}
}

func (f *forward) expire() time.Time  { return f.ends }
func (f *forward) late(now time.Time) { f.next(now) }

func (f *forward) ready(events uint32, now time.Time) {
	if f.stream {
		f.readyStream(now)
		return
	}
	var buf [mostSize + 1]byte // one more shows what is too long
	for range maxReads {
		n, err := unix.Read(f.fd, buf[:])
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			return
		}
		if err != nil { // ECONNREFUSED: nobody is there
			f.next(now)
			return
		}
		if f.take(buf[:n], now) {
			return
		}
	}
}

// readyStream writes the query, then reads the answer.
func (f *forward) readyStream(now time.Time) {
	for len(f.unsent) > 0 {
		n, err := unix.SendmsgN(f.fd, f.unsent, nil, nil, unix.MSG_NOSIGNAL)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			return
		}
		if err != nil {
			f.next(now)
			return
		}
		if f.unsent = f.unsent[n:]; len(f.unsent) == 0 {
			f.r.want(f.fd, unix.EPOLLIN)
		}
	}
	var buf [maxQuery]byte
	n, err := unix.Read(f.fd, buf[:])
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return
	}
	if err != nil || n == 0 {
		f.next(now)
		return
	}
	f.got = append(f.got, buf[:n]...)
	if len(f.got) < 2 {
		return
	}
	if size := int(binary.BigEndian.Uint16(f.got)); len(f.got) >= 2+size {
		if !f.take(f.got[2:2+size], now) {
			f.next(now)
		}
	}
}

// take handles one message of the server; false when it is not the answer.
func (f *forward) take(b []byte, now time.Time) bool {
	if !answers(b, f.id, f.packet[headerLen:f.q.end]) {
		return false
	}
	code := b[3] & maskRcode
	if (code == rcodeServer || code == rcodeRefused || code == rcodeNotImp) && f.try < len(f.r.upstream) {
		f.next(now) // perhaps another one knows
		return true
	}
	out := append([]byte(nil), b...)
	if !f.stream && len(out) > f.q.limit {
		out = truncated(f.packet, &f.q)
	}
	binary.BigEndian.PutUint16(out, f.q.id)
	f.done(out)
	return true
}

// sockaddr is an address for connect(2), with its socket family.
func sockaddr(a netip.AddrPort) (int, unix.Sockaddr) {
	if a.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	sa := &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
	if z := a.Addr().Zone(); z != "" {
		sa.ZoneId = zone(z)
	}
	return unix.AF_INET6, sa
}

// zone is the index of a link given by number or name; 0 when there is none.
func zone(name string) uint32 {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n)
	}
	q, err := unix.NewIfreq(name)
	if err != nil {
		return 0
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, q)
	_ = unix.Close(fd)
	if err != nil {
		return 0
	}
	return q.Uint32()
}
