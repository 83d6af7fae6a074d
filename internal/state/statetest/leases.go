package statetest

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
)

func testLeases(t *testing.T, b Backend) {
	s := b.Open(t)
	net4, net6 := netip.MustParsePrefix("10.1.0.0/29"), netip.MustParsePrefix("fd00::/64")
	a := netip.MustParseAddr
	first, last := a("10.1.0.2"), a("10.1.0.6")
	var none netip.Addr
	lease := func(owner string, wanted netip.Addr, taken func(netip.Addr) bool) (got netip.Addr, err error) {
		e := s.Update(func(tx state.Tx) error {
			got, err = tx.Lease("n", net4, first, last, wanted, taken, owner)
			return nil
		})
		if e != nil {
			t.Fatal(e)
		}
		return got, err
	}
	want := func(owner, addr string) {
		t.Helper()
		if got, err := lease(owner, none, nil); err != nil || got != a(addr) {
			t.Errorf("%s: got %s, %v; want %s", owner, got, err, addr)
		}
	}
	unlease := func(owner string) {
		update(t, s, func(tx state.Tx) error { return tx.Unlease("n", owner) })
	}
	want("o2", "10.1.0.2")
	want("o3", "10.1.0.3")
	unlease("o3")
	want("o4", "10.1.0.4") // not the freshly freed one
	want("o5", "10.1.0.5")
	want("o6", "10.1.0.6")
	want("o3b", "10.1.0.3") // round the corner
	_, err := lease("o7", none, nil)
	wantKind(t, "full network", err, cove.Unavailable)

	if got, err := lease("o5", a("10.1.0.5"), nil); err != nil || got != a("10.1.0.5") {
		t.Errorf("one's own address again: %s, %v", got, err)
	}
	_, err = lease("x", a("10.1.0.5"), nil)
	wantKind(t, "another's address", err, cove.InUse)
	if err != nil && !contains(err.Error(), "o5") {
		t.Errorf("the owner is not named: %v", err)
	}
	_, err = lease("x", a("10.9.0.5"), nil)
	wantKind(t, "an address outside", err, cove.Invalid)
	unlease("o4")
	_, err = lease("x", a("10.1.0.4"), func(netip.Addr) bool { return true })
	wantKind(t, "a vetoed address", err, cove.InUse)
	_, err = lease("x", none, func(netip.Addr) bool { return true })
	wantKind(t, "all vetoed", err, cove.Unavailable)
	unlease("o2")
	if got, err := lease("x", none, func(v netip.Addr) bool { return v == a("10.1.0.4") }); err != nil || got != a("10.1.0.2") {
		t.Errorf("with a veto: got %s, %v", got, err)
	}
	if got, err := lease("x", a("10.1.0.1"), nil); err != nil || got != a("10.1.0.1") {
		t.Errorf("a wanted address outside the range: %s, %v", got, err)
	}

	update(t, s, func(tx state.Tx) error {
		_, err := tx.Lease("n", net6, net4.Addr(), last, none, nil, "o")
		wantKind(t, "range of another subnet", err, cove.Invalid)
		_, err = tx.Lease("n", net4, last, first, none, nil, "o")
		wantKind(t, "range upside down", err, cove.Invalid)
		got, err := tx.Lease("n", net6, a("fd00::2"), a("fd00::ffff"), none, nil, "x")
		if err != nil || got != a("fd00::2") {
			t.Errorf("v6: %s, %v", got, err)
		}
		// The very last addresses have no successor.
		for range 3 {
			all := netip.MustParsePrefix("255.255.255.254/31")
			_, err = tx.Lease("end", all, a("255.255.255.254"), a("255.255.255.255"), none, nil, "o")
		}
		wantKind(t, "third of two", err, cove.Unavailable)
		// Another network with the same addresses.
		if got, err := tx.Lease("m", net4, first, last, none, nil, "x"); err != nil || got != first {
			t.Errorf("other network: %s, %v", got, err)
		}
		return nil
	})
	list := func(network string) (l []string) {
		view(t, s, func(tx state.Tx) error {
			return tx.Leases(network, func(a netip.Addr, owner string) error {
				l = append(l, a.String()+"="+owner)
				return nil
			})
		})
		return l
	}
	if got, want := list("n"), []string{"10.1.0.1=x", "10.1.0.2=x", "10.1.0.3=o3b", "10.1.0.5=o5", "10.1.0.6=o6", "fd00::2=x"}; !slices.Equal(got, want) {
		t.Errorf("leases %v\nwant   %v", got, want)
	}
	unlease("x")
	if got, want := list("n"), []string{"10.1.0.3=o3b", "10.1.0.5=o5", "10.1.0.6=o6"}; !slices.Equal(got, want) {
		t.Errorf("leases %v\nwant   %v", got, want)
	}
	unlease("")
	if len(list("n")) != 0 || len(list("m")) != 1 {
		t.Errorf("after forgetting n: %v and %v", list("n"), list("m"))
	}
	want("o", "10.1.0.2") // begins anew
}

