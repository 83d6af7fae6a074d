package state

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/cove-engine/cove"
)

// Leased addresses are kept twice: one by one with their owners, and as runs
// of adjacent addresses, so that the next free address after any other is
// found with one look-up however full the network is. All arithmetic is on
// the 16-byte form; IPv4 sits in its mapped range and cannot touch IPv6.

// maxVetoes bounds how many addresses the caller's taken may refuse.
const maxVetoes = 1 << 16

func (t tx) Lease(network string, subnet netip.Prefix, first, last, wanted netip.Addr, taken func(netip.Addr) bool, owner string) (netip.Addr, error) {
	if err := errors.Join(checkKey(Networks, network), checkKey(Networks, owner)); err != nil {
		return netip.Addr{}, err
	}
	subnet = subnet.Masked()
	if taken == nil {
		taken = func(netip.Addr) bool { return false }
	}
	fail := func(kind cove.Kind, format string, args ...any) (netip.Addr, error) {
		return netip.Addr{}, cove.E("lease address", network, kind, fmt.Errorf(format, args...))
	}
	if wanted.IsValid() {
		wanted = wanted.Unmap().WithZone("")
		if !subnet.Contains(wanted) {
			return fail(cove.Invalid, "requested static ip %s not in any subnet on network %s", wanted, network)
		}
		holder, err := t.rows.Get(tableLeases, leaseKey(network, wanted))
		switch {
		case err != nil:
			return netip.Addr{}, err
		case string(holder) == owner:
			return wanted, nil
		case holder != nil:
			return fail(cove.InUse, "requested ip address %s is already allocated to container ID %s", wanted, holder)
		case taken(wanted):
			return fail(cove.InUse, "requested ip address %s is already in use", wanted)
		}
		return wanted, t.take(network, wanted, owner)
	}
	if !subnet.Contains(first) || !subnet.Contains(last) || last.Less(first) {
		return fail(cove.Invalid, "lease range %s - %s does not fit subnet %s", first, last, subnet)
	}
	start, rover := first, network+"\x00"+subnet.String()
	raw, err := t.rows.Get(tableRovers, rover)
	if err != nil {
		return netip.Addr{}, err
	}
	if raw != nil {
		at, err := addr16(string(raw))
		if err != nil {
			return netip.Addr{}, err
		}
		if at = at.Unmap(); !at.Less(first) && at.Less(last) {
			start = at.Next()
		}
	}
	a, err := t.free(network, start, last, taken)
	if err == nil && !a.IsValid() && first.Less(start) {
		a, err = t.free(network, first, start.Prev(), taken)
	}
	if err != nil {
		return netip.Addr{}, err
	}
	if !a.IsValid() {
		return fail(cove.Unavailable, "failed to find free IP in range: %s - %s", first, last)
	}
	if err := t.rows.Put(tableRovers, rover, []byte(key16(a))); err != nil {
		return netip.Addr{}, err
	}
	return a, t.take(network, a, owner)
}

// free finds the first address from a to last inclusive that is neither
// leased nor vetoed; the zero Addr when there is none.
func (t tx) free(network string, a, last netip.Addr, taken func(netip.Addr) bool) (netip.Addr, error) {
	for range maxVetoes {
		_, end, ok, err := t.run(network, a)
		if err != nil {
			return netip.Addr{}, err
		}
		if ok {
			if a = end.Unmap().Next(); !a.IsValid() {
				return a, nil
			}
		}
		if last.Less(a) {
			return netip.Addr{}, nil
		}
		if !taken(a) {
			return a, nil
		}
		if a == last {
			return netip.Addr{}, nil
		}
		a = a.Next()
	}
	return netip.Addr{}, nil
}

// run gives the run of leased addresses that holds a.
func (t tx) run(network string, a netip.Addr) (start, end netip.Addr, ok bool, err error) {
	k, v, ok, err := t.rows.Floor(tableRuns, leaseKey(network, a))
	if err != nil || !ok {
		return start, end, false, err
	}
	rest, ok := strings.CutPrefix(k, network+"\x00")
	if !ok {
		return start, end, false, nil
	}
	if start, err = addr16(rest); err != nil {
		return start, end, false, err
	}
	if end, err = addr16(string(v)); err != nil {
		return start, end, false, err
	}
	return start, end, !end.Less(six(a)), nil
}

