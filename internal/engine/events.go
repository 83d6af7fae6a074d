package engine

import (
	"context"
	"errors"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/event"
)

// Events calls each for every event that the filters choose, in order, and
// returns each's error. A zero since begins with now when following and with
// the first event kept otherwise; a zero until is the end of ctx when
// following. Filters are podman's: container, image, volume, network, event,
// type, label.
func (e *Engine) Events(ctx context.Context, since, until time.Time, follow bool, filters map[string][]string, each func(cove.Event) error) error {
	var args []string
	for key, values := range filters {
		for _, v := range values {
			args = append(args, key+"="+v)
		}
	}
	filter, err := event.ParseFilter(args)
	if err != nil {
		return err
	}
	backend := event.Backend(e.conf.File.Engine.EventsLogger)
	if backend == event.ToNone {
		return cove.E("read events", "", cove.Unsupported, errors.New(`cannot read events with the "none" logger: set events_logger in containers.conf to file`))
	}
	o := event.ReadOptions{Path: e.conf.EventLog(), Filter: filter, Since: since, Until: until, Follow: follow}
	if backend == event.ToJournald {
		return event.ReadJournal(ctx, e.conf.GraphRoot, hostUser(), o, each)
	}
	return event.Read(ctx, o, nil, each)
}
