package engine

import (
	"encoding/json"
	"slices"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
)

// The store keeps beside the records, for each container whose namespaces
// others share or that they require, who they are: looking through all containers for them would
// make a removal the slower the more containers there are.

func dependentsKey(id string) string { return "dependents/" + id }

// dependents are the IDs of the containers that share a container's
// namespaces.
func dependents(tx state.Tx, id string) ([]string, error) {
	raw, err := tx.Meta(dependentsKey(id))
	if err != nil || raw == nil {
		return nil, err
	}
	var ids []string
	if err := json.Unmarshal(raw, &ids); err != nil {
		return nil, cove.E("read record", dependentsKey(id), cove.Internal, err)
	}
	return ids, nil
}

// setDependent records that one container shares another's namespaces, or,
// when it goes, no longer does.
func setDependent(tx state.Tx, on, id string, shares bool) error {
	ids, err := dependents(tx, on)
	if err != nil || slices.Contains(ids, id) == shares {
		return err
	}
	if shares {
		ids = append(ids, id)
	} else if ids = slices.DeleteFunc(ids, func(d string) bool { return d == id }); len(ids) == 0 {
		return tx.SetMeta(dependentsKey(on), nil)
	}
	raw, err := json.Marshal(ids)
	if err != nil {
		return cove.E("write record", dependentsKey(on), cove.Internal, err)
	}
	return tx.SetMeta(dependentsKey(on), raw)
}
