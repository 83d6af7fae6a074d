package serve

import (
	"errors"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup/oom"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/rootfs"
)

// stop ends the container: sig now, SIGKILL after timeout seconds, no restart
// by policy.
func (m *Monitor) stop(sig int, timeout uint) {
	m.stopping = true
	m.endDump()
	switch {
	case m.init.pid == 0 && m.hook != nil:
		// The end has come already, and its hooks run.
		if sig == int(unix.SIGKILL) {
			m.hook.Kill()
		}
		return
	case m.init.pid == 0:
		// Between two runs of a restart policy.
		m.finish()
		return
	case m.preparing():
		m.callOff()
		return
	}
	if sig == 0 {
		return
	}
	m.run.Stopping = true
	_ = m.record.Write(&m.run, false)
	m.terminate(sig, timeout)
}

// terminate sends init a signal, and SIGKILL if it has not ended in so many
// seconds.
func (m *Monitor) terminate(sig int, timeout uint) {
	m.forgetSignals()
	m.signalHeard(unix.Signal(sig), 2*time.Millisecond)
	if sig != int(unix.SIGKILL) {
		m.killTimer = m.after(time.Duration(timeout)*time.Second, func() {
			m.killTimer = nil
			_ = unix.PidfdSendSignal(m.init.pidfd, unix.SIGKILL, nil, 0)
		})
	}
}

// signalHeard sends init a signal when it is not lost on it: a command that has
// just begun may not have its handlers yet. It looks again after a pause.
func (m *Monitor) signalHeard(sig unix.Signal, pause time.Duration) {
	m.signalTimer = nil
	if !procfs.Drops(m.init.pid, sig) {
		_ = unix.PidfdSendSignal(m.init.pidfd, sig, nil, 0)
		return
	}
	m.signalTimer = m.after(pause, func() { m.signalHeard(sig, min(2*pause, 100*time.Millisecond)) })
}

// forgetSignals sends init none of those that are still due.
func (m *Monitor) forgetSignals() {
	m.cancel(m.signalTimer)
	m.cancel(m.killTimer)
	m.signalTimer, m.killTimer = nil, nil
}

// initExited reaps init and decides what comes next.
func (m *Monitor) initExited() {
	var ws unix.WaitStatus
	if pid, _ := unix.Wait4(m.init.pid, &ws, unix.WNOHANG, nil); pid != m.init.pid {
		return
	}
	m.init.pid = 0
	m.forget(m.init.pidfd)
	m.forgetSignals()
	m.stopHealth()
	// The exit is not told before nothing of the container runs any more.
	m.emptyCgroups()
	m.drainOutput()
	m.closeStreams()
	m.run.OOMKilled = oom.Killed(m.env.Cgroups)
	m.deleteForeign() // and its cgroups

	code := ws.ExitStatus()
	if ws.Signaled() {
		code = 128 + int(ws.Signal())
	}
	if m.dumped {
		code, m.run.Checkpointed, m.run.Restored = 0, time.Now(), time.Time{}
	}
	m.run.PID, m.run.PIDStart, m.run.Stopping, m.run.Execs = 0, 0, false, nil
	m.run.ExitCode, m.run.Finished = code, time.Now()
	switch {
	case m.dumped: // told by who has asked for it, as podman's
	case m.tellStop:
		m.event(code, "stop", "died")
	default:
		m.event(code, "died")
	}
	if m.mayRestart(code) {
		m.restartLater()
		return
	}
	m.finish()
}

// mayRestart applies the restart policy and what was decided about an unhealthy
// run, unless a user wants the end.
func (m *Monitor) mayRestart(code int) bool {
	p := cove.RestartPolicy{Name: m.env.Restart.Policy, MaxRetries: m.env.Restart.Retries}
	return !m.stopping && (m.unhealthy() || p.Restarts(code, m.run.Restarts))
}

// unhealthy tells that the last run was ended for its health.
func (m *Monitor) unhealthy() bool { return m.run.Health != nil && m.run.Health.Restart }

// restartLater starts init anew after a pause.
func (m *Monitor) restartLater() {
	m.backoff = longer(m.backoff, m.init.started)
	if !m.unhealthy() { // it is the policy's
		m.run.Restarts++
	}
	m.run.RestartDue = true
	_ = m.record.Write(&m.run, false)
	m.dropRoot()
	m.after(m.backoff, m.restart)
}

