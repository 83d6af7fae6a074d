package serve

import (
	"encoding/json"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
)

// FuzzClient sends a monitor whose container has ended what no cove would: it
// answers or does not, survives, and keeps no descriptor.
func FuzzClient(f *testing.F) {
	for _, k := range []wire.Kind{wire.Stdin, wire.Resize, wire.Attach, wire.Stop, wire.Networks, wire.Policy, wire.Checkpoint, wire.HealthRun, wire.Exec, wire.Watch, wire.Hold} {
		f.Add(append([]byte{byte(k)}, `{"signal":15,"output":true,"detach":true,"rows":9}`...), 1)
	}
	f.Add([]byte{byte(wire.Exec)}, 10)
	m := newMonitor()
	m.ended = true
	if err := m.loop.open(); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { unix.Close(m.loop.epoll) })
	f.Fuzz(func(t *testing.T, packet []byte, descriptors int) {
		if len(packet) == 0 || len(packet) > len(m.input) {
			return
		}
		before := lowestFree(t)
		ours, theirs, err := wire.Pair()
		if err != nil {
			t.Fatal(err)
		}
		var fds []int
		for range min(max(descriptors, 0), 10) {
			fds = append(fds, theirs)
		}
		c := m.adopt(ours)
		if err := wire.SendPacket(theirs, packet, 0, fds...); err != nil {
			t.Fatal(err)
		}
		c.receive()
		buf := make([]byte, wire.Max)
		for {
			kind, body, _, err := wire.ReceiveInto(theirs, buf, nil, unix.MSG_DONTWAIT)
			if err != nil {
				break
			}
			if kind != wire.Ack && kind != wire.Failed || strings.ContainsAny(string(body), "\n\r") {
				t.Errorf("%q is answered by %c %q", packet, kind, body)
			}
		}
		unix.Close(theirs)
		c.close()
		if len(m.clients) > 0 || len(m.execs) > 0 {
			t.Errorf("%q: %d clients and %d execs stay", packet, len(m.clients), len(m.execs))
		}
		if after := lowestFree(t); after != before {
			t.Errorf("%q: descriptor %d is still open", packet, before)
		}
	})
}

// FuzzInit has init, or the driver in its place, say something else than it should
// before it is let go: the start fails with one line or goes on.
func FuzzInit(f *testing.F) {
	for _, s := range []string{`R`, `R{"pid":1}`, `R{"pid":-1}`, `M`, `F{"step":"mount","text":"no","errno":2,"exec":true}`, `F[`, `F{"step":"a\nb"}`, `s{"pid":0}`} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, packet []byte, foreign bool) {
		if len(packet) == 0 || len(packet) > len(newMonitor().buf) {
			return
		}
		m := looping(t)
		before := lowestFree(t)
		ours, theirs, err := wire.Pair()
		if err != nil {
			t.Fatal(err)
		}
		const nobody = 1 << 30
		m.foreign, m.planFD, m.init = foreign, m.epoll, child{pid: nobody, pidfd: -1, socket: ours}
		if err := wire.SendPacket(theirs, packet, 0); err != nil {
			t.Fatal(err)
		}
		_ = unix.Shutdown(theirs, unix.SHUT_WR)
		if failure := m.prepareInit(); failure == nil && packet[0] != byte(wire.Ready) {
			t.Errorf("%q is taken for ready", packet)
		}
		if m.init.pidfd >= 0 {
			_ = unix.Close(m.init.pidfd)
		}
		_ = unix.Close(ours)
		_ = unix.Close(theirs)
		if after := lowestFree(t); after != before {
			t.Errorf("%q: descriptor %d is still open", packet, after)
		}
	})
}

// FuzzChild reads whom an exec says to have made: nobody is opened, or killed, that
// is no process.
func FuzzChild(f *testing.F) {
	for _, s := range []string{`{"pid":-1}`, `{"pid":0}`, `{"pid":1}`, `{}`, `null`, `{"pid":"x"}`, `{"pid":-9223372036854775808}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var said wire.StartedBody
		if json.Unmarshal(body, &said) == nil && said.PID > 1 {
			return // somebody's
		}
		if c, err := takeChild(body); err == nil {
			t.Errorf("%q is process %d", body, c.pid)
		}
	})
}

// lowestFree is the number that the next descriptor gets.
func lowestFree(t *testing.T) int {
	t.Helper()
	fd, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	return fd
}
