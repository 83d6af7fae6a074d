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
	// plan and turn are for the driver, and -1 once it has them. The turn is the
	// checkpoint's (drive.Turn): an aide gets it with the request, a monitor takes it.
	plan, turn int
	// until is for how long a CRIU is waited for that has lost the driver.
	until time.Time
	// before is the inode of the images of the checkpoint before, 0 for none: whether those of
	// this one have taken their place.
	before uint64
}

// turnWait is how often is looked whether another checkpoint is made and read, or a health
// check has ended: what that runs in the container would be nobody's after a restore.
const turnWait = 50 * time.Millisecond

// letGo closes what was for the driver: it has that now, or does without.
func (d *dump) letGo(m *Monitor) {
	if m.isAide() && d.plan >= 0 {
		_ = unix.Close(d.plan)
	}
	if d.turn >= 0 {
		_ = unix.Close(d.turn)
	}
	d.plan, d.turn = -1, -1
}

// startDump begins a checkpoint for a client, by deadline. Once begun it does not need him.
func (m *Monitor) startDump(d *dump, deadline time.Time) {
	refuse := func(f *wire.Failure) {
		d.letGo(m)
		d.client.sendJSON(wire.Failed, f)
	}
	switch {
	case d.client.fd < 0: // while it waited
		d.letGo(m)
		return
	case !m.foreign:
		refuse(&wire.Failure{Step: "checkpoint", Text: "cove's own runtime makes none"})
		return
	case m.init.pid == 0 || m.ended:
		refuse(&wire.Failure{Step: "checkpoint", Errno: unix.ESRCH, Text: "the container is not running"})
		return
	}
	if m.dump != nil && m.dump.lost() && d.turn >= 0 { // it came with the turn, which that one's CRIU has not any more
		m.dumpOver(m.criuEnded())
	}
	err := error(unix.EWOULDBLOCK)
	if m.dump == nil && m.health.running == nil {
		err = nil
		if d.turn < 0 {
			d.turn, err = drive.Turn(path.Dir(d.body.Images.Dir), 0)
		}
	}
	if err == unix.EWOULDBLOCK && time.Now().Before(deadline) {
		m.after(turnWait, func() { m.startDump(d, deadline) })
		return
	}
	if err == nil {
		d.before = inode(d.body.Images.Dir)
		err = drive.Anew(d.body.Images.Work)
	}
	if err != nil {
		refuse(wire.Fail("wait for another checkpoint", err))
		return
	}
	err = m.noteDump(!d.body.Leave)
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
	d.child, err = m.clone(driverName, [3]int{null, null, null}, nil, unix.CLONE_NEWNS, "")
	if err != nil {
		m.run.Dumping = false
		refuse(wire.Fail("begin the checkpoint", err))
		return
	}
	m.dump = d
	m.cancel(m.health.next)
	if wire.SendJSON(d.socket, wire.Prepare, wire.PrepareBody{Init: m.init.pid, Checkpoint: &d.body.Images}, d.plan, d.turn) != nil {
		_ = unix.PidfdSendSignal(d.pidfd, unix.SIGKILL, nil, 0) // it would wait for that
	}
	d.letGo(m)
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
		m.endOrphans(d)
		m.awaitCRIU(d)
	}
}

// lost tells whether it has lost its driver.
func (d *dump) lost() bool { return !d.until.IsZero() }

// awaitCRIU waits for a CRIU whose driver was killed, as it goes on without that. What it
// completes counts: one that has ended the container is about to, and is waited for as long
// as it lives.
func (m *Monitor) awaitCRIU(d *dump) {
	if m.dump != d {
		return // it is over
	}
	turn, err := drive.Turn(path.Dir(d.body.Images.Dir), 0)
	if err == unix.EWOULDBLOCK && (time.Now().Before(d.until) || m.initEnded()) {
		m.after(turnWait, func() { m.awaitCRIU(d) })
		return
	}
	f := givenUp()
	if err == nil {
		f = m.criuEnded()
		_ = unix.Close(turn)
	}
	m.dumpOver(f)
}

// endOrphans ends, while CRIU is waited for, what it has left if it was killed, too.
func (m *Monitor) endOrphans(d *dump) {
	if m.dump == d {
		drive.EndOrphans(path.Dir(d.body.Images.Dir))
		m.after(drive.OrphanWait, func() { m.endOrphans(d) })
	}
}

func givenUp() *wire.Failure { return &wire.Failure{Step: "checkpoint", Text: "it was given up"} }

// criuEnded sees to what a CRIU has left that had lost its driver. The turn is ours.
func (m *Monitor) criuEnded() *wire.Failure {
	i := m.dump.body.Images
	if now := inode(i.Dir); now != 0 && now != m.dump.before && !drive.Begun(i.Dir) {
		return nil // a command has seen to it, and to what tells of it
	}
	if !drive.Complete(i.Dir, i.Work) {
		m.goOn()
		return givenUp()
	}
	if err := drive.Keep(i.Dir); err != nil {
		return wire.Fail("keep the checkpoint", err)
	}
	return nil
}

// inode is a file's, 0 where there is none.
func inode(name string) uint64 {
	var st unix.Stat_t
	_ = unix.Lstat(name, &st)
	return st.Ino
}

// initEnded tells whether the container's process has ended, reaped or not.
func (m *Monitor) initEnded() bool {
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(m.init.pidfd), Events: unix.POLLIN}}, 0)
	return n > 0
}

// goOn lets a container go on that a CRIU and its driver have left frozen, and takes away
// what they have written. If that fails the next command does it.
func (m *Monitor) goOn() {
	if m.initEnded() || drive.Call(m.env.Foreign.Runtime, m.env.Foreign.Dir, "resume", []string{m.env.ID}, driverPatience) == nil {
		_ = drive.Discard(m.dump.body.Images.Dir)
	}
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
