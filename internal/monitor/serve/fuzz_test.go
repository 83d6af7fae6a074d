package serve

import (
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
