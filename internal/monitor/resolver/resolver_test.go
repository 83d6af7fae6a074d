package resolver

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tree writes a tree of names.
func tree(t testing.TB) string {
	dir := t.TempDir()
	for path, text := range map[string]string{
		"net1/web/c1":         "10.88.0.2\nfd00::2\n",
		"net1/web/c2":         "10.88.0.3\n",
		"net1/web/.new":       "10.88.0.99\n",
		"net2/db.main/c3":     "10.89.0.2\n",
		"net2/six/c4":         "fd00::6\n",
		"net3/foreign/c5":     "10.90.0.2\n",
		"net1/.ptr/10.88.0.2": "web\n",
		"net1/.ptr/fd00::2":   "web\n",
		"net1/broken/c6":      "nonsense\n\n1.2.3\n",
		"net1/file":           "not a directory",
		"secret/address/c7":   "10.66.0.1\n",
		"net1/many/" + "x":    strings.Repeat("10.1.1.1\n", 100),
	} {
		p := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../secret/address", filepath.Join(dir, "net1", "link")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// question is a query's message. A label given as "\x00…" is taken literally.
func question(id uint16, name string, typ uint16, more ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	b = append(b, flagRecursion, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	for label := range strings.SplitSeq(name, ".") {
		if label != "" {
			b = append(append(b, byte(len(label))), label...)
		}
	}
	b = append(b, 0)
	b = binary.BigEndian.AppendUint16(b, typ)
	return append(append(b, 0, classIN), more...)
}

// edns makes a query say that it takes size octets.
func edns(b []byte, size uint16) []byte {
	b[11] = 1
	b = binary.BigEndian.AppendUint16(append(b, 0, 0, typeOPT), size)
	return append(b, 0, 0, 0, 0, 0, 0)
}

// records reads the addresses (or names' octets) of an answer.
func records(t *testing.T, b []byte) (code byte, tc bool, out []string) {
	t.Helper()
	if len(b) < headerLen {
		t.Fatalf("short answer %x", b)
	}
	code, tc = b[3]&maskRcode, b[2]&flagTruncated != 0
	at := headerLen
	if b[5] == 1 {
		_, _, next, ok := readName(b, at)
		if !ok {
			t.Fatalf("bad question in %x", b)
		}
		at = next + 4
	}
	for range binary.BigEndian.Uint16(b[6:]) {
		typ, n := binary.BigEndian.Uint16(b[at+2:]), int(binary.BigEndian.Uint16(b[at+10:]))
		data := b[at+12 : at+12+n]
		if a, ok := netip.AddrFromSlice(data); ok && typ != typePTR {
			out = append(out, a.String())
		} else {
			out = append(out, string(data))
		}
		at += 12 + n
	}
	return code, tc, out
}

func TestLocal(t *testing.T) {
	r := &Resolver{dir: tree(t), networks: []string{"net1", "net2"}}
	for _, c := range []struct {
		query []byte
		code  byte
		tc    bool
		want  string
	}{
		{question(0, "web", typeA), rcodeOK, false, "10.88.0.2 10.88.0.3"},
		{question(0, "WEB", typeA), rcodeOK, false, "10.88.0.2 10.88.0.3"},
		{question(0, "web.dns.podman", typeA), rcodeOK, false, "10.88.0.2 10.88.0.3"},
		{question(0, "Web.DNS.podman", typeAAAA), rcodeOK, false, "fd00::2"},
		{question(0, "web", typeANY), rcodeOK, false, "10.88.0.2 fd00::2 10.88.0.3"},
		{question(0, "db.main", typeA), rcodeOK, false, "10.89.0.2"},
		{question(0, "db.main", typeAAAA), rcodeOK, false, ""}, // no data, not no name
		{question(0, "six", typeA), rcodeOK, false, ""},
		{question(0, "web", 15), rcodeOK, false, ""},
		{question(0, "foreign", typeA), rcodeNoName, false, ""},
		{question(0, "nothing", typeA), rcodeNoName, false, ""},
		{question(0, "nothing.dns.podman", typeA), rcodeNoName, false, ""},
		{question(0, "dns.podman", typeA), rcodeNoName, false, ""},
		{question(0, "nothing.example", typeA), rcodeNoName, false, ""}, // no upstream
		{question(0, "broken", typeA), rcodeNoName, false, ""},
		{question(0, "file", typeA), rcodeNoName, false, ""},
		{question(0, "link", typeA), rcodeNoName, false, ""},
		{question(0, "", typeA), rcodeNoName, false, ""},
		{question(0, "many", typeA), rcodeOK, true, ""},
		{edns(question(0, "many", typeA), 4096), rcodeOK, false, strings.TrimSpace(strings.Repeat("10.1.1.1 ", 100))},
		{question(0, "2.0.88.10.in-addr.arpa", typePTR), rcodeOK, false, "\x03web\x00"},
		{question(0, "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", typePTR), rcodeOK, false, "\x03web\x00"},
		{question(0, "3.0.88.10.in-addr.arpa", typePTR), rcodeNoName, false, ""},
		// Names that would be paths.
		{question(0, "../secret/address", typeA), rcodeNoName, false, ""},
		{rawName("..", "secret", "address"), rcodeNoName, false, ""},
		{rawName("../secret/address"), rcodeNoName, false, ""},
		{rawName("/etc"), rcodeNoName, false, ""},
		{rawName("web\x00x"), rcodeNoName, false, ""},
		{rawName("."), rcodeNoName, false, ""},
		{rawName(".."), rcodeNoName, false, ""},
		{rawName(".ptr"), rcodeNoName, false, ""},
		{rawName("db.main"), rcodeNoName, false, ""}, // a dot within a label
		// Malformed.
		{question(0, "web", typeA)[:14], rcodeFormat, false, ""},
		{append([]byte{0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, 0xc0, 12, 0, 1, 0, 1), rcodeFormat, false, ""},
		{append([]byte{0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0}, 0, 0, 1, 0, 1), rcodeFormat, false, ""},
		{append([]byte{0, 0, 0x10, 0, 0, 1, 0, 0, 0, 0, 0, 0}, 0, 0, 1, 0, 1), rcodeNotImp, false, ""},
	} {
		var got []byte
		r.serve(c.query, false, time.Now(), func(out []byte) { got = out })
		code, tc, list := records(t, got)
		if code != c.code || tc != c.tc || !same(list, strings.Fields(c.want)) {
			t.Errorf("%q: code %d truncated %v %q, want %d %v %q", c.query[headerLen:], code, tc, list, c.code, c.tc, c.want)
		}
	}
	for _, none := range [][]byte{nil, make([]byte, 11), append([]byte{0, 0, 0x80}, make([]byte, 20)...)} {
		r.serve(none, false, time.Now(), func([]byte) { t.Errorf("%x was answered", none) })
	}
}

// same compares what may come in any order.
func same(a, b []string) bool {
	count := map[string]int{}
	for _, s := range a {
		count[s]++
	}
	for _, s := range b {
		count[s]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

func rawName(labels ...string) []byte {
	b := question(0, "", typeA)[:headerLen]
	for _, l := range labels {
		b = append(append(b, byte(len(l))), l...)
	}
	return append(b, 0, 0, typeA, 0, classIN)
}

func FuzzServe(f *testing.F) {
	f.Add(question(7, "web.dns.podman", typeA))
	f.Add(edns(question(7, "many", typeANY), 600))
	f.Add(rawName("..", "a/b"))
	f.Add(question(0, "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", typePTR))
	r := &Resolver{dir: tree(f), networks: []string{"net1", "net2"}}
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, code, ok := parse(b); ok && code == rcodeOK && (q.end > len(b) || len(q.name) > maxName) {
			t.Fatalf("parsed beyond the message: %+v", q)
		}
		r.serve(b, false, time.Time{}, func(out []byte) {
			if len(out) < headerLen || len(out) > mostSize || out[0] != b[0] || out[1] != b[1] || out[2]&flagResponse == 0 {
				t.Fatalf("answer %x", out)
			}
			if strings.Contains(string(out), "\x0a\x42\x00\x01") { // 10.66.0.1
				t.Fatal("an answer from outside the networks")
			}
		})
		answers(b, 1, []byte("\x03web\x00\x00\x01\x00\x01"))
	})
}

// lab runs a resolver whose container and host are namespaces of the test.
type lab struct {
	container, host int
	steps           atomic.Int64
	forwards        atomic.Int64 // on their way to upstream servers
	clients, most   atomic.Int64 // connections, and the most that there were
}

func netns(t testing.TB) int {
	var fd int
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return
		}
		if err = exec.Command("ip", "link", "set", "lo", "up").Run(); err != nil {
			return
		}
		fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}()
	<-done
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func enter(ns int, f func() error) error {
	c := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			c <- err
			return
		}
		c <- f()
	}()
	return <-c
}

func run(t *testing.T, upstream ...string) *lab {
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	l := &lab{container: netns(t), host: netns(t)}
	var udp, tcp int
	if err := enter(l.container, func() (err error) {
		udp, tcp, err = Listen()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{Dir: tree(t), Networks: []string{"net1", "net2"}, Upstream: upstream}, udp, tcp)
	if err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	done := make(chan error, 1)
	go func() {
		done <- enter(l.host, func() error {
			for !stop.Load() {
				wait := 50 * time.Millisecond
				if d := r.Deadline(); !d.IsZero() {
					wait = min(wait, max(time.Until(d), 0))
				}
				p := []unix.PollFd{{Fd: int32(r.FD()), Events: unix.POLLIN}}
				if _, err := unix.Poll(p, int(wait.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
					return err
				}
				l.steps.Add(1)
				if err := r.Step(time.Now()); err != nil {
					return err
				}
				l.forwards.Store(int64(r.forwards))
				l.clients.Store(int64(r.clients))
				l.most.Store(max(l.most.Load(), int64(r.clients)))
			}
			return r.Close()
		})
	}()
	t.Cleanup(func() {
		l.settles(t, "forwards", &l.forwards, 0)
		stop.Store(true)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l
}

// settles waits until there are as many of something.
func (l *lab) settles(t *testing.T, what string, count *atomic.Int64, want int64) {
	t.Helper()
	for end := time.Now().Add(time.Minute); count.Load() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("%d %s, want %d", count.Load(), what, want)
			return
		}
	}
}

// upstream serves in the host's namespace: answer gives nil for silence.
func (l *lab) upstream(t *testing.T, at string, answer func(b []byte, stream bool) []byte) {
	err := enter(l.host, func() error {
		u, err := net.ListenPacket("udp", at)
		if err != nil {
			return err
		}
		s, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		t.Cleanup(func() { u.Close(); s.Close() })
		go func() {
			b := make([]byte, 8192)
			for {
				n, from, err := u.ReadFrom(b)
				if err != nil {
					return
				}
				if out := answer(b[:n], false); out != nil {
					u.WriteTo(out, from)
				}
			}
		}()
		go func() {
			for {
				c, err := s.Accept()
				if err != nil {
					return
				}
				var size [2]byte
				io.ReadFull(c, size[:])
				b := make([]byte, binary.BigEndian.Uint16(size[:]))
				io.ReadFull(c, b)
				if out := answer(b, true); out != nil {
					out = append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)
					c.Write(out[:3]) // in two parts
					time.Sleep(10 * time.Millisecond)
					c.Write(out[3:])
				}
				c.Close()
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// dial connects from the container.
func (l *lab) dial(t *testing.T, network string) net.Conn {
	var c net.Conn
	if err := enter(l.container, func() (err error) {
		c, err = net.Dial(network, Address+":53")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

func (l *lab) ask(t *testing.T, network string, b []byte) []byte {
	t.Helper()
	c := l.dial(t, network)
	if network == "tcp" {
		return askTCP(t, c, b)
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 8192)
	n, err := c.Read(out)
	if err != nil {
		t.Fatal(err)
	}
	return out[:n]
}

func askTCP(t *testing.T, c net.Conn, b []byte) []byte {
	t.Helper()
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)); err != nil {
		t.Fatal(err)
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		t.Fatal(err)
	}
	out := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// echo answers every question with n addresses.
func echo(n int) func([]byte, bool) []byte {
	return func(b []byte, stream bool) []byte {
		q, _, _ := parse(b)
		out := reply(b, &q, rcodeOK)
		for range n {
			out = addRecord(out, typeA, []byte{192, 0, 2, 1})
		}
		return out
	}
}

func TestLive(t *testing.T) {
	l := run(t, "127.0.0.7", "127.0.0.8:53", "127.0.0.9:54")
	l.upstream(t, "127.0.0.8:53", func(b []byte, _ bool) []byte { // refuses
		q, _, _ := parse(b)
		return reply(b, &q, rcodeServer)
	})
	l.upstream(t, "127.0.0.9:54", func(b []byte, stream bool) []byte {
		q, _, _ := parse(b)
		n := 1
		if q.name == "big.example" {
			n = 1000
		}
		return echo(n)(b, stream)
	})
	for _, network := range []string{"udp", "tcp"} {
		code, tc, list := records(t, l.ask(t, network, question(9, "web", typeA)))
		if code != rcodeOK || tc || !same(list, []string{"10.88.0.2", "10.88.0.3"}) {
			t.Errorf("%s local: %d %v", network, code, list)
		}
		out := l.ask(t, network, question(0x1234, "some.example", typeA))
		if code, _, list := records(t, out); code != rcodeOK || len(list) != 1 || binary.BigEndian.Uint16(out) != 0x1234 {
			t.Errorf("%s forwarded: %x", network, out)
		}
		_, tc, list = records(t, l.ask(t, network, edns(question(9, "big.example", typeA), 1400)))
		if network == "udp" && (!tc || len(list) != 0) || network == "tcp" && (tc || len(list) != 1000) {
			t.Errorf("%s big: truncated %v, %d records", network, tc, len(list))
		}
	}
	c := l.dial(t, "tcp") // several on one connection
	for i := range 3 {
		if _, _, list := records(t, askTCP(t, c, question(uint16(i), "web", typeAAAA))); len(list) != 1 {
			t.Errorf("query %d on a connection: %v", i, list)
		}
		if _, _, list := records(t, askTCP(t, c, question(uint16(i), "some.example", typeAAAA))); len(list) != 1 {
			t.Errorf("query %d on a connection: %v", i, list)
		}
	}
	if path, err := exec.LookPath("busybox"); err == nil {
		var out []byte
		err := enter(l.container, func() (err error) {
			out, err = exec.Command(path, "nslookup", "-type=a", "web.dns.podman", Address).CombinedOutput()
			return err
		})
		if err != nil || !strings.Contains(string(out), "10.88.0.3") {
			t.Errorf("nslookup: %v: %s", err, out)
		}
	}
}

func TestServersFail(t *testing.T) {
	l := run(t, "127.0.0.8")
	var silent atomic.Bool
	l.upstream(t, "127.0.0.8:53", func(b []byte, stream bool) []byte {
		if silent.Load() {
			return nil
		}
		b[1] ^= 1 // another ID: a forgery
		return echo(1)(b, stream)
	})
	before := time.Now()
	code, _, _ := records(t, l.ask(t, "udp", question(1, "a.example", typeA)))
	if d := time.Since(before); code != rcodeServer || d < rounds*tryTime || d > rounds*tryTime+30*time.Second {
		t.Errorf("code %d after %v", code, d)
	}
	silent.Store(true)
	code, _, _ = records(t, l.ask(t, "tcp", question(1, "a.example", typeA)))
	if code != rcodeServer {
		t.Errorf("code %d", code)
	}
	// More on their way than are kept: the rest is refused at once, and
	// local names are answered all the while.
	c := l.dial(t, "udp")
	for i := range maxForwards + 10 {
		c.Write(question(uint16(i), "a.example", typeA))
	}
	for range 10 {
		b := make([]byte, 512)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if code, _, _ := records(t, b[:n]); code != rcodeServer {
			t.Errorf("code %d", code)
		}
	}
	if _, _, list := records(t, l.ask(t, "udp", question(1, "web", typeA))); len(list) != 2 {
		t.Errorf("local under load: %v", list)
	}
}

func TestHostileConnections(t *testing.T) {
	l := run(t)
	var held []net.Conn
	for range maxClients + 5 {
		held = append(held, l.dial(t, "tcp"))
	}
	closed := make(chan struct{}, len(held))
	for _, c := range held {
		go func() {
			if _, err := c.Read(make([]byte, 1)); !os.IsTimeout(err) {
				closed <- struct{}{}
			}
		}()
	}
	for i := range 5 {
		select {
		case <-closed:
		case <-time.After(time.Minute):
			t.Fatalf("%d of %d connections closed", i, len(held))
		}
	}
	if n := l.most.Load(); n > maxClients {
		t.Errorf("%d connections were served at once", n)
	}
	for _, c := range held {
		c.Close()
	}
	l.settles(t, "clients", &l.clients, 0)
	for _, bad := range []string{"\x00\x00", "\xff\xff", "\x00\x0c123456789012"} {
		c := l.dial(t, "tcp")
		c.Write([]byte(bad))
		b := make([]byte, 64)
		if n, err := c.Read(b); !errors.Is(err, io.EOF) && n < 2 {
			t.Errorf("%q: %d %v", bad, n, err)
		}
	}
	if _, _, list := records(t, l.ask(t, "tcp", question(1, "web", typeA))); len(list) != 2 {
		t.Errorf("afterwards: %v", list)
	}
	// At rest the loop sleeps.
	before, at := l.steps.Load(), time.Now()
	time.Sleep(500 * time.Millisecond)
	if n, took := l.steps.Load()-before, time.Since(at); n > 5+int64(took/(50*time.Millisecond)) {
		t.Errorf("%d steps in %s at rest", n, took)
	}
}
