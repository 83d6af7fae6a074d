package serve

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// prober runs the container's health check by the clock.
type prober struct {
	next, limit *timer
	running     *execution
	asked       []*client // who waits for the present probe
	output      []byte
	pipe        int
	began       time.Time
	again       bool // the present probe is the second try to begin it
	// Of the startup check: that it has been passed in this run, and how often
	// it has succeeded and failed.
	started             bool
	successes, failures int
}

// startHealth begins checking a run, which has been recorded as starting.
func (m *Monitor) startHealth() {
	m.health.again = false
	if m.env.Health == nil {
		return
	}
	m.health.pipe = -1
	m.health.started, m.health.successes, m.health.failures = m.env.Health.Startup == nil, 0, 0
	m.scheduleProbe()
}

// changeHealth puts another check in the place of the present one, nil for none. A
// probe that is under way counts for nothing any more. What is known of the
// container's health stays.
func (m *Monitor) changeHealth(conf *wire.Health) {
	h := &m.health
	if e := h.running; e != nil {
		e.done, e.failed = func(int) {}, func(*wire.Failure) {} // it stays our own, of which no event tells
		if e.pid != 0 {
			e.kill()
		}
		h.running = nil
		m.forget(h.pipe)
		h.pipe = -1
	}
	h.again = false
	m.stopHealth()
	before := m.env.Health
	m.env.Health = conf
	switch {
	case conf == nil:
		m.run.Health = nil
	case m.run.Health == nil:
		m.run.Health = &cove.Health{Status: "starting"}
	}
	_ = m.record.Write(&m.run, false)
	switch {
	case conf == nil || m.init.pid == 0: // of the run to come
	case before == nil:
		m.startHealth()
	default:
		h.started = conf.Startup == nil || h.started && before.Startup != nil
		m.scheduleProbe()
	}
}

func (m *Monitor) scheduleProbe() {
	if _, interval, _ := m.check(); interval > 0 && m.init.pid != 0 {
		m.cancel(m.health.next)
		m.health.next = m.after(interval, func() { m.probe() })
	}
}

// check gives what is to be run next, and when, and how long it may take.
func (m *Monitor) check() (plan []byte, interval, timeout time.Duration) {
	h := m.env.Health
	if m.health.started {
		return h.Plan, h.Interval, h.Timeout
	}
	return h.Startup.Plan, h.Startup.Interval, h.Startup.Timeout
}

// stopHealth ends checking with its run.
func (m *Monitor) stopHealth() {
	m.cancel(m.health.next)
	m.cancel(m.health.limit)
	m.health.next, m.health.limit = nil, nil
	for _, c := range m.health.asked {
		c.sendJSON(wire.Failed, wire.Failure{Step: "health check", Text: "the container has ended"})
	}
	m.health.asked = nil
}

// probeNow runs a check for a client and tells it the exit code.
func (m *Monitor) probeNow(c *client) {
	if m.env.Health == nil || m.init.pid == 0 {
		c.sendJSON(wire.Failed, wire.Failure{Step: "health check", Text: "the container has no health check that could run"})
		return
	}
	m.health.asked = append(m.health.asked, c)
	m.probe()
}

func (m *Monitor) probe() {
	h := &m.health
	if h.running != nil {
		return
	}
	if m.dump != nil || m.standsStill(m.initCgroup()) {
		m.leaveOut()
		return
	}
	plan, err := unix.MemfdCreate("plan", unix.MFD_CLOEXEC)
	if err != nil {
		m.probed(-1, err.Error())
		return
	}
	text, _, timeout := m.check()
	_, err = unix.Write(plan, text)
	var p [2]int
	if err == nil {
		err = unix.Pipe2(p[:], unix.O_CLOEXEC)
	}
	if err != nil {
		_ = unix.Close(plan)
		m.probed(-1, err.Error())
		return
	}
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		null = p[1]
	}
	second, _ := unix.FcntlInt(uintptr(p[1]), unix.F_DUPFD_CLOEXEC, 0)
	h.began, h.output, h.pipe = time.Now(), nil, p[0]
	_ = unix.SetNonblock(h.pipe, true)
	e := &execution{master: -1}
	h.running = e
	e.failed = func(f *wire.Failure) {
		switch {
		case h.running != e:
		case m.standsStill(m.initCgroup()): // since it was asked for: an OCI runtime refuses it, too
			m.endProbe()
			m.leaveOut()
		case m.foreign && !h.again: // which may have done so for a pause that is over
			m.endProbe()
			h.again = true
			m.cancel(h.next)
			h.next = m.after(0, m.probe)
		default:
			m.probed(-1, f.Error())
		}
	}
	e.done = func(code int) { // of one that has failed to begin, too
		if h.running == e {
			m.readProbe(capacity(h.pipe))
			m.probed(code, string(h.output))
		}
	}
	m.watch(h.pipe, unix.EPOLLIN, func(uint32) { m.readProbe(4 * len(m.buf)) })
	m.limitProbe(e, timeout, timeout)
	m.launch(e, plan, []int{null, p[1], second}, nil)
}

