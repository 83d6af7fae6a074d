package engine

import (
	"errors"

	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/state"
)

// Renumber makes the locks anew for what there is, after lock_type or
// num_locks was changed in containers.conf.
func (e *Engine) Renumber() error {
	if err := e.prepareHome(); err != nil {
		return err
	}
	var objects []lock.Object
	err := e.store.View(func(tx state.Tx) error {
		objects = nil
		for bucket, kind := range map[state.Bucket]lock.Kind{state.Containers: lock.Container, state.Volumes: lock.Volume} {
			err := tx.List(bucket, func(id string, _ []byte) error {
				objects = append(objects, lock.Object{Kind: kind, ID: id})
				return nil
			})
			if err != nil {
				return err
			}
		}
		return tx.List(state.Networks, func(id string, raw []byte) error {
			n, err := decodeNetwork(tx, id, raw)
			if err != nil && !errors.Is(err, state.ErrDamaged) {
				return err
			}
			objects = append(objects, lock.Object{Kind: lock.Network, ID: n.Name})
			return nil
		})
	})
	if err != nil {
		return err
	}
	return e.locks.Renumber(objects)
}
