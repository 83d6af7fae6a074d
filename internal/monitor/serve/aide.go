package serve

import (
	"os"
	"runtime"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/ctrinit"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/procfs"
)

// Where conmon is the monitor, an aide of ours does for the container what
// conmon does not: it puts further processes into it for one client, or, if the
// container has a health check, is on networks with names or has the network of
// an ordinary user, it lives beside it for that, listens at the monitor's socket, and keeps a run file of its own for
// the outcome of the checks. It has no part in the container's life: it is told
// which process is the container's, and ends with it.

// Aide is the whole life of the process; it does not return. Descriptor 3 is
// the socket to cove.
func Aide() {
	closeBut(0)
	runtime.LockOSThread()
	debug.SetGCPercent(20)
	setName("cove-aide")
	m := newMonitor()
	m.foreign, m.orphans = true, true
	if f := m.bootAide(); f != nil {
		_ = wire.SendJSON(control, wire.Failed, f)
		os.Exit(1)
	}
	for len(m.clients) > 0 || len(m.execs) > 0 || m.dump != nil || !m.ended && m.hasDuties() {
		m.step()
	}
	os.Exit(0)
}

// isAide tells whether conmon is the container's monitor.
func (m *Monitor) isAide() bool { return m.env.Init != nil }

// hasDuties tells whether the aide is there for more than one client.
func (m *Monitor) hasDuties() bool {
	return m.env.Health != nil || m.env.Resolver != nil || m.env.Uplink != nil || m.lan >= 0
}

func (m *Monitor) bootAide() *wire.Failure {
	if _, err := unix.Setsid(); err != nil && err != unix.EPERM {
		return wire.Fail("setsid", err)
	}
	unix.CloseOnExec(control)
	var err error
	if m.exe, err = ctrinit.Self(); err != nil {
		return wire.Fail("seal own program", err)
	}
	if f := m.receiveStart(make([]byte, wire.Max)); f != nil {
		return f
	}
	if f := m.findInit(); f != nil {
		return f
	}
	if m.dir, err = unix.Open(m.env.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return wire.Fail("open "+m.env.Dir, err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return wire.Fail("take in orphans", err)
	}
	if f := enterCgroups(m.env.MonitorCgroups); f != nil {
		return f
	}
	if f := m.moveIn(); f != nil {
		return f
	}
	if f := m.startUplink(); f != nil {
		return f
	}
	if f := m.uplinkReady(); f != nil {
		return f
	}
	if err := m.loop.open(); err != nil {
		return wire.Fail("epoll", err)
	}
	m.watch(m.init.pidfd, unix.EPOLLIN, func(uint32) { m.leave() })
	m.watchOrphans()
	m.adopt(control)
	if m.record == nil {
		return nil
	}
	m.run = cove.Run{Generation: m.env.Generation, BootID: m.env.BootID, PID: m.init.pid, PIDStart: m.env.Init.Start, MonitorPID: os.Getpid(), Started: m.init.started}
	m.run.MonitorStart, _ = procfs.StartTime(m.run.MonitorPID)
	if m.env.Health != nil {
		m.run.Health = &cove.Health{Status: "starting"}
	}
	if err := m.record.Write(&m.run, false); err != nil {
		return wire.Fail("write the aide's run file", err)
	}
	m.openSocket()
	m.startNames()
	if f := m.startPorts(); f != nil {
		return f
	}
	m.keepUplink()
	m.startHealth()
	if err := wire.Send(control, wire.Ready, nil); err != nil {
		return wire.Fail("report", err)
	}
	return nil
}

// findInit gets hold of the container's process.
func (m *Monitor) findInit() *wire.Failure {
	const step = "find the container's process"
	p := m.env.Init
	if p == nil {
		return &wire.Failure{Step: step, Text: "none was told"}
	}
	fd, err := procfs.Open(p.PID, p.Start)
	if err != nil {
		return wire.Fail(step, err)
	}
	m.init = child{pid: p.PID, pidfd: fd, socket: -1, started: m.env.Started}
	return nil
}

// leave is the end of the container for its aide. Its clients hear of their
// own processes' ends only.
func (m *Monitor) leave() {
	m.stopHealth()
	m.endNames()
	m.endUplink()
	m.endPorts()
	m.releasePorts()
	m.forgetSignals()
	m.forget(m.init.pidfd)
	m.init.pid, m.ended = 0, true
	if m.listen >= 0 {
		m.forget(m.listen)
		m.listen = -1
	}
	if m.record != nil {
		_ = unix.Flock(m.record.FD(), unix.LOCK_UN)
	}
	for _, c := range m.clients {
		if c.exec == nil {
			c.close()
		}
	}
}

// watchOrphans reaps what processes put into the container leave behind, and
// makes the socket anew on demand.
func (m *Monitor) watchOrphans() {
	m.onSignals(func(s syscall.Signal) {
		if s == unix.SIGCHLD {
			m.reapStrays()
		} else if m.record != nil && !m.ended {
			m.openSocket()
		}
	}, unix.SIGCHLD, unix.SIGUSR1)
}
