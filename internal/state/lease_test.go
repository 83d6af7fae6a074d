package state

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
)

// table is rows in a map, for what no transaction writes.
type table map[string][]byte

func (m table) Get(t Table, key string) ([]byte, error) { return m[string(t)+"/"+key], nil }

func (m table) Put(t Table, key string, value []byte) error {
	m[string(t)+"/"+key] = value
	return nil
}

func (m table) Delete(t Table, key string) error {
	delete(m, string(t)+"/"+key)
	return nil
}

func (m table) Ascend(t Table, from string, each func(string, []byte) (bool, error)) error {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if name, ok := cutTable(t, k); ok && name >= from {
			if more, err := each(name, m[k]); err != nil || !more {
				return err
			}
		}
	}
	return nil
}

func (m table) Floor(t Table, key string) (k string, value []byte, ok bool, err error) {
	for _, row := range slices.Sorted(maps.Keys(m)) {
		if name, is := cutTable(t, row); is && name <= key {
			k, value, ok = name, m[row], true
		}
	}
	return k, value, ok, nil
}

func cutTable(t Table, row string) (string, bool) {
	if n := len(t) + 1; len(row) > n && row[:n] == string(t)+"/" {
		return row[n:], true
	}
	return "", false
}

// An address whose rows disagree is free again after Free, and no other one is.
func TestFree(t *testing.T) {
	rows := table{}
	tx := Over(rows)
	subnet := netip.MustParsePrefix("10.1.0.0/24")
	first, last := netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.1.0.9")
	for _, owner := range []string{"a", "b", "c"} {
		if _, err := tx.Lease("n", subnet, first, last, netip.Addr{}, nil, owner); err != nil {
			t.Fatal(err)
		}
	}
	lone := netip.MustParseAddr("10.1.0.8")
	if err := rows.Put(tableLeases, leaseKey("n", lone), []byte("gone")); err != nil {
		t.Fatal(err)
	}
	for _, a := range []netip.Addr{lone, netip.MustParseAddr("10.1.0.3"), netip.MustParseAddr("10.1.0.7")} {
		if err := tx.Free("n", a); err != nil {
			t.Fatal(err)
		}
	}
	var left []string
	if err := tx.Leases("n", func(a netip.Addr, owner string) error { left = append(left, a.String()+"="+owner); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"10.1.0.2=a", "10.1.0.4=c"}; !slices.Equal(left, want) {
		t.Errorf("leases %v, want %v", left, want)
	}
	for _, a := range []netip.Addr{lone, netip.MustParseAddr("10.1.0.3")} {
		if got, err := tx.Lease("n", subnet, first, last, a, nil, "d"); err != nil || got != a {
			t.Errorf("%s: leased %s, %v", a, got, err)
		}
	}
}
