package serve

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/resolver"
)

// startNames answers the container's name queries, if it is on a network with
// names. A resolver that cannot be started leaves the container without
// names, not without its life.
func (m *Monitor) startNames() {
	conf := m.env.Resolver
	if conf == nil {
		return
	}
	udp, tcp, err := listenIn(m.space(unix.CLONE_NEWNET))
	if err != nil {
		return
	}
	r, err := resolver.New(resolver.Config{Dir: conf.Dir, Networks: conf.Networks, Upstream: conf.Upstream}, udp, tcp)
	if err != nil {
		_ = unix.Close(udp)
		_ = unix.Close(tcp)
		return
	}
	var late *timer
	var step func()
	step = func() {
		m.cancel(late)
		late = nil
		_ = r.Step(time.Now())
		if at := r.Deadline(); !at.IsZero() {
			late = m.after(time.Until(at), step)
		}
	}
	m.watch(r.FD(), unix.EPOLLIN, func(uint32) { step() })
	m.stopNames = func() {
		m.cancel(late)
		delete(m.handlers, int32(r.FD()))
		_ = r.Close()
	}
}

// endNames ends what startNames has started.
func (m *Monitor) endNames() {
	if m.stopNames != nil {
		m.stopNames()
		m.stopNames = nil
	}
}

// listenIn makes the resolver's sockets inside the container's network
// namespace, and comes back.
func listenIn(netns int) (udp, tcp int, err error) {
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, -1, err
	}
	defer unix.Close(own)
	if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
		return -1, -1, err
	}
	udp, tcp, err = resolver.Listen()
	if back := unix.Setns(own, unix.CLONE_NEWNET); back != nil {
		// All that follows would happen in the container's network.
		panic("cannot leave the container's network namespace")
	}
	return udp, tcp, err
}
