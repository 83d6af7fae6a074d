package engine

import (
	"context"
	"os"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/logs"
	"github.com/cove-engine/cove/internal/rootless"
)

// hostUser is whose monitors and events ours are, as the host has it.
func hostUser() int {
	if uid, _, ordinary := rootless.User(); ordinary {
		return uid
	}
	return os.Geteuid()
}

// Logs calls each for every line that a container has written, in order, and
// returns each's error. Following ends when the container's monitor has: a
// restart by policy is waited for. A line's Text is valid during the call only.
func (e *Engine) Logs(ctx context.Context, nameOrID string, o LogOptions, each func(LogLine) error) error {
	rec, err := e.find(nameOrID)
	if err != nil {
		return err
	}
	driver, path := e.logDriver(rec), e.logPath(rec)
	match, user := e.unitEntries(rec, driver), hostUser()
	switch {
	case match != nil:
		driver, user = logs.Journald, -1 // the container's users are any
	case noOutput(driver, "read logs") != nil:
		return noOutput(driver, "read logs")
	case driver == logs.Journald:
		path = rec.ID
	case rec.Spec.Monitor != "":
		driver = logs.K8sFile // conmon has one format, whatever it is called
	}
	tail := -1
	if o.Tail != nil {
		tail = *o.Tail
	}
	err = logs.Read(ctx, logs.Options{
		Path: path, Driver: driver, Match: match, User: user, Tail: tail, Since: o.Since, Until: o.Until,
		Follow: o.Follow, Idle: o.Idle,
		Done: func() bool {
			// The monitor writes the last of the log before it lets go.
			return !alive(e.dir(rec.ID))
		},
	}, func(l logs.Line) error { return each(LogLine(l)) })
	if now, err := e.look(rec); err == nil {
		e.heal(ctx, &now)
	}
	if cove.Is(err, cove.NoFile) {
		// Nothing was ever written, or the container has just gone.
		_, err = e.find(rec.ID)
	}
	return err
}