// longer is the pause before a next start: it doubles with every one whose
// process lasted less than ten seconds.
func longer(pause time.Duration, started time.Time) time.Duration {
	const first, longest = 100 * time.Millisecond, time.Minute
	if pause == 0 || time.Since(started) > 10*time.Second {
		return first
	}
	return min(2*pause, longest)
}

// restart runs init once more: same network namespace, leases, ports and
// cgroup, everything else new.
func (m *Monitor) restart() {
	if !m.ended {
		m.poststop()
	}
	if m.ended || m.stopping {
		m.finish()
		return
	}
	m.thaw()
	f := m.cloneInit(m.env.Terminal, m.env.Stdin, m.env.Unified)
	if f == nil {
		f = m.prepareInit()
	}
	if f == nil {
		f = m.letGo()
	}
	if f != nil {
		m.killInit()
		m.deleteForeign()
		if !m.calledOff { // or the last exit is the last
			m.run.Error = f.Error()
			m.run.ExitCode, m.run.Finished = 125, time.Now()
		}
		m.finish()
		return
	}
	m.event(0, "restart", "init", "start")
	m.startHealth()
	m.poststart(nil)
}

// finish is the end of the last run: the exit is recorded, told, and what
// belonged to the run is taken down.
func (m *Monitor) finish() {
	if m.ended {
		return
	}
	m.ended = true
	m.run.RestartDue = false
	if !m.run.Poststop {
		m.conclude()
		return
	}
	// The exit counts from now on, whatever becomes of us while the hooks run;
	// they need the directory that --rm takes away. Not in here: it may be in
	// the middle of a client's message.
	_ = m.record.Write(&m.run, true)
	m.after(0, func() {
		m.poststop()
		m.conclude()
	})
}

// conclude is finish once the hooks have had their say.
func (m *Monitor) conclude() {
	m.over = true
	t := &m.env.Teardown
	m.run.Removed = t.Remove
	recorded := m.recordEnd()
	exit := wire.ExitBody{Code: m.run.ExitCode, OOMKilled: m.run.OOMKilled}
	for _, c := range m.clients {
		if c.watch && c.exec == nil {
			c.sendJSON(wire.Exit, exit)
		}
	}
	down := m.teardown()
	if !t.Remove && down {
		m.run.Down = true
		recorded = m.record.Write(&m.run, false) == nil && recorded
	}
	for _, c := range m.clients {
		c.sendJSON(wire.Done, nil)
	}
	if !recorded {
		m.recordLater()
	}
	if t.Remove && down { // as long as it has something, the next write takes down what is left
		// Nobody needs to wait for it: its place is taken already.
		_ = rootfs.Empty(t.Removed)
	}
	if recorded {
		m.letGoOfRun()
	}
}

// recordEnd records the exit, and with --rm the removal.
func (m *Monitor) recordEnd() bool {
	t := &m.env.Teardown
	if !t.Remove {
		err := m.renewRecord(true)
		if errors.Is(err, unix.ENOENT) { // the whole store is gone: nobody will ask
			err = m.record.Write(&m.run, false)
		}
		return err == nil
	}
	if err := unix.Rename(m.env.Dir, t.Removed); err != nil && err != unix.ENOENT {
		return false
	}
	// Nobody has a use for an exit of its that outlives a power loss.
	return m.record.Write(&m.run, false) == nil
}

// letGoOfRun leaves the container to others. What is left to do is to serve who
// has not read everything yet, a pager's client for one, and may never do so.
// (A scope of systemd's has the container's name and our process in it: there
// others wait for the end of both.)
func (m *Monitor) letGoOfRun() {
	for _, dir := range m.env.MonitorCgroups {
		if strings.Contains(dir, m.env.ID) {
			return
		}
	}
	m.record.LetGo()
}

// recordLater stays until the exit is recorded: a file system that has become
// read-only may be written to again, and nobody else knows the exit.
func (m *Monitor) recordLater() {
	m.unrecorded = true
	m.after(time.Second, func() {
		if !m.recordEnd() {
			m.recordLater()
			return
		}
		m.unrecorded = false
		if m.env.Teardown.Remove {
			_ = rootfs.Empty(m.env.Teardown.Removed)
		}
		m.letGoOfRun()
	})
}

// releasePorts closes the sockets that reserved published ports, so that the
// next container may have them.
func (m *Monitor) releasePorts() {
	for _, fd := range m.ports {
		_ = unix.Close(fd)
	}
	m.ports = nil
}

func (m *Monitor) dropRoot() {
	if m.root >= 0 {
		_ = unix.Close(m.root)
		m.root = -1
	}
}