// testFullNetwork fills a /16 and shows that a full network costs no more
// than an empty one.
func testFullNetwork(t *testing.T, b Backend) {
	if testing.Short() {
		t.Skip("slow")
	}
	s := b.Open(t)
	subnet := netip.MustParsePrefix("10.2.0.0/16")
	first, last := netip.MustParseAddr("10.2.0.2"), netip.MustParseAddr("10.2.255.254")
	const n = 65533
	seen := map[netip.Addr]bool{}
	start := time.Now()
	update(t, s, func(tx state.Tx) error {
		for i := range n {
			a, err := tx.Lease("n", subnet, first, last, netip.Addr{}, nil, fmt.Sprint(i))
			if err != nil || seen[a] {
				return fmt.Errorf("number %d: %s, %w", i, a, err)
			}
			seen[a] = true
		}
		return nil
	})
	filled := time.Since(start)
	start = time.Now()
	const again = 5000 // in a network that were looked through they would take minutes
	update(t, s, func(tx state.Tx) error {
		for i := range again {
			owner := fmt.Sprint(i * (n / again))
			if err := tx.Unlease("n", owner); err != nil {
				return err
			}
			if _, err := tx.Lease("n", subnet, first, last, netip.Addr{}, nil, owner); err != nil {
				return err
			}
			if _, err := tx.Lease("n", subnet, first, last, netip.Addr{}, nil, "late"); !cove.Is(err, cove.Unavailable) {
				return fmt.Errorf("a lease beyond the last: %w", err)
			}
		}
		return nil
	})
	if took := time.Since(start); took > 30*time.Second+2*filled {
		t.Errorf("%d leases in a full network took %s, and the %d before %s", again, took, n, filled)
	}
}

// testJoinedLeases joins a thousand runs of addresses in one transaction: what
// is found afterwards lies far from where it was looked for.
func testJoinedLeases(t *testing.T, b Backend) {
	s := b.Open(t)
	subnet := netip.MustParsePrefix("10.3.0.0/16")
	const n = 1000
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 3, byte(i >> 8), byte(i)}) }
	lease := func(tx state.Tx, i int) error {
		_, err := tx.Lease("n", subnet, at(2), at(60000), at(i), nil, fmt.Sprint(i))
		return err
	}
	update(t, s, func(tx state.Tx) error {
		for i := 2; i < n; i += 2 {
			if err := lease(tx, i); err != nil {
				return err
			}
		}
		return nil
	})
	update(t, s, func(tx state.Tx) error {
		for i := 3; i < n; i += 2 {
			if err := lease(tx, i); err != nil {
				return err
			}
			got, err := tx.Lease("m", subnet, at(2), at(60000), netip.Addr{}, nil, "x")
			if err != nil || !got.IsValid() {
				return fmt.Errorf("another network: %s, %w", got, err)
			}
		}
		got, err := tx.Lease("n", subnet, at(2), at(60000), netip.Addr{}, nil, "late")
		if err != nil || got != at(n) {
			t.Errorf("the first free address after %s is %s, not %s: %v", at(n-1), at(n), got, err)
		}
		return nil
	})
	update(t, s, func(tx state.Tx) error {
		for i := 2; i < n; i++ {
			if err := tx.Unlease("n", fmt.Sprint(i)); err != nil {
				return err
			}
		}
		return tx.Leases("n", func(a netip.Addr, owner string) error {
			if owner != "late" {
				t.Errorf("%s is still leased to %s", a, owner)
			}
			return nil
		})
	})
}

func testMany(t *testing.T, b Backend) {
	s := b.Open(t)
	if b.Again != nil { // a disk may take as long as it likes for each
		s = b.Again(filepath.Join(InMemory(t), "state"), 0)
	}
	const n = 10000
	id := func(i int) string { return fmt.Sprintf("%064x", uint64(i)*0x9e3779b97f4a7c15) }
	start := time.Now()
	update(t, s, func(tx state.Tx) error {
		for i := range n {
			c := container(id(i))
			c.CommandLine = []string{"cove", "run", "--name", "x", "busybox", "sleep", "1000"}
			if err := tx.Put(state.Containers, c.ID, c); err != nil {
				return err
			}
			if err := tx.Claim(state.Containers, c.Name, c.ID); err != nil {
				return err
			}
		}
		return nil
	})
	made := time.Since(start)
	start = time.Now()
	const updates = 1000
	for i := range updates {
		update(t, s, func(tx state.Tx) error {
			var c cove.Container
			got, err := tx.Find(state.Containers, "n"+id(i*7))
			if err != nil || got != id(i*7) {
				return fmt.Errorf("found %s, %w", got, err)
			}
			if err := tx.Get(state.Containers, got, &c); err != nil {
				return err
			}
			c.Run.Generation++
			return tx.Put(state.Containers, got, c)
		})
	}
	if took := time.Since(start); took > 30*time.Second+updates/20*made {
		t.Errorf("%d updates among %d records took %s, and to make all of those %s", updates, n, took, made)
	}
	count := 0
	view(t, s, func(tx state.Tx) error {
		return tx.List(state.Containers, func(string, []byte) error { count++; return nil })
	})
	if count != n {
		t.Errorf("listed %d", count)
	}
}
