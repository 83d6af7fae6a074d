package engine

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/state"
)

// named is a record's ID and name.
type named struct{ id, name string }

// nameIndex compares the names claimed with the records' names.
func (k *survey) nameIndex() {
	for _, b := range []state.Bucket{state.Containers, state.Networks} {
		var extra, missing []named
		err := k.e.store.View(func(tx state.Tx) (err error) {
			extra, missing, err = namesOff(tx, b)
			return err
		})
		k.fail(err)
		for _, n := range extra {
			k.indexed(b, n, "the name is claimed, and no record has it", func(tx state.Tx) error { return tx.Release(b, n.name) })
		}
		for _, n := range missing {
			k.indexed(b, n, "the record's name is not claimed", func(tx state.Tx) error { return tx.Claim(b, n.name, n.id) })
		}
	}
}

// indexed suspects one name; the repair looks again in its own transaction.
func (k *survey) indexed(b state.Bucket, n named, problem string, fix func(state.Tx) error) {
	off := func(tx state.Tx) (bool, error) {
		extra, missing, err := namesOff(tx, b)
		return slices.Contains(extra, n) || slices.Contains(missing, n), err
	}
	k.suspicions = append(k.suspicions, suspicion{
		Difference: Difference{Kind: "name", Object: n.name, Owner: n.id, Problem: problem},
		still: func() (is bool, err error) {
			err = k.e.store.View(func(tx state.Tx) error { is, err = off(tx); return err })
			return is, err
		},
		repair: func() error {
			return k.e.update(func(tx state.Tx) error {
				if is, err := off(tx); err != nil || !is {
					return err
				}
				return fix(tx)
			})
		},
	})
}

// namesOff gives the names that no record has, and the records whose name is
// not theirs.
func namesOff(tx state.Tx, b state.Bucket) (extra, missing []named, err error) {
	buckets := []state.Bucket{b}
	if b == state.Containers {
		buckets = append(buckets, state.Pods) // one space of names
	}
	records, unread := map[string]string{}, map[string]bool{}
	for _, b := range buckets {
		err := tx.List(b, func(id string, raw []byte) error {
			var r struct {
				Name string `json:"name"`
			}
			if err := json.Unmarshal(raw, &r); err != nil {
				unread[id] = true // it keeps its name
				return nil
			}
			records[id] = r.Name
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
	}
	err = tx.Names(b, func(name, id string) error {
		if unread[id] {
			return nil
		}
		if records[id] != name {
			extra = append(extra, named{id, name})
		} else {
			delete(records, id)
		}
		return nil
	})
	for id, name := range records {
		missing = append(missing, named{id, name})
	}
	slices.SortFunc(missing, func(a, b named) int { return strings.Compare(a.id, b.id) })
	return extra, missing, err
}

// unpublished looks for names that running containers have lost: somebody has swept
// the files away by which name servers know them.
func (k *survey) unpublished() {
	e := k.e
	for id := range k.records {
		if !k.running[id] {
			continue
		}
		missing := func() (p publication, is bool, err error) {
			now, err := k.now(id)
			if err != nil || now == nil || now.Run.PID == 0 || pending(&now.Container) {
				return p, false, err
			}
			all, err := e.publications(&now.Container)
			if errors.Is(err, state.ErrDamaged) { // a network's: it is told of by itself
				return p, false, nil
			}
			// Whatever it is called since it was started, its ID is among them.
			i := slices.IndexFunc(all, func(p publication) bool { return p.name == id[:cove.ShortIDLength] && !p.there() })
			if i < 0 {
				return p, false, err
			}
			return all[i], true, err
		}
		p, is, err := missing()
		k.fail(err)
		if !is {
			continue
		}
		k.suspicions = append(k.suspicions, suspicion{
			Difference: Difference{Kind: "name", Object: p.network + "/" + p.name, Owner: id, Problem: "its container runs, and the network's name server does not know it"},
			kind:       lock.Container, id: id, live: true,
			still: func() (bool, error) { _, is, err := missing(); return is, err },
			repair: func() error {
				now, err := k.now(id)
				if err != nil || now == nil {
					return err
				}
				all, err := e.publications(&now.Container)
				for _, p := range all {
					if err == nil && !p.there() {
						err = e.publish(p)
					}
				}
				return err
			},
		})
	}
}

// publications are all names of a container that runs.
func (e *Engine) publications(c *cove.Container) ([]publication, error) {
	var networks []cove.Network
	err := e.store.View(func(tx state.Tx) (err error) {
		networks, err = e.networksOf(tx, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	return e.published(c, networks), nil
}
