package journal

import (
	"encoding/json"
	"strconv"
	"time"
)

// Identifier is the SYSLOG_IDENTIFIER of events.
const Identifier = "cove"

// Names of an event's fields, podman's but for the store's, which tells whose
// engine's event it is.
const (
	FieldStore        = "COVE_STORE"
	FieldEvent        = "PODMAN_EVENT"
	FieldType         = "PODMAN_TYPE"
	FieldTime         = "PODMAN_TIME"
	FieldImage        = "PODMAN_IMAGE"
	FieldName         = "PODMAN_NAME"
	FieldID           = "PODMAN_ID"
	FieldExitCode     = "PODMAN_EXIT_CODE"
	FieldLabels       = "PODMAN_LABELS"
	FieldHealth       = "PODMAN_HEALTH_STATUS"
	FieldHealthStreak = "PODMAN_HEALTH_FAILING_STREAK"
	FieldHealthLog    = "PODMAN_HEALTH_LOG"
	FieldNetwork      = "PODMAN_NETWORK_NAME"
	FieldError        = "PODMAN_ERROR"
	FieldInspectData  = "PODMAN_CONTAINER_INSPECT_DATA"
)

// Event is what an entry tells of an event.
type Event struct {
	Store, Status, Type, Image, Name, ID, Health, HealthLog, Network, Error, InspectData string

	Time         time.Time
	ExitCode     *int
	HealthStreak int
	Labels       map[string]string
}

// Entry writes the event into entry.
func (e *Event) Entry(entry *Entry) {
	entry.Reset()
	text := e.Type + " " + e.Status
	if e.ID != "" {
		text += " " + e.ID
	}
	switch {
	case e.Type == "container":
		text += " (image=" + e.Image + ", name=" + e.Name + ")"
	case e.Name != "":
		text += " " + e.Name
	}
	entry.AddString("MESSAGE", text)
	entry.AddString("PRIORITY", Info)
	entry.AddString("SYSLOG_IDENTIFIER", Identifier)
	entry.AddString(FieldStore, e.Store)
	entry.AddString(FieldEvent, e.Status)
	entry.AddString(FieldType, e.Type)
	entry.AddString(FieldTime, e.Time.Format(time.RFC3339Nano))
	entry.AddString(FieldImage, e.Image)
	entry.AddString(FieldName, e.Name)
	entry.AddString(FieldID, e.ID)
	entry.AddString(FieldHealth, e.Health)
	if e.Health != "" {
		entry.AddString(FieldHealthStreak, strconv.Itoa(e.HealthStreak))
		entry.AddString(FieldHealthLog, e.HealthLog)
	}
	entry.AddString(FieldNetwork, e.Network)
	entry.AddString(FieldError, e.Error)
	entry.AddString(FieldInspectData, e.InspectData)
	if e.ExitCode != nil {
		entry.AddString(FieldExitCode, strconv.Itoa(*e.ExitCode))
	}
	if len(e.Labels) > 0 {
		if text, err := json.Marshal(e.Labels); err == nil {
			entry.Add(FieldLabels, text)
		}
	}
}
