package serve

import (
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/coldjson"
	"github.com/cove-engine/cove/internal/ctrinit/drive"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/procfs"
)

// dump is a checkpoint that another OCI runtime, called by a driver, makes of
// the running container. Its end is told by the driver; if it takes the
// container's processes along, their end is looked at after that.
type dump struct {
	child
	client *client
	body   wire.CheckpointBody
	// until is for how long a CRIU is waited for that has lost the driver.
	until time.Time
}

// lastSteps is how long CRIU may take to end when it has ended the container.
const lastSteps = 10 * time.Second

// turnWait is how often is looked whether another checkpoint is made and read, or a health
// check has ended: what that runs in the container would be nobody's after a restore.
const turnWait = 50 * time.Millisecond

// startDump begins a checkpoint for a client, by deadline. Once begun it does not need him.
func (m *Monitor) startDump(c *client, body wire.CheckpointBody, deadline time.Time) {
	refuse := func(f *wire.Failure) {
		m.letGoOfPlan()
		c.sendJSON(wire.Failed, f)
	}
	switch {
	case c.fd < 0: // while it waited
		m.letGoOfPlan()
		return
	case !m.foreign:
		refuse(&wire.Failure{Step: "checkpoint", Text: "cove's own runtime makes none"})
		return
	case m.init.pid == 0 || m.ended:
		refuse(&wire.Failure{Step: "checkpoint", Errno: unix.ESRCH, Text: "the container is not running"})
		return
	}
	turn, err := -1, error(unix.EWOULDBLOCK)
	if m.dump == nil && m.health.running == nil {
		turn, err = drive.Turn(path.Dir(body.Images.Dir), 0)
	}
	if err == unix.EWOULDBLOCK && time.Now().Before(deadline) {
		m.after(turnWait, func() { m.startDump(c, body, deadline) })
		return
	}
	if err == nil {
		err = drive.Anew(body.Images.Work)
		_ = unix.Close(turn) // the driver takes it
	}
	if err != nil {
		refuse(wire.Fail("wait for another checkpoint", err))
		return
	}
	err = m.noteDump(!body.Leave)
	var null int
	if err == nil {
		null, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		m.run.Dumping = false
		refuse(wire.Fail("begin the checkpoint", err))
		return
	}
	defer unix.Close(null)
	d := &dump{client: c, body: body}
	d.child, err = m.clone(driverName, [3]int{null, null, null}, nil, unix.CLONE_NEWNS, "")
	if err != nil {
		m.run.Dumping = false
		refuse(wire.Fail("begin the checkpoint", err))
		return
	}
	m.dump = d
	m.cancel(m.health.next)
	if wire.SendJSON(d.socket, wire.Prepare, wire.PrepareBody{Init: m.init.pid, Checkpoint: &d.body.Images}, m.planFD) != nil {
		_ = unix.PidfdSendSignal(d.pidfd, unix.SIGKILL, nil, 0) // it would wait for that
	}
	m.watch(m.init.pidfd, 0, func(uint32) {}) // until it is known what its end means
	m.watch(d.pidfd, unix.EPOLLIN, func(uint32) { m.dumpEnded() })
}

// dumpEnded reaps the driver and hears what became of the checkpoint.
func (m *Monitor) dumpEnded() {
	d := m.dump
	if pid, _ := unix.Wait4(d.pid, nil, unix.WNOHANG, nil); pid != d.pid {
		return
	}
	kind, body, _, err := wire.Receive(d.socket, m.buf[:])
	m.forget(d.pidfd)
	_ = unix.Close(d.socket)
	d.child = child{pidfd: -1, socket: -1}
	f := &wire.Failure{Step: "checkpoint"}
	switch {
	case err == nil && kind == wire.Ready:
		m.dumpOver(nil)
	case err == nil && kind == wire.Failed:
		_ = coldjson.Unmarshal(body, f)
		m.dumpOver(f)
	default:
		d.until = time.Now().Add(drive.ImagePatience)
		m.watch(m.init.pidfd, unix.EPOLLIN, func(uint32) {
			m.watch(m.init.pidfd, 0, func(uint32) {})
			d.until = time.Now().Add(lastSteps)
		})
		m.awaitCRIU()
	}
}

// awaitCRIU waits for a CRIU whose driver was killed, as it goes on without that. What it
// completes counts.
func (m *Monitor) awaitCRIU() {
	d := m.dump
	turn, err := drive.Turn(path.Dir(d.body.Images.Dir), 0)
	if err == unix.EWOULDBLOCK && time.Now().Before(d.until) {
		m.after(turnWait, m.awaitCRIU)
		return
	}
	f := &wire.Failure{Step: "checkpoint", Text: "it was given up"}
	if err == nil {
		if drive.Complete(d.body.Images.Dir, d.body.Images.Work) {
			f = nil
			if err := drive.Keep(d.body.Images.Dir); err != nil {
				f = wire.Fail("keep the checkpoint", err)
			}
		}
		_ = unix.Close(turn)
	}
	m.dumpOver(f)
}

// dumpOver tells what became of the checkpoint; f is nil if it was made.
func (m *Monitor) dumpOver(f *wire.Failure) {
	d := m.dump
	m.dump = nil
	m.run.Dumping = false
	if f == nil && !d.body.Leave {
		m.dumped, m.stopping = true, true
		m.env.Teardown.Remove = m.env.Teardown.Remove && !d.body.Stay
	} else {
		_ = m.noteDump(false)
		if m.env.Health != nil {
			m.scheduleProbe()
		}
	}
	m.letGoOfPlan()
	if f != nil {
		d.client.sendJSON(wire.Failed, f)
	} else {
		d.client.sendJSON(wire.Ack, nil)
	}
	if m.isAide() {
		m.watch(m.init.pidfd, unix.EPOLLIN, func(uint32) { m.leave() })
		return
	}
	m.watch(m.init.pidfd, unix.EPOLLIN, func(uint32) { m.initExited() })
}

// noteDump writes down whether a checkpoint is being made that ends the container.
// Beside conmon who has asked for it has done so: an aide has no part in the run.
func (m *Monitor) noteDump(ends bool) error {
	m.run.Dumping = ends
	if m.isAide() {
		return nil
	}
	return m.record.Write(&m.run, false)
}

// letGoOfPlan closes the plan that an aide has got with the request for a checkpoint:
// by a lock on it others see that there is one.
func (m *Monitor) letGoOfPlan() {
	if m.isAide() && m.planFD >= 0 {
		_ = unix.Close(m.planFD)
		m.planFD = -1
	}
}

// endDump gives a checkpoint up, if CRIU does not complete it by itself.
func (m *Monitor) endDump() {
	if m.dump != nil {
		_ = unix.PidfdSendSignal(m.dump.pidfd, unix.SIGKILL, nil, 0)
	}
}

// takeRestored takes the process that the runtime has restored, and its
// terminal.
func (m *Monitor) takeRestored(body []byte, fds []int) *wire.Failure {
	if len(fds) == 1 && m.env.Terminal {
		m.streams.terminal(fds[0])
	}
	if f := m.takeForeign(body); f != nil {
		return f
	}
	m.restores = false
	m.run.PID = m.init.pid
	m.run.PIDStart, _ = procfs.StartTime(m.init.pid)
	m.run.Checkpointed, m.run.Restored = time.Time{}, time.Now()
	if err := m.record.Write(&m.run, false); err != nil {
		return wire.Fail("write run file", err)
	}
	if !m.env.Teardown.Remove {
		m.holdRoot()
	}
	m.writePidFile()
	return nil
}
