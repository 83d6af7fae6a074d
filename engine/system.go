package engine

import (
	"context"
	"time"

	"github.com/cove-engine/cove"
)

// Info describes the host, the stores and the registries in podman's shape.
// The program's version is the command line's to add. What cannot be found
// out is left empty: info is asked for when something is wrong.
func (e *Engine) Info(ctx context.Context) (Info, error) {
	return e.now().Info(ctx)
}

// Events calls each for every event that the filters choose, in order, and
// returns each's error. A zero since begins with now when following and with
// the first event kept otherwise; a zero until is the end of ctx when
// following. Filters are podman's: container, image, volume, network, event,
// type, label.
func (e *Engine) Events(ctx context.Context, since, until time.Time, follow bool, filters map[string][]string, each func(cove.Event) error) error {
	g, err := e.opened()
	if err != nil {
		return err
	}
	return g.Events(ctx, since, until, follow, filters, each)
}

// Check compares the records with reality, in both directions, and gives each
// difference; with repair it also finishes or undoes what it finds and can.
// quick leaves out what has to look at every process or layer.
//
// Cgroups, links and bridges are shared by all stores of a machine. Ours is
// what belongs to an ID of which this store has a trace: a record, a directory,
// a lock file or a removed-mark. What has none may be another store's and is
// passed over.
//
// First everything is looked at without locks; then, after a moment, each
// suspicion is looked at once more under its object's lock. What somebody is
// working on is no difference.
func (e *Engine) Check(ctx context.Context, repair, quick bool) ([]Difference, error) {
	g, err := e.opened()
	if err != nil {
		return nil, err
	}
	return g.Check(ctx, repair, quick)
}

// DiskUsage measures what images, containers and volumes take. It reads every
// file's size, so it takes time.
func (e *Engine) DiskUsage(ctx context.Context) (DiskUsage, error) {
	return e.now().DiskUsage(ctx)
}
