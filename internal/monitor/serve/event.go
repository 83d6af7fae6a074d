package serve

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/coldjson"
	"github.com/cove-engine/cove/internal/journal"
)

// describe makes an event of the container's.
func (m *Monitor) describe(status string, code int, now time.Time) cove.Event {
	e := cove.Event{ID: m.env.ID, Image: m.env.Events.Image, Name: m.env.Name, Status: status, Time: now, Type: "container", Attributes: m.env.Events.Labels}
	switch status {
	case "died", "exec_died", "remove":
		e.ExitCode = &code
	case "health_status":
		h := m.run.Health
		e.Health, e.HealthStreak = h.Status, h.FailingStreak
		if n := len(h.Log); n > 0 {
			e.HealthLog = h.Log[n-1].Output
		}
	}
	return e
}

// event tells the journal, or appends to the event log: one write, so lines do
// not mix. Several statuses are one after the other; code is for those that have
// one.
func (m *Monitor) event(code int, statuses ...string) {
	if m.env.Events == nil {
		return
	}
	var lines []byte
	for _, status := range statuses {
		lines = append(lines, m.tell(m.describe(status, code, time.Now()))...)
	}
	if len(lines) > 0 {
		appendEvent(m.env.Events.Path, lines, m.env.Events.Max)
	}
}

// tell tells the journal of an event, or gives its line for the log.
func (m *Monitor) tell(e cove.Event) (line []byte) {
	if m.env.Events.Path == "" {
		var entry journal.Entry
		(&journal.Event{
			Store: m.env.Events.Store, Status: e.Status, Type: e.Type, Image: e.Image, Name: e.Name, ID: e.ID, Time: e.Time, ExitCode: e.ExitCode, Labels: e.Attributes, Health: e.Health, HealthStreak: e.HealthStreak, HealthLog: e.HealthLog,
		}).Entry(&entry)
		_ = m.journal.Send(&entry)
		return nil
	}
	line, err := coldjson.Marshal(e)
	if err != nil {
		return nil
	}
	return append(line, '\n')
}

// appendEvent appends lines to the event log. One that has become too long is
// put aside as commands do it (package event): health checks and restarts write
// for months without one. It waits for nobody's lock; then it gets longer.
func appendEvent(path string, line []byte, most int64) {
	for range 3 { // as often as others put it aside
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return
		}
		mine, err := f.Stat()
		full := err == nil && most > 0 && mine.Size() > 0 && mine.Size()+int64(len(line)) > most/2
		if full && unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			if named, err := os.Lstat(path); err != nil || !os.SameFile(mine, named) || os.Rename(path, path+".1") == nil {
				_ = f.Close()
				continue
			}
		}
		_, _ = f.Write(line)
		_ = f.Close()
		return
	}
}
