package serve

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// endless opens what is always full.
func endless(t *testing.T) int {
	fd, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func looping(t testing.TB) *Monitor {
	m := newMonitor()
	m.log.fd = -1
	if err := m.loop.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(m.epoll) })
	return m
}

// Whoever writes faster than the monitor reads does not keep it.
func TestEndlessOutput(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		m := looping(t)
		m.env.Health = &wire.Health{}
		m.streams.out, m.health.pipe = endless(t), endless(t)
		defer unix.Close(m.streams.out)
		defer unix.Close(m.health.pipe)
		m.drainOutput()
		m.readProbe(capacity(m.health.pipe))
		if len(m.health.output) != cove.HealthLogSize {
			t.Errorf("%d bytes of the probe are kept", len(m.health.output))
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("it reads for ever")
	}
}

// Two clients feed a container that does not read yet: it gets all from both.
func TestTwoFeeders(t *testing.T) {
	m := looping(t)
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	m.streams.in = p[1]
	const size, pieces = 32 << 10, 8
	for _, letter := range "ab" {
		ours, theirs, err := wire.Pair()
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(ours)
		m.adopt(theirs)
		go func() {
			for range pieces {
				_ = wire.Send(ours, wire.Stdin, bytes.Repeat([]byte(string(letter)), size))
			}
		}()
	}
	var got []byte
	buf := make([]byte, 64<<10)
	for deadline := time.Now().Add(time.Minute); len(got) < 2*pieces*size; {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes a, %d b of %d each", bytes.Count(got, []byte("a")), bytes.Count(got, []byte("b")), pieces*size)
		}
		for range 10 { // both are held back by now
			m.after(time.Millisecond, func() {})
			m.step()
		}
		if n, _ := unix.Read(p[0], buf); n > 0 {
			got = append(got, buf[:n]...)
		}
	}
}

// A client that does not read gets the longest messages, too, when it does.
func TestSpilled(t *testing.T) {
	m := looping(t)
	var err error
	if m.dir, err = unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(m.dir)
	ours, theirs, err := wire.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ours)
	c := m.adopt(theirs)
	sent := 0
	for ; !c.waiting() || sent < 8; sent++ {
		c.send(append([]byte{byte(wire.Stdout)}, bytes.Repeat([]byte{byte(sent)}, wire.Max-1)...))
	}
	buf := make([]byte, wire.Max)
	for n := range sent {
		kind, body, _, err := wire.Receive(ours, buf)
		if err != nil || kind != wire.Stdout || len(body) != wire.Max-1 || body[0] != byte(n) || body[len(body)-1] != byte(n) {
			t.Fatalf("message %d of %d: %c %d bytes, %v", n, sent, kind, len(body), err)
		}
		m.after(0, func() {})
		m.step()
	}
}

// A log that is no regular file stays what and where it is, and a named pipe
// without a reader keeps nobody waiting.
func TestLogIsNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	conf := wire.Log{Driver: "k8s-file", Path: path, MaxSize: 100, MaxFile: 1}
	var l logger
	if err := l.open(&conf); err != unix.ENXIO {
		t.Fatalf("no reader: %v", err)
	}
	reader, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(reader)
	if err := l.open(&conf); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l.fd)
	// More than the pipe takes: a line is cut, and the next is a line again.
	l.write(wire.Stdout, bytes.Repeat([]byte{'x'}, 100<<10))
	buf := make([]byte, 128<<10)
	n, err := unix.Read(reader, buf)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(buf[:n]), "\n") {
		t.Fatal("the pipe has taken all")
	}
	l.write(wire.Stdout, []byte("next\n"))
	n, err = unix.Read(reader, buf)
	if text := string(buf[:max(n, 0)]); err != nil || !strings.HasPrefix(text, "\n2") || !strings.HasSuffix(text, " stdout F next\n") {
		t.Errorf("after a line that was cut: %q, %v", text, err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		t.Errorf("the pipe was rotated: %o, %v", st.Mode, err)
	}
}
