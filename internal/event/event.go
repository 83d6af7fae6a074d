// Package event writes and reads what happened: to a file, one JSON line per
// event in podman's format, or nowhere.
//
// Any number of processes append to the file without waiting for each other.
// When it has reached half of its greatest size it becomes NAME.1, replacing
// an older one, so both together stay below that size.
package event

import (
	"encoding/json"
	"time"

	"github.com/cove-engine/cove"
)

// Writer records events. It may be used from several goroutines.
type Writer interface {
	// Write records e; a zero e.Time becomes now. It costs well below a
	// tenth of a millisecond and syncs nothing: events are news, not truth.
	Write(e cove.Event) error
}

// None is the Writer that keeps nothing.
type None struct{}

// Write does nothing.
func (None) Write(cove.Event) error { return nil }

// line is an event as podman 5 writes it to its file; its keys differ from
// those it prints.
type line struct {
	ContainerExitCode *int   `json:",omitempty"`
	ID                string `json:",omitempty"`
	Image             string `json:",omitempty"`
	Name              string `json:",omitempty"`
	Network           string `json:"network,omitempty"`
	Status            string
	Time              time.Time
	Type              string
	HealthStatus      string `json:"health_status,omitempty"`
	HealthStreak      int    `json:"health_failing_streak,omitempty"`
	HealthLog         string `json:"health_log,omitempty"`
	Error             string `json:"error,omitempty"`
	Attributes        map[string]string
	InspectData       string `json:"ContainerInspectData,omitempty"`
}

// encode gives e's line with its newline.
func encode(e cove.Event) ([]byte, error) {
	raw, err := json.Marshal(line{
		ContainerExitCode: e.ExitCode, ID: e.ID, Image: e.Image, Name: e.Name, Network: e.Network,
		Status: e.Status, Time: e.Time, Type: e.Type, HealthStatus: e.Health, HealthStreak: e.HealthStreak, HealthLog: e.HealthLog, Error: e.Error, Attributes: e.Attributes,
		InspectData: e.InspectData,
	})
	return append(raw, '\n'), err
}

// decode reads one line; ok is false when it is not an event.
func decode(raw []byte) (e cove.Event, ok bool) {
	var l line
	if json.Unmarshal(raw, &l) != nil || l.Status == "" || l.Type == "" {
		return e, false
	}
	return cove.Event{
		ExitCode: l.ContainerExitCode, ID: l.ID, Image: l.Image, Name: l.Name, Network: l.Network,
		Status: l.Status, Time: l.Time, Type: l.Type, Health: l.HealthStatus, HealthStreak: l.HealthStreak, HealthLog: l.HealthLog, Error: l.Error, Attributes: l.Attributes,
		InspectData: l.InspectData,
	}, true
}
