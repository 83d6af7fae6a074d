package forward

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is long: the machine may be busy.
const patience = 2 * time.Minute

// house runs a forwarder whose container is this process, at 127.0.0.2.
type house struct {
	f       *Forwarder
	port    int // on the host
	streams atomic.Int64
	flows   atomic.Int64
	do      chan func()
}

func newHouse(t *testing.T, protocol string, target uint16) *house {
	t.Helper()
	kind := unix.SOCK_STREAM
	if protocol == "udp" {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{port: at.(*unix.SockaddrInet4).Port, do: make(chan func())}
	h.f, err = New([]Port{{FD: fd, Protocol: protocol, Port: target}}, []netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("127.0.0.2")})
	if err != nil {
		t.Fatal(err)
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			case f := <-h.do:
				f()
			default:
			}
			wait := []unix.PollFd{{Fd: int32(h.f.FD()), Events: unix.POLLIN}}
			_, _ = unix.Poll(wait, 5)
			h.f.Step(time.Now())
			h.streams.Store(int64(h.f.streams))
			h.flows.Store(int64(len(h.f.flows)))
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-ended
		h.f.Close()
		_ = unix.Close(fd)
	})
	return h
}

func (h *house) dial(t *testing.T, network string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, fmt.Sprintf("127.0.0.1:%d", h.port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

func (h *house) settles(t *testing.T, count *atomic.Int64, want int64) {
	t.Helper()
	for end := time.Now().Add(patience); count.Load() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d left, want %d", count.Load(), want)
		}
	}
}

func listener(t *testing.T, serve func(net.Conn)) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// TestHalfClosed says all, is told so, and only then is answered.
func TestHalfClosed(t *testing.T) {
	h := newHouse(t, "tcp", listener(t, func(c net.Conn) {
		defer c.Close()
		said, _ := io.ReadAll(c)
		_, _ = c.Write(bytes.ToUpper(said))
	}))
	c := h.dial(t, "tcp").(*net.TCPConn)
	said := strings.Repeat("x", 5<<20)
	if _, err := c.Write([]byte(said)); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil || string(got) != strings.ToUpper(said) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	h.settles(t, &h.streams, 0)
}

// TestSlowReader does not take what comes for a while; nothing is lost, and
// others are served meanwhile.
func TestSlowReader(t *testing.T) {
	const much = 8 << 20
	h := newHouse(t, "tcp", listener(t, func(c net.Conn) {
		defer c.Close()
		_, _ = c.Write(make([]byte, much))
	}))
	slow := h.dial(t, "tcp")
	time.Sleep(50 * time.Millisecond)
	quick := h.dial(t, "tcp")
	if n, err := io.Copy(io.Discard, quick); n != much || err != nil {
		t.Errorf("beside it: %d, %v", n, err)
	}
	if n, err := io.Copy(io.Discard, slow); n != much || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	_, _ = quick.Close(), slow.Close()
	h.settles(t, &h.streams, 0)
}

// TestNobody listens in the container, or it has gone away.
func TestNobody(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) // has the port and does not listen
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 2}}); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, "tcp", uint16(at.(*unix.SockaddrInet4).Port))
	if n, err := h.dial(t, "tcp").Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("%d, %v", n, err)
	}
	h.do <- func() { h.f.Target(nil) }
	if n, err := h.dial(t, "tcp").Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("without a target: %d, %v", n, err)
	}
	h.settles(t, &h.streams, 0)
}

// TestTooMany connections wait for their turn.
func TestTooMany(t *testing.T) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur < 5*maxStreams {
		t.Skip("needs the descriptors of both ends, ", l.Cur, " may be open: ", err)
	}
	tooMany(t, maxStreams)
}

// The process may have fewer descriptors than they would take.
func TestTooManyForProcess(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	few := before
	few.Cur = 440
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &before)
	tooMany(t, (440-maxFlows-100)/2)
}

func tooMany(t *testing.T, most int) {
	h := newHouse(t, "tcp", listener(t, func(c net.Conn) {
		defer c.Close()
		_, _ = io.Copy(c, c)
	}))
	var all []net.Conn
	for range most + 20 {
		all = append(all, h.dial(t, "tcp"))
	}
	h.settles(t, &h.streams, int64(most))
	for _, c := range all[:most] {
		_ = c.Close()
	}
	for i, c := range all[most:] {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(i, err)
		}
		if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Fatalf("%d: %d, %v", i, n, err)
		}
		_ = c.Close()
	}
	h.settles(t, &h.streams, 0)
}

func TestDatagrams(t *testing.T) {
	s, err := net.ListenPacket("udp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	go func() {
		buf := make([]byte, 100)
		for {
			n, from, err := s.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = s.WriteTo(append([]byte("to "), buf[:n]...), from)
		}
	}()
	h := newHouse(t, "udp", uint16(s.LocalAddr().(*net.UDPAddr).Port))
	for i := range maxFlows + 10 {
		c := h.dial(t, "udp")
		name := fmt.Sprint("client ", i)
		if _, err := c.Write([]byte(name)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != "to "+name {
			t.Fatalf("%q, %v", buf[:n], err)
		}
	}
	h.settles(t, &h.flows, maxFlows)
	done := make(chan struct{})
	h.do <- func() {
		h.f.Step(time.Now().Add(idleTime))
		close(done)
	}
	<-done
	h.settles(t, &h.flows, 0)
}
