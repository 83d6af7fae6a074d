package engine

import (
	"context"
	"errors"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
)

// PruneContainers removes what has ended or was never started, as far as the
// filters choose it, and gives IDs and, at the same places, the bytes that each
// gave back.
func (e *Engine) PruneContainers(ctx context.Context, filters map[string][]string) (ids []string, sizes []int64, err error) {
	// Those that their monitors have removed already leave their records.
	if err := e.update(func(state.Tx) error { return nil }); err != nil {
		return nil, nil, err
	}
	list, err := e.List(ctx, ListOptions{All: true, Filters: filters})
	if err != nil {
		return nil, nil, err
	}
	var errs []error
	for i := range list {
		c := &list[i]
		if c.Status != cove.Created && c.Status != cove.Exited && c.Status != cove.Removing {
			continue // the last is a removal that was cut short
		}
		e.measure(c)
		// Without force: one that was started meanwhile stays.
		switch err := e.Remove(ctx, c.ID, RemoveOptions{}); {
		case err == nil:
			ids, sizes = append(ids, c.ID), append(sizes, max(c.SizeRw, 0))
		case cove.Is(err, cove.NotFound), cove.Is(err, cove.WrongStatus), cove.Is(err, cove.InUse):
			// gone, running, or others share its namespaces
		default:
			errs = append(errs, err)
		}
	}
	return ids, sizes, errors.Join(errs...)
}
