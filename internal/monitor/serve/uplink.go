package serve

import (
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/coldjson"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// startUplink starts the program that connects the container to the network,
// if there is one to start (internal/monitor/uplink). It gets ready while init
// prepares the container.
func (m *Monitor) startUplink() *wire.Failure {
	if m.env.Uplink == nil {
		return nil
	}
	netns := m.space(unix.CLONE_NEWNET)
	if netns < 0 {
		return &wire.Failure{Step: "connect to the network", Text: "the network namespace is missing"}
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return wire.Fail("open /dev/null", err)
	}
	m.uplink, err = m.clone("cove-uplink", [3]int{null, null, null}, nil, unix.CLONE_NEWPID|unix.CLONE_NEWNS, "")
	m.uplink.started = time.Now()
	_ = unix.Close(null)
	if err == nil {
		err = wire.SendJSON(m.uplink.socket, wire.Prepare, m.env.Uplink, netns)
	}
	if err != nil {
		return wire.Fail("connect to the network", err)
	}
	return nil
}

// uplinkReady waits until the container is connected.
func (m *Monitor) uplinkReady() *wire.Failure {
	if m.env.Uplink == nil {
		return nil
	}
	kind, body, _, err := wire.Receive(m.uplink.socket, m.buf[:])
	switch {
	case err != nil:
		return wire.Fail("connect to the network", err)
	case kind == wire.Failed:
		f := new(wire.Failure)
		if coldjson.Unmarshal(body, f) != nil {
			f.Text = "the network program failed"
		}
		return f
	}
	return nil
}

// keepUplink has the program started anew when it ends before the container
// does.
func (m *Monitor) keepUplink() {
	if m.uplink.pid == 0 {
		return
	}
	m.watch(m.uplink.pidfd, unix.EPOLLIN, func(uint32) {
		m.uplinkLost(path.Base(m.env.Uplink.Args[0]) + " has ended")
	})
}

// uplinkLost records that the container is not connected, and connects it anew
// after a pause.
func (m *Monitor) uplinkLost(why string) {
	m.reconnects = longer(m.reconnects, m.uplink.started)
	m.endUplink()
	m.run.Disconnected = why
	_ = m.record.Write(&m.run, false)
	m.connecting = m.after(m.reconnects, m.reconnect)
}

// uplinkLimit is how long the program may take to connect the container once
// more.
const uplinkLimit = 20 * time.Second

// reconnect does not wait for it: the container runs.
func (m *Monitor) reconnect() {
	if f := m.startUplink(); f != nil {
		m.uplinkLost(f.Error())
		return
	}
	m.connecting = m.after(uplinkLimit, func() {
		m.uplinkLost(path.Base(m.env.Uplink.Args[0]) + " does not get ready")
	})
	m.watch(m.uplink.socket, unix.EPOLLIN, func(uint32) {
		m.cancel(m.connecting)
		m.unwatch(m.uplink.socket)
		if f := m.uplinkReady(); f != nil {
			m.uplinkLost(f.Error())
			return
		}
		m.run.Disconnected = ""
		_ = m.record.Write(&m.run, false)
		m.keepUplink()
	})
}

// endUplink ends the program; with its first process the whole namespace goes.
func (m *Monitor) endUplink() {
	m.cancel(m.connecting)
	m.run.Disconnected = ""
	if m.uplink.pid == 0 {
		return
	}
	_ = unix.PidfdSendSignal(m.uplink.pidfd, unix.SIGKILL, nil, 0)
	_, _ = unix.Wait4(m.uplink.pid, nil, 0, nil)
	m.forget(m.uplink.pidfd)
	m.forget(m.uplink.socket)
	m.uplink = child{}
}
