package engine

import (
	"encoding/json"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
)

// listRecords decodes all records of a bucket, in order of ID.
func listRecords[T any](e *Engine, b state.Bucket) ([]T, error) {
	var all []T
	err := e.store.View(func(tx state.Tx) error {
		all = nil
		return tx.List(b, func(id string, raw []byte) error {
			var v T
			if err := json.Unmarshal(raw, &v); err != nil {
				return cove.E("read record", id, cove.Internal, err)
			}
			all = append(all, v)
			return nil
		})
	})
	return all, err
}
