package serve

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
)

// execution is one process put into the running container. Its streams are
// the client's own pipes; with a terminal the client gets the master and we
// keep a copy, so that the terminal outlives a client that detaches.
type execution struct {
	child
	client   *client // nil once it is gone, or for our own probes
	master   int
	detached bool
	done     func(code int) // for our own probes
	failed   func(f *wire.Failure)
}

// joined are the namespaces an exec enters; the pid namespace is entered by
// its birth.
const joined = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP

// startExec starts a process for a client. fds: the plan, then its streams.
func (m *Monitor) startExec(c *client, body wire.ExecBody, fds []int) {
	plan, stdio := fds[0], fds[1:]
	e := &execution{client: c, master: -1, detached: body.Detach}
	c.exec = e
	e.failed = func(f *wire.Failure) {
		if e.client != nil {
			e.client.sendJSON(wire.Failed, f)
		}
	}
	m.launch(e, plan, stdio)
}

// launch clones the process and sends it its plan; the rest follows in the
// loop. It closes the descriptors given to it.
func (m *Monitor) launch(e *execution, plan int, stdio []int) {
	defer func() {
		_ = unix.Close(plan)
		for _, fd := range stdio {
			_ = unix.Close(fd)
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
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		e.failed(wire.Fail("open /dev/null", err))
		return
	}
	defer unix.Close(null)
	streams := [3]int{null, null, null}
	copy(streams[:], stdio)
	in, flags := m.inPidNamespace, uintptr(0)
	if m.foreign {
		flags = unix.CLONE_NEWNS
		in = func(_ int, f func() error) error { return f() }
	}
	err = in(m.init.pidfd, func() (err error) {
		e.child, err = m.clone(m.execProgram(), streams, flags, m.env.Unified)
		if err == unix.EBUSY {
			// A cgroup that hands controllers down has no members, cgroups(7).
			e.child, err = m.clone(m.execProgram(), streams, flags, m.initCgroup())
		}
		return err
	})
	if err == unix.ENOMEM && m.initEnds() {
		err = unix.ESRCH // a process namespace that is being taken down takes nobody in, pid_namespaces(7)
	}
	if err != nil {
		e.failed(wire.Fail("start exec", err))
		return
	}
	m.execs[e.pidfd] = e
	var f *wire.Failure
	body := wire.PrepareBody{Cgroups: m.legacyCgroups()}
	if m.foreign {
		body.Init = m.init.pid
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
	m.watch(e.socket, unix.EPOLLIN, func(uint32) { m.execSpoke(e) })
	m.watch(e.pidfd, unix.EPOLLIN, func(uint32) { m.execExited(e) })
	if f != nil {
		_ = unix.PidfdSendSignal(e.pidfd, unix.SIGKILL, nil, 0)
		e.failed(f)
	}
}

// initEnds tells whether the container's first process is just ending: its
// memory is gone. Its descriptor tells only when all others of its namespace
// are reaped, and execs are ours to reap.
func (m *Monitor) initEnds() bool {
	memory, err := os.ReadFile("/proc/" + strconv.Itoa(m.init.pid) + "/statm")
	return err != nil || strings.HasPrefix(string(memory), "0 ")
}

// execSpoke handles what an exec says before it has become the command: that
// it is ready, that it failed, or, by closing the socket, that it has.
func (m *Monitor) execSpoke(e *execution) {
	buf := make([]byte, 8192)
	kind, body, fds, err := wire.Receive(e.socket, buf)
	switch {
	case err != nil:
		m.forget(e.socket)
		e.socket = -1
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
		_ = json.Unmarshal(body, f)
		e.failed(f)
		e.failed = func(*wire.Failure) {}
		e.client = nil
	}
}

// execExited reaps an exec and tells its client.
func (m *Monitor) execExited(e *execution) {
	var ws unix.WaitStatus
	if pid, _ := unix.Wait4(e.pid, &ws, unix.WNOHANG, nil); pid != e.pid {
		return
	}
	delete(m.execs, e.pidfd)
	m.forget(e.pidfd)
	for e.socket >= 0 { // its last words; the end of file ends it
		m.execSpoke(e)
	}
	m.forget(e.master)
	code := ws.ExitStatus()
	if ws.Signaled() {
		code = 128 + int(ws.Signal())
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
