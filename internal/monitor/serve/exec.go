package serve

import (
	"io"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/cgroup/tasks"
	"github.com/cove-engine/cove/internal/coldjson"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/procfs"
)

// execution is one process put into the running container. Its streams are
// the client's own pipes; with a terminal the client gets the master and we
// keep a copy, so that the terminal outlives a client that detaches.
type execution struct {
	child
	// maker is who has had the child, until it has ended: see descended.
	maker     child
	ending    bool // it has been killed, whoever it is
	over      bool // the child has ended before its maker
	descended bool // the child is the command, or is to become it
	taken     bool // the child is the command, which an OCI runtime has made
	id        string
	refused   bool    // it has not become the command
	told      bool    // the event log knows of it
	client    *client // nil once it is gone, or for our own probes
	master    int
	detached  bool
	done      func(code int) // for our own probes
	failed    func(f *wire.Failure)
}

// joined are the namespaces an exec enters.
const joined = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP

// startExec starts a process for a client. fds: the plan, then its streams, then
// what it keeps.
func (m *Monitor) startExec(c *client, body wire.ExecBody, fds []int) {
	plan, stdio := fds[0], fds[1:]
	var keep []kept
	if first := len(stdio) - len(body.Keep); first >= 0 {
		for i, number := range body.Keep {
			keep = append(keep, kept{number, stdio[first+i]})
		}
		stdio = stdio[:first]
	}
	e := &execution{client: c, master: -1, detached: body.Detach, id: body.ID}
	c.exec = e
	e.failed = func(f *wire.Failure) {
		if e.client != nil {
			e.client.sendJSON(wire.Failed, f)
		}
	}
	m.launch(e, plan, stdio, keep)
}

// launch clones the process and sends it its plan; the rest follows in the
// loop. It closes the descriptors given to it.
func (m *Monitor) launch(e *execution, plan int, stdio []int, keep []kept) {
	defer func() {
		_ = unix.Close(plan)
		for _, fd := range stdio {
			_ = unix.Close(fd)
		}
		for _, k := range keep {
			_ = unix.Close(k.fd)
		}
	}()
	if m.init.pid == 0 || m.ended {
		e.failed(&wire.Failure{Step: "exec", Errno: unix.ESRCH, Text: "the container is not running"})
		return
	}
	if m.dump != nil {
		e.failed(&wire.Failure{Step: "exec", Text: "a checkpoint of the container is being made"})
		return
	}
	if m.env.Unified != "" && tasks.Lacking(m.env.Unified) {
		e.failed(&wire.Failure{Step: "start the process", Errno: unix.EAGAIN, Text: "resource temporarily unavailable: the limit of tasks leaves no room for the " + strconv.Itoa(tasks.Ours) + " that an exec takes"})
		return
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		e.failed(wire.Fail("open /dev/null", err))
		return
	}
	defer unix.Close(null)
	streams := [3]int{null, null, null}
	copy(streams[:], stdio)
	flags := uintptr(0)
	if m.foreign {
		flags = unix.CLONE_NEWNS
	}
	// What the engine says of one that it finds paused, which may be so since.
	still := &wire.Failure{Errno: unix.EAGAIN, Text: "can only create exec sessions on running containers: its cgroup is frozen: container state improper"}
	if m.standsStill(m.env.Unified) {
		e.failed(still)
		return
	}
	e.child, err = m.clone(m.execProgram(), streams, keep, flags, m.env.Unified)
	if err == unix.EBUSY {
		// A cgroup that hands controllers down has no members, cgroups(7).
		cgroup := m.initCgroup()
		if m.standsStill(cgroup) {
			e.failed(still)
			return
		}
		e.child, err = m.clone(m.execProgram(), streams, keep, flags, cgroup)
	}
	if err != nil {
		e.failed(wire.Fail("start exec", err))
		return
	}
	m.execs[e.pidfd] = e
	var f *wire.Failure
	body := wire.PrepareBody{Cgroups: m.legacyCgroups()}
	if m.foreign {
		body.Init, body.Unread = m.init.pid, e.client != nil
	} else {
		body.Join = m.joins()
	}
	if m.flags&unix.CLONE_NEWUSER != 0 {
		body.Join |= unix.CLONE_NEWUSER
	}
	if err := wire.SendJSON(e.socket, wire.Prepare, body, plan, m.init.pidfd); err != nil {
		if err == unix.EPIPE {
			err = unix.ESRCH // only the end of the container has killed it that early
		}
		f = wire.Fail("send the plan to exec", err)
	}
	// It need not wait for anybody. If it has failed by now, it says why.
	if err := wire.Send(e.socket, wire.Go, nil); err != nil && err != unix.EPIPE && f == nil {
		f = wire.Fail("let exec go", err)
	}
	m.watch(e.socket, unix.EPOLLIN, func(uint32) { m.execSpoke(e, false) })
	m.watch(e.pidfd, unix.EPOLLIN, func(uint32) { m.execExited(e) })
	if f != nil {
		e.kill()
		e.failed(f)
	}
	m.hurryStill(e)
}