// leaveOut is what comes of a probe while the container stands still: nothing.
func (m *Monitor) leaveOut() {
	for _, c := range m.health.asked {
		c.sendJSON(wire.Failed, wire.Failure{Step: "health check", Text: "its processes stand still: its cgroup is frozen, or a checkpoint is being made"})
	}
	m.health.asked, m.health.again = nil, false
	m.scheduleProbe()
}

// limitProbe ends a probe when its time is over, of which what is left is told. While
// its container stands still none of it goes by, as far as eight looks can tell.
func (m *Monitor) limitProbe(e *execution, timeout, left time.Duration) {
	h, tick := &m.health, timeout/8
	h.limit = m.after(tick, func() {
		if h.running != e || e.pid == 0 {
			return
		}
		if !m.standsStill(m.initCgroup()) {
			left -= tick
		}
		if left >= tick && tick > 0 {
			m.limitProbe(e, timeout, left)
			return
		}
		e.kill()
		e.done = func(int) {
			if h.running == e {
				m.probed(-1, "Health check exceeded timeout ("+timeout.String()+")")
			}
		}
	})
}

// readProbe reads about most bytes of a probe's output. It keeps the beginning of
// all and drops the rest.
func (m *Monitor) readProbe(most int) {
	h := &m.health
	for most > 0 && h.pipe >= 0 {
		n, err := unix.Read(h.pipe, m.buf[:])
		most -= n
		if err == unix.EAGAIN || err == unix.EINTR {
			return
		}
		if err != nil || n == 0 {
			m.forget(h.pipe)
			h.pipe = -1
			return
		}
		if room := limit(m.env.Health.LogSize, cove.HealthLogSize, cove.MaxHealthLogSize) - len(h.output); room > 0 {
			h.output = append(h.output, m.buf[:min(n, room)]...)
		}
	}
}

// limit is what a number that may not be asked for, or be 0 for none, comes to.
func limit(asked *uint, usual, most int) int {
	switch {
	case asked == nil:
		return usual
	case *asked == 0 || *asked > uint(most):
		return most
	}
	return int(*asked)
}

// probed records the outcome of a probe and acts on it.
func (m *Monitor) probed(code int, output string) {
	h, conf := &m.health, m.env.Health
	if h.running == nil {
		return
	}
	m.endProbe()
	h.again = false
	state := m.run.Health
	state.Log = append(state.Log, cove.HealthProbe{Start: h.began, End: time.Now(), ExitCode: code, Output: output})
	if extra := len(state.Log) - limit(conf.LogCount, cove.HealthLogCount, cove.MaxHealthLogCount); extra > 0 {
		state.Log = append([]cove.HealthProbe(nil), state.Log[extra:]...)
	}
	before := state.Status
	switch {
	case code == 0:
		state.FailingStreak, state.Status = 0, "healthy"
	case !h.started:
	case state.Status == "starting" && time.Since(m.run.Started) < conf.StartPeriod:
	default:
		state.FailingStreak++
		if state.FailingStreak >= conf.Retries {
			state.Status = "unhealthy"
		}
	}
	failed := !h.started && m.startupProbed(code)
	_ = m.record.Write(&m.run, false)
	for _, c := range h.asked {
		c.sendJSON(wire.Exit, wire.ExitBody{Code: code})
	}
	h.asked = nil
	if m.env.Events != nil && !m.env.Events.NoHealth {
		m.event(0, "health_status")
	}
	if failed {
		m.endForHealth()
	}
	if state.Status == "unhealthy" && before != "unhealthy" && m.init.pid != 0 {
		m.actUnhealthy()
	}
	m.scheduleProbe()
}

// endProbe lets go of what the present probe has had.
func (m *Monitor) endProbe() {
	h := &m.health
	h.running = nil
	m.forget(h.pipe)
	h.pipe = -1
	m.cancel(h.limit)
	h.limit = nil
}

// startupProbed counts an outcome of the startup check and tells whether it has
// failed for good.
func (m *Monitor) startupProbed(code int) (failed bool) {
	h, conf := &m.health, m.env.Health.Startup
	if code == 0 {
		h.successes++
		h.started = h.successes >= conf.Successes
		return false
	}
	h.failures++
	return conf.Retries > 0 && h.failures >= conf.Retries && m.init.pid != 0
}

// endForHealth stops the run as a user would, for another to follow it whatever
// the restart policy.
func (m *Monitor) endForHealth() {
	if m.stopping || m.unhealthy() {
		return // the first word has set the time
	}
	m.run.Health.Restart = true
	_ = m.record.Write(&m.run, false)
	m.terminate(m.env.StopSignal, m.env.StopTimeout)
}

// actUnhealthy is --health-on-failure, podman-run(1).
func (m *Monitor) actUnhealthy() {
	switch m.env.Health.OnFailure {
	case "kill":
		_ = unix.PidfdSendSignal(m.init.pidfd, unix.SIGKILL, nil, 0)
	case "restart":
		m.endForHealth()
	case "stop":
		m.stop(m.env.StopSignal, m.env.StopTimeout)
	}
}
