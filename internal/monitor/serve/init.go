package serve

import (
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup/oom"
	"github.com/cove-engine/cove/internal/coldjson"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/procfs"
)

// kept is a descriptor that a command gets from whoever has asked for it.
type kept struct{ number, fd int }

// clone starts our own program as a child that speaks over a socket on its
// descriptor 3, or behind those of keep, and dies with this thread, in the version 2
// cgroup at path unless that is empty.
func (m *Monitor) clone(name string, stdio [3]int, keep []kept, flags uintptr, cgroup string) (child, error) {
	ours, theirs, err := wire.ChildPair()
	if err != nil {
		return child{}, err
	}
	defer unix.Close(theirs)
	cgroupFD := -1
	if cgroup != "" && !m.birthless {
		if cgroupFD, err = unix.Open(cgroup, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			_ = unix.Close(ours)
			return child{}, err
		}
		defer unix.Close(cgroupFD)
	}
	pidfd := -1
	args, files := []string{name}, []uintptr{uintptr(stdio[0]), uintptr(stdio[1]), uintptr(stdio[2])}
	for _, k := range keep {
		for len(files) <= k.number {
			files = append(files, ^uintptr(0)) // closed
		}
		files[k.number] = uintptr(k.fd)
	}
	exe := m.exe
	if len(keep) > 0 {
		args = append(args, strconv.Itoa(len(files)))
		// The child looks for it when the others have their places.
		if exe, err = unix.FcntlInt(uintptr(exe), unix.F_DUPFD_CLOEXEC, len(files)+1); err != nil {
			_ = unix.Close(ours)
			return child{}, err
		}
		defer unix.Close(exe)
	}
	attr := &syscall.ProcAttr{
		// The container's init does nothing in parallel. Runtimes look for
		// programs: CRIU, hooks.
		Env:   []string{"GOMAXPROCS=1", "GOGC=off", "PATH=" + os.Getenv("PATH")},
		Files: append(files, uintptr(theirs)),
		Sys: &syscall.SysProcAttr{
			// Pdeathsig is left to the child: package syscall would compare
			// its parent's pid across pid namespaces and kill it.
			Cloneflags:  flags,
			PidFD:       &pidfd,
			UseCgroupFD: cgroupFD >= 0,
			CgroupFD:    cgroupFD,
		},
	}
	if err := m.unspared(); err != nil {
		_ = unix.Close(ours)
		return child{}, err
	}
	path, pid := "/proc/self/fd/"+strconv.Itoa(exe), 0
	if cgroupFD >= 0 && m.init.pid != 0 { // whose cgroup may be frozen
		pid, pidfd, err = bear(path, args, attr.Env, attr.Files, len(files), flags, cgroupFD)
	} else {
		pid, err = syscall.ForkExec(path, args, attr)
	}
	m.forked()
	if err != nil {
		_ = unix.Close(ours)
		return child{}, err
	}
	if pidfd < 0 {
		if pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = unix.Wait4(pid, nil, 0, nil)
			_ = unix.Close(ours)
			return child{}, err
		}
	}
	if cgroup != "" && m.birthless {
		if err := writeFile(cgroup+"/cgroup.procs", []byte(strconv.Itoa(pid))); err != nil {
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = unix.Wait4(pid, nil, 0, nil)
			_ = unix.Close(pidfd)
			_ = unix.Close(ours)
			return child{}, err
		}
	}
	unix.CloseOnExec(pidfd)
	return child{pid: pid, pidfd: pidfd, socket: ours}, nil
}

// cloneInit starts init in its new namespaces and its cgroup of version 2,
// before it is known what it will be.
func (m *Monitor) cloneInit(terminal, stdin bool, cgroup string) *wire.Failure {
	theirs, err := m.streams.open(terminal, stdin)
	if err != nil {
		return wire.Fail("make the container's streams", err)
	}
	m.liftTasks(cgroup)
	m.init, err = m.clone(m.program(), theirs, m.keep, m.flags, cgroup)
	m.streams.closeTheirs(theirs)
	for _, k := range m.keep {
		_ = unix.Close(k.fd) // the other end waits for the command alone
	}
	m.keep = nil
	if err != nil {
		return wire.Fail("clone init", err)
	}
	return nil
}