// kill ends the process, also when it has yet to become another's child.
func (e *execution) kill() {
	e.ending = true
	_ = unix.PidfdSendSignal(e.pidfd, unix.SIGKILL, nil, 0)
}

// execSpoke handles what an exec says before it has become the command: that
// it is ready, that it failed, or, by closing the socket, that it has. last
// says that there is nobody left to speak.
func (m *Monitor) execSpoke(e *execution, last bool) {
	maker := e.maker.pid
	if maker == 0 {
		maker = e.pid
	}
	buf := make([]byte, 8192)
	kind, body, fds, err := wire.ReceiveFrom(maker, e.socket, buf)
	switch {
	case err == unix.EAGAIN && !last:
	case err != nil && err != io.EOF && err != unix.EAGAIN:
		// Nobody knows what it has said (no memory, cut short).
		m.forget(e.socket)
		e.socket = -1
		e.kill()
		e.failed(wire.Fail("hear from exec", err))
		e.failed = func(*wire.Failure) {}
		e.client = nil
	case err != nil:
		m.forget(e.socket)
		e.socket = -1
		if m.foreign && !e.taken && !e.refused && e.done == nil {
			// A driver ends with a word, unless it is killed: by us when the container ends.
			e.failed(&wire.Failure{Step: "exec", Errno: unix.ECHILD, Text: "what drives its runtime was killed"})
			e.client, e.refused = nil, true
		}
		if e.done == nil && !e.refused {
			e.told = true
			m.event(0, "exec")
			m.list(e, true)
		}
		if e.client != nil {
			e.client.sendJSON(wire.Started, wire.StartedBody{PID: e.pid})
		}
	case kind == wire.Ready && len(body) > 0 && !m.takeForeignExec(e, body):
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		e.failed(&wire.Failure{Step: "exec", Text: "the OCI runtime's process is gone"})
		e.failed = func(*wire.Failure) {}
		e.client = nil
	case kind == wire.Started && e.maker.pid == 0:
		m.descended(e, body)
	case kind == wire.Ready && len(fds) == 1:
		e.master = fds[0]
		if e.client != nil {
			if wire.SendPacket(e.client.fd, []byte{byte(wire.Ready)}, 0, e.master) != nil {
				e.client.close()
			}
		}
		if e.client == nil || e.detached {
			m.discard(e)
		}
	case kind == wire.Failed:
		f := new(wire.Failure)
		_ = coldjson.Unmarshal(body, f)
		if f.Errno == unix.ENOMEM && procfs.Ending(m.init.pid) {
			f.Errno = unix.ESRCH // a process namespace that is being taken down takes nobody in, pid_namespaces(7)
		}
		e.failed(f)
		e.failed = func(*wire.Failure) {}
		e.client, e.refused = nil, true
	}
}

// descended puts the process that an exec has had in the container's process
// namespace, a child of ours, in its maker's place. That one tells of it before
// it lets it go, and ends when it has become the command.
func (m *Monitor) descended(e *execution, body []byte) {
	born, err := takeChild(body)
	if err != nil {
		e.failed(wire.Fail("start exec", err))
		return
	}
	e.maker, e.descended = e.child, true
	m.replace(e, born.pid, born.pidfd)
	m.watch(e.maker.pidfd, unix.EPOLLIN, func(uint32) { m.makerExited(e) })
	if e.ending {
		e.kill()
	}
}

// replace puts another process in an exec's place; the one before is watched no
// more.
func (m *Monitor) replace(e *execution, pid, pidfd int) {
	delete(m.execs, e.pidfd)
	m.unwatch(e.pidfd)
	e.pid, e.pidfd = pid, pidfd
	m.execs[e.pidfd] = e
	m.watch(e.pidfd, unix.EPOLLIN, func(uint32) { m.execExited(e) })
}

