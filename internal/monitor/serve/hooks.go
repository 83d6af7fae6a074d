package serve

import (
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/ctrinit/hook"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/plan"
)

// A hook may take any time, and may wait for what we do: while one runs, here,
// in init or in another OCI runtime, the loop goes on within the step that
// waits for it. So a start with hooks can be called off at any moment, by its
// cove's end or by a stop on our socket. So can one by another runtime, which
// may hang.

// hooks are those of one point and what they are told.
func (m *Monitor) hooks(point string, of func(*plan.Hooks) []plan.Hook, status string, pid int) *wire.Failure {
	if m.env.Hooks == nil {
		return nil
	}
	err := m.unspared()
	if err != nil {
		return wire.HookFailure(err)
	}
	defer m.forked()
	err = hook.Run(point, of(m.env.Hooks), m.env.Hooks.In(status, pid), m.awaitHook)
	if m.calledOff {
		return errCalledOff
	}
	return wire.HookFailure(err)
}

var errCalledOff = &wire.Failure{Text: "it was stopped before it had started"}

// awaitHook lets the loop go on until a hook has ended.
func (m *Monitor) awaitHook(r *hook.Running) {
	m.hook = r
	if m.calledOff {
		r.Kill()
	}
	ended := false
	m.watch(r.Ended, unix.EPOLLIN, func(uint32) { ended = true })
	m.watch(r.Out, unix.EPOLLIN, func(uint32) {
		if !r.Listen() {
			m.unwatch(r.Out)
		}
	})
	var limit *timer
	if r.Limit > 0 {
		limit = m.after(r.Limit, r.Expire)
	}
	for !ended {
		m.step()
	}
	m.cancel(limit)
	m.unwatch(r.Ended)
	m.unwatch(r.Out)
	m.hook = nil
}

// awaitInit lets the loop go on until init, which may be running hooks, or the
// driver in its place has something to say or has ended. (A restore is not
// called off: CRIU would leave half of the processes.)
func (m *Monitor) awaitInit() {
	if m.env.Hooks == nil && (!m.foreign || m.restores) {
		return
	}
	spoken := false
	m.watch(m.init.socket, unix.EPOLLIN, func(uint32) { spoken = true })
	for !spoken {
		m.step()
	}
	m.unwatch(m.init.socket)
	m.cancel(m.driverTimer)
}

// untilGone calls the start off when its cove is gone.
func (m *Monitor) untilGone() {
	m.openSocket() // for those who want to stop it
	m.watch(control, unix.EPOLLIN, func(uint32) {
		m.unwatch(control)
		m.callOff()
	})
}

// preparing tells whether there is an init that has not been let go, or a driver
// that has its runtime start it.
func (m *Monitor) preparing() bool {
	return m.init.pid != 0 && (m.run.PID == 0 || m.driver.pid != 0)
}

// callOff ends a start that is being prepared: whoever waits for a hook or for
// init finds it ended.
func (m *Monitor) callOff() {
	m.calledOff = true
	if m.hook != nil {
		m.hook.Kill()
	}
	if m.foreign {
		m.callOffDriver()
		return
	}
	_ = unix.PidfdSendSignal(m.init.pidfd, unix.SIGKILL, nil, 0)
}

// outside runs the hooks that come before the container's root is its own.
func (m *Monitor) outside() *wire.Failure {
	f := m.hooks("prestart", func(h *plan.Hooks) []plan.Hook { return h.Prestart }, "creating", m.init.pid)
	if f == nil {
		f = m.hooks("createRuntime", func(h *plan.Hooks) []plan.Hook { return h.CreateRuntime }, "creating", m.init.pid)
	}
	return f
}

// poststart runs the hooks that follow a start, tells the cove that waits for
// them, and then looks out for init's end. A container whose hooks fail is
// ended.
func (m *Monitor) poststart(starter *client) {
	f := m.hooks("poststart", func(h *plan.Hooks) []plan.Hook { return h.Poststart }, "running", m.init.pid)
	if f != nil {
		m.run.Error = f.Error()
		m.stop(int(unix.SIGKILL), 0)
	}
	if starter != nil && m.hasPoststart() {
		if f != nil {
			starter.sendJSON(wire.Failed, f)
		} else {
			starter.sendJSON(wire.Hooked, nil)
		}
	}
	m.watch(m.init.pidfd, unix.EPOLLIN, func(uint32) { m.initExited() })
}

func (m *Monitor) hasPoststart() bool { return m.env.Hooks != nil && len(m.env.Hooks.Poststart) > 0 }

// poststop runs the hooks of a run's end, once, whether it has begun or hooks
// before that have failed. None keeps the next from its turn.
func (m *Monitor) poststop() {
	if !m.hooked {
		return
	}
	m.hooked, m.calledOff = false, false
	for i := range m.env.Hooks.Poststop {
		f := m.hooks("poststop", func(h *plan.Hooks) []plan.Hook { return h.Poststop[i : i+1] }, "stopped", 0)
		if f != nil && m.run.Error == "" {
			m.run.Error = f.Error()
		}
	}
	m.run.Poststop = false
}
