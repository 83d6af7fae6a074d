package event

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/journal"
	"github.com/cove-engine/cove/internal/journal/journalctl"
)

// Back ends, in the words of containers.conf's events_logger.
const (
	ToFile     = "file"
	ToJournald = "journald"
	ToNone     = "none"
)

// Backend is the one that events go to where logger is asked for: a host that
// has no journal keeps them in the file.
func Backend(logger string) string {
	switch {
	case logger == ToNone:
		return ToNone
	case logger == ToJournald && journal.Present():
		return ToJournald
	}
	return ToFile
}

// Journal is the Writer to systemd's journal.
type Journal struct {
	// Store names whose events they are: all engines of a host share the
	// journal.
	Store string

	mu     sync.Mutex // guards socket and entry
	socket journal.Socket
	entry  journal.Entry
}

// Write sends e as one entry.
func (j *Journal) Write(e cove.Event) error {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	(&journal.Event{
		Store: j.Store, Status: e.Status, Type: e.Type, Image: e.Image, Name: e.Name, ID: e.ID, Health: e.Health, HealthStreak: e.HealthStreak, HealthLog: e.HealthLog, Network: e.Network,
		Error: e.Error, InspectData: e.InspectData, Time: e.Time, ExitCode: e.ExitCode, Labels: e.Attributes,
	}).Entry(&j.entry)
	if err := j.socket.Send(&j.entry); err != nil {
		return cove.E("write event", "", cove.Unavailable, err)
	}
	return nil
}

// ReadJournal is Read for the events of a user's store in systemd's journal.
func ReadJournal(ctx context.Context, store string, user int, o ReadOptions, each func(cove.Event) error) error {
	q := journalctl.Query{
		Fields: []string{
			journal.FieldEvent, journal.FieldType, journal.FieldTime, journal.FieldImage, journal.FieldName, journal.FieldID, journal.FieldExitCode,
			journal.FieldLabels, journal.FieldHealth, journal.FieldHealthStreak, journal.FieldHealthLog, journal.FieldNetwork, journal.FieldError, journal.FieldInspectData,
		},
		Match: []string{"SYSLOG_IDENTIFIER=" + journal.Identifier, journal.FieldStore + "=" + store},
		User:  user,
	}
	if o.Follow && o.Since.IsZero() && o.Until.IsZero() {
		o.Since = time.Now()
	}
	if !o.Since.IsZero() {
		// The journal's times are when it was told.
		q.Since = o.Since.Add(-time.Second)
	}
	some := func(entry journalctl.Entry) error {
		q.After = string(entry["__CURSOR"])
		e, ok := fromJournal(entry)
		if !ok || !o.Since.IsZero() && e.Time.Before(o.Since) || !o.Until.IsZero() && e.Time.After(o.Until) || !o.Filter.Match(e) {
			return nil
		}
		return each(e)
	}
	if o.Follow {
		following := ctx
		if !o.Until.IsZero() {
			var cancel context.CancelFunc
			following, cancel = context.WithDeadline(ctx, o.Until)
			defer cancel()
		}
		q.Follow = true
		if err := journalctl.Read(following, q, some); err != nil || following == ctx || ctx.Err() != nil {
			return err
		}
		q.Follow = false // Until has come: the rest is what there is by now
	}
	journalctl.Sync(ctx)
	return journalctl.Read(ctx, q, some)
}

// fromJournal reads an entry; ok is false when it is not an event.
func fromJournal(entry journalctl.Entry) (e cove.Event, ok bool) {
	text := func(name string) string { return string(entry[name]) }
	at, err := time.Parse(time.RFC3339Nano, text(journal.FieldTime))
	if err != nil {
		return e, false
	}
	e = cove.Event{
		ID: text(journal.FieldID), Image: text(journal.FieldImage), Name: text(journal.FieldName), Network: text(journal.FieldNetwork),
		Status: text(journal.FieldEvent), Time: at, Type: text(journal.FieldType), Health: text(journal.FieldHealth), Error: text(journal.FieldError),
		InspectData: text(journal.FieldInspectData), HealthLog: text(journal.FieldHealthLog),
	}
	e.HealthStreak, _ = strconv.Atoi(text(journal.FieldHealthStreak)) // none where there is none
	if code, err := strconv.Atoi(text(journal.FieldExitCode)); err == nil {
		e.ExitCode = &code
	}
	if labels := entry[journal.FieldLabels]; labels != nil && json.Unmarshal(labels, &e.Attributes) != nil {
		e.Attributes = nil
	}
	return e, e.Status != "" && e.Type != ""
}
