package cove

import "time"

// Event tells that something happened. Its JSON is podman's.
type Event struct {
	ID       string    `json:"ID,omitempty"`
	Image    string    `json:"Image,omitempty"`
	Name     string    `json:"Name,omitempty"`
	Network  string    `json:"network,omitempty"`
	Status   string    `json:"Status"` // create, init, start, died, remove, pull …
	Time     time.Time `json:"Time"`
	Type     string    `json:"Type"` // container, image, volume, network, system
	ExitCode *int      `json:"ContainerExitCode,omitempty"`
	Health   string    `json:"health_status,omitempty"`
	// HealthStreak counts the probes that have failed in a row, HealthLog is what the
	// last one has printed.
	HealthStreak int               `json:"health_failing_streak,omitempty"`
	HealthLog    string            `json:"health_log,omitempty"`
	Error        string            `json:"error,omitempty"`
	Attributes   map[string]string `json:"Attributes,omitempty"` // labels
	// InspectData is a container's as inspect has it, JSON, when it is created.
	InspectData string `json:"ContainerInspectData,omitempty"`
}
