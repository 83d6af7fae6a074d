package serve

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// Limits of what is kept of health checks, docker's and podman's defaults.
const (
	healthLogSize   = 5
	healthOutputMax = 500
)

// prober runs the container's health check by the clock.
type prober struct {
	next, limit *timer
	running     *execution
	asked       []*client // who waits for the present probe
	output      []byte
	pipe        int
	began       time.Time
}

// startHealth begins checking a run, which has been recorded as starting.
func (m *Monitor) startHealth() {
	if m.env.Health == nil {
		return
	}
	m.health.pipe = -1
	m.scheduleProbe()
}

func (m *Monitor) scheduleProbe() {
	if h := m.env.Health; h.Interval > 0 && m.init.pid != 0 {
		m.cancel(m.health.next)
		m.health.next = m.after(h.Interval, func() { m.probe() })
	}
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
	plan, err := unix.MemfdCreate("plan", unix.MFD_CLOEXEC)
	if err != nil {
		m.probed(-1, err.Error())
		return
	}
	_, err = unix.Write(plan, m.env.Health.Plan)
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
	e.failed = func(f *wire.Failure) { m.probed(-1, f.Error()) }
	e.done = func(code int) { m.readProbe(capacity(h.pipe)); m.probed(code, string(h.output)) }
	m.watch(h.pipe, unix.EPOLLIN, func(uint32) { m.readProbe(4 * len(m.buf)) })
	h.limit = m.after(m.env.Health.Timeout, func() {
		if h.running == e && e.pid != 0 {
			e.kill()
			e.done = func(int) { m.probed(-1, "Health check exceeded timeout ("+m.env.Health.Timeout.String()+")") }
		}
	})
	m.launch(e, plan, []int{null, p[1], second})
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
		if room := healthOutputMax - len(h.output); room > 0 {
			h.output = append(h.output, m.buf[:min(n, room)]...)
		}
	}
}

// probed records the outcome of a probe and acts on it.
func (m *Monitor) probed(code int, output string) {
	h, conf := &m.health, m.env.Health
	if h.running == nil {
		return
	}
	h.running = nil
	m.forget(h.pipe)
	h.pipe = -1
	m.cancel(h.limit)
	h.limit = nil
	state := m.run.Health
	state.Log = append(state.Log, cove.HealthProbe{Start: h.began, End: time.Now(), ExitCode: code, Output: output})
	if extra := len(state.Log) - healthLogSize; extra > 0 {
		state.Log = append([]cove.HealthProbe(nil), state.Log[extra:]...)
	}
	before := state.Status
	switch {
	case code == 0:
		state.FailingStreak, state.Status = 0, "healthy"
	case state.Status == "starting" && time.Since(m.run.Started) < conf.StartPeriod:
	default:
		state.FailingStreak++
		if state.FailingStreak >= conf.Retries {
			state.Status = "unhealthy"
		}
	}
	_ = m.record.Write(&m.run, false)
	for _, c := range h.asked {
		c.sendJSON(wire.Exit, wire.ExitBody{Code: code})
	}
	h.asked = nil
	if before != state.Status && m.env.Events != nil && !m.env.Events.NoHealth {
		m.event("health_status", 0)
	}
	if state.Status == "unhealthy" && before != "unhealthy" && m.init.pid != 0 {
		m.actUnhealthy()
	}
	m.scheduleProbe()
}

// actUnhealthy is --health-on-failure, podman-run(1).
func (m *Monitor) actUnhealthy() {
	switch m.env.Health.OnFailure {
	case "kill":
		_ = unix.PidfdSendSignal(m.init.pidfd, unix.SIGKILL, nil, 0)
	case "restart":
		m.env.Restart.Policy = "always"
		_ = unix.PidfdSendSignal(m.init.pidfd, unix.SIGKILL, nil, 0)
	case "stop":
		m.stop(m.env.StopSignal, m.env.StopTimeout)
	}
}
