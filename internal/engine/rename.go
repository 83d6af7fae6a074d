package engine

import (
	"context"
	"errors"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/state"
)

// Rename gives a container another name.
func (e *Engine) Rename(ctx context.Context, nameOrID, newName string) error {
	if err := validName("container", newName); err != nil {
		return err
	}
	h, err := e.hold(ctx, nameOrID)
	if err != nil {
		return err
	}
	defer h.release()
	err = e.update(func(tx state.Tx) error {
		c := new(cove.Container)
		if err := tx.Get(state.Containers, h.ID, c); err != nil {
			return err
		}
		if c.Intent == cove.BeingRemoved {
			return cove.E("rename container", c.Name, cove.WrongStatus, errors.New("it is removing"))
		}
		if err := tx.Claim(state.Containers, newName, c.ID); err != nil {
			return err
		}
		if c.Name == newName {
			return nil
		}
		if err := tx.Release(state.Containers, c.Name); err != nil {
			return err
		}
		c.Name = newName
		return tx.Put(state.Containers, c.ID, c)
	})
	if err != nil {
		return err
	}
	h.Name = newName
	e.emit(&h.Container.Container, "rename")
	e.tellName(&h.Container)
	return nil
}

// tellName tells who else writes the container's events which name it has now: its
// monitor, be it between two runs, or the aide beside conmon. As with the events
// themselves, that it does not succeed is no reason to fail.
func (e *Engine) tellName(c *Container) {
	if monitorStopped(c) != nil {
		return
	}
	dial := e.dial
	if c.Spec.Monitor != "" {
		dial = func(c *Container) (*monitor.Conn, error) { return monitor.Dial(e.socket(c.ID)) }
	}
	if conn, err := dial(c); err == nil {
		_ = conn.Request(wire.Rename, wire.RenameBody{Name: c.Name})
		conn.Close()
	}
}