// prepareInit sends init its plan and waits until it is ready.
func (m *Monitor) prepareInit() *wire.Failure {
	msg := wire.PrepareBody{Cgroups: m.legacyCgroups(), Unread: m.streams.err >= 0}
	if m.restores {
		msg.Restore = &m.env.Restore.Images
	}
	fds := []int{m.planFD}
	for _, ns := range m.spaces {
		msg.Namespaces, msg.Held = append(msg.Namespaces, ns.flag), append(msg.Held, ns.fd)
		fds = append(fds, ns.fd)
	}
	if m.shm >= 0 {
		msg.Shm = true
		fds = append(fds, m.shm)
	}
	if m.proc >= 0 {
		msg.Proc = true
		fds = append(fds, m.proc)
	}
	m.hooked = m.env.Hooks != nil
	switch err := wire.SendJSON(m.init.socket, wire.Prepare, msg, fds...); {
	case errors.Is(err, unix.EPIPE):
		return m.initDied() // born into a cgroup of version 2 that has no room for it
	case err != nil:
		return wire.Fail("send the plan to init", err)
	}
	m.awaitInit()
	buf := m.buf[:]
	kind, body, got, err := wire.Receive(m.init.socket, buf)
	if err == nil && kind == wire.Mounted {
		if f := m.outside(); f != nil {
			return f
		}
		if err := wire.Send(m.init.socket, wire.Go, nil); err != nil && err != unix.EPIPE {
			return wire.Fail("let init go on", err)
		}
		m.awaitInit()
		kind, body, got, err = wire.Receive(m.init.socket, buf)
	}
	if err != nil {
		return m.initDied()
	}
	switch {
	case kind == wire.Failed && m.calledOff:
		return errCalledOff
	case kind == wire.Failed:
		f := new(wire.Failure)
		if coldjson.Unmarshal(body, f) != nil {
			f.Text = "init failed"
		}
		return f
	case kind != wire.Ready:
		return &wire.Failure{Step: "prepare the container", Text: "unexpected message from init"}
	}
	if len(got) == 1 && m.env.Terminal {
		m.streams.terminal(got[0])
	}
	if m.restores {
		return nil // there is no process yet
	}
	f := m.takeForeign(body)
	if f == nil && m.calledOff {
		f = errCalledOff
	}
	return f
}

// initDied tells how init ended without a word.
func (m *Monitor) initDied() *wire.Failure {
	if m.calledOff {
		return errCalledOff
	}
	if m.driver.pid != 0 { // what it was to start lives, and is ours to end
		return driverDied(m.endDriver())
	}
	var ws unix.WaitStatus
	_, _ = unix.Wait4(m.init.pid, &ws, 0, nil)
	m.init.pid = 0
	text := "init ended with code " + strconv.Itoa(ws.ExitStatus())
	switch {
	case ws.Signaled() && ws.Signal() == unix.SIGKILL && oom.Killed(m.env.Cgroups):
		text = "the memory limit is too low, init was killed for it"
	case ws.Signaled():
		text = "init was ended by a signal: " + ws.Signal().String()
	}
	return &wire.Failure{Step: "prepare the container", Text: text}
}

// release waits for cove's word that everything outside is ready, records the
// run and lets init exec.
func (m *Monitor) release(buf []byte) *wire.Failure {
	if err := wire.Send(control, wire.Ready, nil); err != nil {
		return wire.Fail("report", err)
	}
	for {
		kind, body, fds, err := wire.Receive(control, buf)
		if err != nil {
			// cove was killed before it said go: the start is undone, the
			// record says that it was never more than created.
			m.giveUp(nil)
		}
		if kind == wire.Go {
			var more wire.GoBody
			if body, _, err = wire.Long(body, fds); err == nil {
				err = coldjson.Unmarshal(body, &more)
			}
			if err != nil {
				return wire.Fail("read the go", err)
			}
			t := &m.env.Teardown
			t.Nft, t.Unlink = append(t.Nft, more.Nft...), append(t.Unlink, more.Unlink...)
			break
		}
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}
	// Now that the network is there, lo included, and before the command can
	// ask.
	m.startNames()
	if f := m.startPorts(); f != nil {
		return f
	}
	restored := m.restores
	if f := m.letGo(); f != nil {
		return f
	}
	switch {
	case restored: // told by who has asked for it
	case m.env.AttachOut:
		m.event(0, "init", "start", "attach")
	default:
		m.event(0, "init", "start")
	}
	err := wire.SendJSON(control, wire.Started, wire.StartedBody{PID: m.init.pid, PIDStart: m.run.PIDStart, Monitor: os.Getpid()})
	if err != nil && err != unix.EPIPE { // whoever is gone need not be told, who is there would wait
		return wire.Fail("report", err)
	}
	return nil
}

