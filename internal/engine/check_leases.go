package engine

import (
	"net/netip"
	"slices"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
)

// leases compares the address leases with the containers' attachments.
func (k *survey) leases() {
	names := map[string]bool{}
	for _, n := range k.networks {
		names[n.Name] = true
	}
	for _, c := range k.records {
		for _, a := range c.Attachments {
			names[a.Network] = true
		}
	}
	for name := range names {
		var off []leaseOff
		err := k.e.store.View(func(tx state.Tx) (err error) {
			off, err = leasesOff(tx, name)
			return err
		})
		k.fail(err)
		for _, l := range off {
			k.suspicions = append(k.suspicions, suspicion{
				Difference: Difference{Kind: "lease", Object: l.addr.String() + " on " + name, Owner: l.owner, Problem: l.problem()},
				still: func() (is bool, err error) {
					err = k.e.store.View(func(tx state.Tx) error {
						now, err := leasesOff(tx, name)
						is = slices.Contains(now, l)
						return err
					})
					return is, err
				},
				repair: func() error {
					return k.e.update(func(tx state.Tx) error { return fixLease(tx, name, l) })
				},
			})
		}
	}
}

// leaseOff is an address that is leased and in no record (extra), or in a
// record and not leased to it.
type leaseOff struct {
	addr  netip.Addr
	owner string
	extra bool
}

func (l leaseOff) problem() string {
	if l.extra {
		return "leased, and no container has the address"
	}
	return "the container has the address without a lease"
}

func leasesOff(tx state.Tx, name string) ([]leaseOff, error) {
	want, unread := map[netip.Addr]string{}, map[string]bool{}
	err := tx.List(state.Containers, func(id string, raw []byte) error {
		c, err := decodeContainer(id, raw)
		if err != nil {
			unread[id] = true // it keeps its addresses
			return nil
		}
		for _, a := range c.Attachments {
			for _, p := range a.Addresses {
				if a.Network == name {
					want[p.Addr()] = id
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var off []leaseOff
	err = tx.Leases(name, func(a netip.Addr, owner string) error {
		if want[a] == owner {
			delete(want, a)
		} else if !unread[owner] {
			off = append(off, leaseOff{a, owner, true})
		}
		return nil
	})
	for a, owner := range want {
		off = append(off, leaseOff{addr: a, owner: owner})
	}
	slices.SortFunc(off, func(x, y leaseOff) int { return x.addr.Compare(y.addr) })
	return off, err
}

// fixLease frees an address that no record has, or leases to an owner what its
// record has.
func fixLease(tx state.Tx, name string, l leaseOff) error {
	now, err := leasesOff(tx, name)
	if err != nil || !slices.Contains(now, l) {
		return err
	}
	if l.extra {
		return tx.Free(name, l.addr)
	}
	c := new(cove.Container)
	if err := tx.Get(state.Containers, l.owner, c); err != nil {
		if cove.Is(err, cove.NotFound) {
			return nil
		}
		return err
	}
	for _, a := range c.Attachments {
		if a.Network != name {
			continue
		}
		for _, p := range a.Addresses {
			if _, err := tx.Lease(name, p.Masked(), p.Addr(), p.Addr(), p.Addr(), nil, c.ID); err != nil {
				return err
			}
		}
	}
	return nil
}