// takeChild opens the child that the body of a Started tells of. Nobody else
// reaps it, so its number is not another's.
func takeChild(body []byte) (child, error) {
	var started wire.StartedBody
	if err := coldjson.Unmarshal(body, &started); err != nil {
		return child{}, err
	}
	if started.PID <= 1 { // these are no process to the kill below
		return child{}, unix.ESRCH
	}
	pidfd, err := unix.PidfdOpen(started.PID, 0)
	if err != nil {
		_ = unix.Kill(started.PID, unix.SIGKILL)
	}
	return child{pid: started.PID, pidfd: pidfd, socket: -1}, err
}

// makerExited reaps who has had an exec's process, and hears its last words.
func (m *Monitor) makerExited(e *execution) {
	if pid, _ := unix.Wait4(e.maker.pid, nil, unix.WNOHANG, nil); pid != e.maker.pid {
		return
	}
	m.forget(e.maker.pidfd)
	for e.socket >= 0 {
		m.execSpoke(e, true)
	}
	e.maker = child{}
	if e.over {
		m.execExited(e)
	}
}

// hurryMaker ends who has had an exec's process, which has ended, if he stands still: a
// process namespace does not end before all that were in it are reaped.
func (m *Monitor) hurryMaker(e *execution) {
	switch {
	case e.maker.pid == 0:
	case m.standsStill(m.initCgroup()):
		_ = unix.PidfdSendSignal(e.maker.pidfd, unix.SIGKILL, nil, 0)
	default:
		m.after(100*time.Millisecond, func() { m.hurryMaker(e) })
	}
}

// hurryStill ends an exec that stands still before it has told of its process, if the
// container ends: nobody would know whom to reap, see endUntold.
func (m *Monitor) hurryStill(e *execution) {
	m.after(100*time.Millisecond, func() {
		switch {
		case e.socket < 0 || e.maker.pid != 0 || m.init.pid == 0:
		case procfs.Ending(m.init.pid) && m.standsStill(m.initCgroup()):
			e.kill()
		default:
			m.hurryStill(e)
		}
	})
}

// execExited reaps an exec and tells its client.
func (m *Monitor) execExited(e *execution) {
	if e.maker.pid != 0 {
		e.over = true // its maker knows whether it was the command by then
		m.unwatch(e.pidfd)
		m.hurryMaker(e)
		return
	}
	for e.socket >= 0 { // its last words; the end of file ends it
		if m.execSpoke(e, true); e.maker.pid != 0 {
			return // they were of another
		}
	}
	var ws unix.WaitStatus
	if pid, _ := unix.Wait4(e.pid, &ws, unix.WNOHANG, nil); pid != e.pid {
		return
	}
	delete(m.execs, e.pidfd)
	m.forget(e.pidfd)
	m.forget(e.master)
	e.pidfd, e.master = -1, -1 // others' by and by; its client may still come to its end
	m.untold = m.untold || !e.descended
	m.endUntold()
	code := ws.ExitStatus()
	if ws.Signaled() {
		code = 128 + int(ws.Signal())
	}
	if e.told {
		m.event(code, "exec_died")
		m.list(e, false)
	}
	if c := e.client; c != nil {
		// First: a client that cannot be told is dropped with its exec.
		c.exec, e.client = nil, nil
		c.sendJSON(wire.Exit, wire.ExitBody{Code: code})
	}
	if e.done != nil {
		e.done(code)
	}
}

// list records that an exec runs, or no longer does, for who looks at the
// container.
func (m *Monitor) list(e *execution, runs bool) {
	if m.run.PID == 0 { // or an aide for this exec alone
		return
	}
	if runs {
		m.run.Execs = append(m.run.Execs, e.id)
	} else {
		m.run.Execs = slices.DeleteFunc(m.run.Execs, func(id string) bool { return id == e.id })
	}
	_ = m.record.Write(&m.run, false)
}

// discard reads and drops the output of a terminal that nobody looks at any
// more, so that its process does not wait for a reader.
func (m *Monitor) discard(e *execution) {
	if e.master < 0 {
		return
	}
	_ = unix.SetNonblock(e.master, true)
	m.watch(e.master, unix.EPOLLIN, func(uint32) {
		if n, err := unix.Read(e.master, m.buf[:]); n == 0 || (err != nil && err != unix.EAGAIN && err != unix.EINTR) {
			m.forget(e.master)
			e.master = -1
		}
	})
}