// take records a, which is free, as owner's, and joins it to the runs beside.
func (t tx) take(network string, a netip.Addr, owner string) error {
	start, end := six(a), six(a)
	if prev := start.Prev(); prev.IsValid() {
		s, _, ok, err := t.run(network, prev)
		if err != nil {
			return err
		}
		if ok {
			start = s
		}
	}
	if next := end.Next(); next.IsValid() {
		_, e, ok, err := t.run(network, next)
		if err != nil {
			return err
		}
		if ok {
			if err := t.rows.Delete(tableRuns, leaseKey(network, next)); err != nil {
				return err
			}
			end = e
		}
	}
	if err := t.rows.Put(tableRuns, leaseKey(network, start), []byte(key16(end))); err != nil {
		return err
	}
	if err := t.rows.Put(tableLeases, leaseKey(network, a), []byte(owner)); err != nil {
		return err
	}
	return t.rows.Put(tableOwners, network+"\x00"+owner+"\x00"+key16(a), []byte{1})
}

func (t tx) Unlease(network, owner string) error {
	if owner == "" {
		return t.forget(network)
	}
	var keys []string
	prefix := network + "\x00" + owner + "\x00"
	err := t.ascendPrefix(tableOwners, prefix, func(rest string, _ []byte) error {
		keys = append(keys, rest)
		return nil
	})
	if err != nil {
		return err
	}
	for _, k := range keys {
		a, err := addr16(k)
		if err != nil {
			return err
		}
		if err := t.giveBack(network, a); err != nil {
			return err
		}
		if err := t.rows.Delete(tableOwners, prefix+k); err != nil {
			return err
		}
	}
	return nil
}

// Free gives back one address, whoever has it.
func (t tx) Free(network string, a netip.Addr) error {
	owner, err := t.rows.Get(tableLeases, leaseKey(network, a))
	if err != nil || owner == nil {
		return err
	}
	owners := network + "\x00" + string(owner) + "\x00" + key16(a)
	if err := t.giveBack(network, a); err != nil {
		return err
	}
	return t.rows.Delete(tableOwners, owners)
}

// giveBack frees one leased address and splits its run, but for its owner's rows.
func (t tx) giveBack(network string, a netip.Addr) error {
	if err := t.rows.Delete(tableLeases, leaseKey(network, a)); err != nil {
		return err
	}
	start, end, ok, err := t.run(network, a)
	if err != nil || !ok {
		return err
	}
	if err := t.rows.Delete(tableRuns, leaseKey(network, start)); err != nil {
		return err
	}
	if start.Less(a) {
		if err := t.rows.Put(tableRuns, leaseKey(network, start), []byte(key16(a.Prev()))); err != nil {
			return err
		}
	}
	if a.Less(end) {
		return t.rows.Put(tableRuns, leaseKey(network, a.Next()), []byte(key16(end)))
	}
	return nil
}

// forget removes every row of a network.
func (t tx) forget(network string) error {
	for _, table := range []Table{tableLeases, tableOwners, tableRuns, tableRovers} {
		var keys []string
		err := t.ascendPrefix(table, network+"\x00", func(rest string, _ []byte) error {
			keys = append(keys, rest)
			return nil
		})
		if err != nil {
			return err
		}
		for _, k := range keys {
			if err := t.rows.Delete(table, network+"\x00"+k); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t tx) Leases(network string, each func(a netip.Addr, owner string) error) error {
	return t.ascendPrefix(tableLeases, network+"\x00", func(rest string, owner []byte) error {
		a, err := addr16(rest)
		if err != nil {
			return err
		}
		return each(a.Unmap(), string(owner))
	})
}

func six(a netip.Addr) netip.Addr { return netip.AddrFrom16(a.As16()) }

func key16(a netip.Addr) string { b := a.As16(); return string(b[:]) }

func leaseKey(network string, a netip.Addr) string { return network + "\x00" + key16(a) }

// addr16 decodes key16, in the 16-byte form.
func addr16(k string) (netip.Addr, error) {
	if len(k) != 16 {
		return netip.Addr{}, cove.E("read leases", "", cove.Internal, fmt.Errorf("%q is not an address", clip(k)))
	}
	return netip.AddrFrom16([16]byte([]byte(k))), nil
}
