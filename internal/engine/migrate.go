package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
)

// MigrateOptions are those of system migrate.
type MigrateOptions struct {
	// NewRuntime is the OCI runtime that all containers get.
	NewRuntime string
}

// Migration tells what has been moved. Without From and To the records are
// where they were.
type Migration struct {
	From, To string // back ends
	Records  int
}

// Migrate moves the records to the configured back end and this release's
// layout.
func (e *Engine) Migrate(ctx context.Context, o MigrateOptions) (Migration, error) {
	name := o.NewRuntime
	if name == "native" || name == "cove" {
		name = ""
	}
	if _, err := e.foreign(&cove.Container{Spec: cove.ContainerSpec{Runtime: name}}); err != nil {
		return Migration{}, err
	}
	m, err := e.migrate()
	if err == nil && o.NewRuntime != "" {
		err = e.changeRuntime(ctx, name)
	}
	return m, err
}

// changeRuntime gives every container another OCI runtime, "" cove's own. One that runs keeps
// the one that has made it, and is an error; the others are changed all the
// same.
func (e *Engine) changeRuntime(ctx context.Context, name string) error {
	var ids []string
	if err := e.store.View(func(tx state.Tx) error {
		return tx.List(state.Containers, func(id string, _ []byte) error {
			ids = append(ids, id)
			return nil
		})
	}); err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		h, err := e.holdAsIs(ctx, id)
		if cove.Is(err, cove.NotFound) {
			continue // gone in the meantime
		}
		if err != nil {
			return err
		}
		switch {
		case h.Spec.Runtime == name:
		case h.Status != cove.Created && h.Status != cove.Exited:
			err = cove.E("change OCI runtime of container", h.Name, cove.WrongStatus, fmt.Errorf("it is %s; stop it first", h.Status))
		default:
			err = e.update(func(tx state.Tx) error {
				c := new(cove.Container)
				if err := tx.Get(state.Containers, id, c); err != nil {
					return err
				}
				c.Spec.Runtime = name
				return tx.Put(state.Containers, id, c)
			})
		}
		h.release()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
