package serve

import (
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/forward"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// moveIn takes the monitor into the network namespace of an ordinary user's
// bridges, and tells so in the file by which it is found (internal/rootless).
// There is no way back, and no need for one.
func (m *Monitor) moveIn() *wire.Failure {
	if m.home < 0 {
		return nil
	}
	if err := unix.Setns(m.home, unix.CLONE_NEWNET); err != nil {
		return wire.Fail("enter the network of this user", err)
	}
	_ = unix.Close(m.home)
	m.home = -1
	err := unix.FcntlFlock(uintptr(m.lan), unix.F_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: m.env.Forward.Member + int64(os.Getpid()), Len: 1})
	if err != nil {
		return wire.Fail("stay in the network of this user", err)
	}
	return nil
}

// startPorts forwards the published ports that no firewall forwards.
func (m *Monitor) startPorts() *wire.Failure {
	if len(m.fwd) == 0 {
		return nil
	}
	f, err := forward.New(m.fwd, m.targets())
	if err != nil {
		return wire.Fail("publish ports", err)
	}
	var late *timer
	var step func()
	step = func() {
		m.cancel(late)
		late = nil
		f.Step(time.Now())
		if at := f.Deadline(); !at.IsZero() {
			late = m.after(time.Until(at), step)
		}
	}
	m.watch(f.FD(), unix.EPOLLIN, func(uint32) { step() })
	m.stopPorts = func() {
		m.cancel(late)
		delete(m.handlers, int32(f.FD()))
		f.Close()
	}
	m.retarget = func() { f.Target(m.targets()) }
	return nil
}

func (m *Monitor) targets() []netip.Addr {
	var all []netip.Addr
	for _, text := range m.env.Forward.Targets {
		if a, err := netip.ParseAddr(text); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// endPorts ends what startPorts has started.
func (m *Monitor) endPorts() {
	if m.stopPorts != nil {
		m.stopPorts()
		m.stopPorts, m.retarget = nil, nil
	}
}
