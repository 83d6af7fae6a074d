package serve

import (
	"encoding/json"

	"golang.org/x/sys/unix"

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
	m.uplink, err = m.clone("cove-uplink", [3]int{null, null, null}, unix.CLONE_NEWPID|unix.CLONE_NEWNS, "")
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
		if json.Unmarshal(body, f) != nil {
			f.Text = "the network program failed"
		}
		return f
	}
	return nil
}

// endUplink ends the program; with its first process the whole namespace goes.
func (m *Monitor) endUplink() {
	if m.uplink.pid == 0 {
		return
	}
	_ = unix.PidfdSendSignal(m.uplink.pidfd, unix.SIGKILL, nil, 0)
	_, _ = unix.Wait4(m.uplink.pid, nil, 0, nil)
	_ = unix.Close(m.uplink.pidfd)
	_ = unix.Close(m.uplink.socket)
	m.uplink = child{}
}