// letGo records the run and makes init exec. The record comes first: whoever
// finds us killed in between knows which process to look for.
func (m *Monitor) letGo() *wire.Failure {
	m.init.started = time.Now()
	m.run.PID = m.init.pid
	m.run.PIDStart, _ = procfs.StartTime(m.init.pid) // 0 is "not known"
	m.run.Started, m.run.Finished = m.init.started, time.Time{}
	m.run.ExitCode, m.run.OOMKilled, m.run.Error, m.run.Exit, m.run.Down = 0, false, "", "", false
	m.run.RestartDue, m.run.RestartFails = false, false
	m.run.Poststop = m.env.Hooks != nil && len(m.env.Hooks.Poststop) > 0
	m.run.Checkpointed, m.run.Restored = time.Time{}, time.Time{}
	if m.restores {
		m.run.Started, m.run.Checkpointed = m.env.Restore.Started, m.env.Restore.Checkpointed
	}
	if m.env.Health != nil {
		m.run.Health = &cove.Health{Status: "starting"}
	}
	if err := m.record.Write(&m.run, false); err != nil {
		return wire.Fail("write run file", err)
	}
	if !m.env.Teardown.Remove {
		// An exit must find its place on a disk that is full by then.
		if err := m.record.Reserve(); err != nil {
			return wire.Fail("write run file", err)
		}
		m.holdRoot()
	}
	m.writePidFile()
	if err := m.limitTasks(); err != nil {
		return wire.Fail("limit the number of tasks", err)
	}
	switch err := wire.Send(m.init.socket, wire.Go, nil); {
	case err == unix.EPIPE:
		return m.initDied()
	case err != nil:
		return wire.Fail("let init go", err)
	}
	m.awaitInit()
	buf := m.buf[:]
	kind, body, fds, err := m.initSpeaks()
	if err == nil && kind == wire.Started {
		kind, body, err = m.initDescended(body)
	}
	if m.restores && err != nil {
		return m.initDied()
	}
	if m.restores && kind == wire.Ready {
		if f := m.takeRestored(body, fds); f != nil {
			return f
		}
		kind, body, _, err = wire.Receive(m.init.socket, buf)
	}
	_ = unix.Close(m.init.socket)
	m.init.socket = -1
	ws := m.endDriver()
	if m.calledOff {
		return errCalledOff
	}
	if err == nil && kind == wire.Failed {
		f := new(wire.Failure)
		if coldjson.Unmarshal(body, f) != nil {
			f.Text = "init failed"
		}
		return f
	}
	if ws != 0 {
		return driverDied(ws) // perhaps nobody has started the container
	}
	m.streams.start(m)
	return nil
}

// initSpeaks waits for what init says, or the driver in its place, and nobody else
// of a process namespace that is joined.
func (m *Monitor) initSpeaks() (wire.Kind, []byte, []int, error) {
	pid := m.init.pid
	if m.driver.pid != 0 {
		pid = m.driver.pid
	}
	return wire.AwaitFrom(pid, m.init.socket, m.buf[:])
}

// initDescended is descended for init, which has been told to go: what it says
// in the end is its maker's word.
func (m *Monitor) initDescended(body []byte) (wire.Kind, []byte, error) {
	born, err := takeChild(body)
	if err != nil {
		return 0, nil, err
	}
	maker := m.init
	m.init.pid, m.init.pidfd = born.pid, born.pidfd
	m.run.PID = born.pid
	m.run.PIDStart, _ = procfs.StartTime(born.pid)
	if err := m.record.Write(&m.run, false); err != nil {
		m.killInit()
	}
	m.writePidFile()
	_, _ = unix.Wait4(maker.pid, nil, 0, nil)
	_ = unix.Close(maker.pidfd)
	kind, body, _, told := wire.ReceiveFrom(maker.pid, maker.socket, m.buf[:])
	if err == nil {
		err = told
	}
	return kind, body, err
}

// holdRoot keeps init's root mounted: the last unmount of a writable layer syncs its
// file system, and that shall happen after the exit has been told. Its other mounts go
// with it: a tmpfs may have all of the machine's memory, and be what we would need to run.
func (m *Monitor) holdRoot() {
	m.dropRoot()
	m.root, _ = unix.Open("/proc/"+strconv.Itoa(m.init.pid)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// writePidFile tells init's pid to whoever asked for it with --pidfile. The
// path is the user's own.
func (m *Monitor) writePidFile() {
	if m.env.PidFile == "" {
		return
	}
	_ = os.WriteFile(m.env.PidFile, []byte(strconv.Itoa(m.init.pid)), 0o644)
}

// killInit ends init, if there is one, and reaps it.
func (m *Monitor) killInit() {
	m.endDriver()
	if m.init.pid == 0 {
		return
	}
	_ = unix.PidfdSendSignal(m.init.pidfd, unix.SIGKILL, nil, 0)
	_, _ = unix.Wait4(m.init.pid, nil, 0, nil)
	m.init.pid = 0
}
