// Package statetest is the suite that every back end of the state store
// passes.
package statetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
)

// Backend is what the suite needs of a back end.
type Backend struct {
	// Open gives a fresh, empty store that ends with the test.
	Open func(t testing.TB) state.Store
	// Again opens a store that exists at path; nil when the back end keeps
	// nothing outside the process, which leaves out the tests with several
	// processes, crashes, damage and full disks. With it the back end's
	// TestMain must call [Child].
	Again func(path string, timeout time.Duration) state.Store
	// With opens a store of another layout; nil only when Again is.
	With func(path string, l state.Layout) state.Store
	// Beside are the endings of files that belong to the store's.
	Beside []string
}

// Run runs the suite.
func Run(t *testing.T, b Backend) {
	t.Run("records", func(t *testing.T) { testRecords(t, b) })
	t.Run("unknown fields", func(t *testing.T) { testUnknownFields(t, b) })
	t.Run("names", func(t *testing.T) { testNames(t, b) })
	t.Run("find", func(t *testing.T) { testFind(t, b) })
	t.Run("rollback", func(t *testing.T) { testRollback(t, b) })
	t.Run("isolation", func(t *testing.T) { testIsolation(t, b) })
	t.Run("write while listing", func(t *testing.T) { testWriteWhileListing(t, b) })
	t.Run("goroutines", func(t *testing.T) { testGoroutines(t, b) })
	t.Run("leases", func(t *testing.T) { testLeases(t, b) })
	t.Run("joined leases", func(t *testing.T) { testJoinedLeases(t, b) })
	t.Run("full network", func(t *testing.T) { testFullNetwork(t, b) })
	t.Run("many records", func(t *testing.T) { testMany(t, b) })
	t.Run("newer schema", func(t *testing.T) { testNewerSchema(t, b) })
	t.Run("random against model", func(t *testing.T) { testRandom(t, b) })
	if b.Again != nil {
		t.Run("older schema", func(t *testing.T) { testOlderSchema(t, b) })
		t.Run("first use", func(t *testing.T) { testFirstUse(t, b) })
		t.Run("processes", func(t *testing.T) { testProcesses(t, b) })
		t.Run("deadline", func(t *testing.T) { testDeadline(t, b) })
		t.Run("writer among readers", func(t *testing.T) { testWriterAmongReaders(t, b) })
		t.Run("killed", func(t *testing.T) { testKilled(t, b) })
		t.Run("killed at each system call", func(t *testing.T) { testKilledAtEachCall(t, b) })
		t.Run("power loss", func(t *testing.T) { testPowerLoss(t, b) })
		t.Run("damaged file", func(t *testing.T) { testDamage(t, b) })
		t.Run("file size limit", func(t *testing.T) { testFileLimit(t, b) })
		t.Run("full disk", func(t *testing.T) { testFullDisk(t, b) })
	}
}

func update(t testing.TB, s state.Store, fn func(state.Tx) error) {
	t.Helper()
	if err := s.Update(fn); err != nil {
		t.Fatalf("Update: %v", err)
	}
}

func view(t testing.TB, s state.Store, fn func(state.Tx) error) {
	t.Helper()
	if err := s.View(fn); err != nil {
		t.Fatalf("View: %v", err)
	}
}

func wantKind(t testing.TB, what string, err error, k cove.Kind) {
	t.Helper()
	if !cove.Is(err, k) {
		t.Errorf("%s: got %v (kind %d), want kind %d", what, err, cove.KindOf(err), k)
	}
}

func container(id string) cove.Container { return cove.Container{Schema: 1, ID: id, Name: "n" + id} }

func testRecords(t *testing.T, b Backend) {
	s := b.Open(t)
	view(t, s, func(tx state.Tx) error { // nothing is there yet
		wantKind(t, "get from an empty store", tx.Get(state.Containers, "a", new(cove.Container)), cove.NotFound)
		return tx.List(state.Containers, func(id string, _ []byte) error { return errors.New("listed " + id) })
	})
	update(t, s, func(tx state.Tx) error {
		for _, id := range []string{"b", "c", "a"} {
			if err := tx.Put(state.Containers, id, container(id)); err != nil {
				return err
			}
		}
		wantKind(t, "pod with a container's ID", tx.Put(state.Pods, "a", struct{}{}), cove.Exists)
		return tx.Put(state.Volumes, "a", cove.Volume{Name: "a"}) // another space
	})
	view(t, s, func(tx state.Tx) error {
		var c cove.Container
		if err := tx.Get(state.Containers, "b", &c); err != nil || c.Name != "nb" {
			t.Errorf("got %+v, %v", c, err)
		}
		var ids []string
		err := tx.List(state.Containers, func(id string, raw []byte) error {
			if !strings.Contains(string(raw), `"n`+id+`"`) {
				t.Errorf("%s: raw is %s", id, raw)
			}
			ids = append(ids, id)
			return nil
		})
		if !slices.Equal(ids, []string{"a", "b", "c"}) {
			t.Errorf("listed %v", ids)
		}
		if got := tx.List(state.Containers, func(string, []byte) error { return io.EOF }); got != io.EOF {
			t.Errorf("List gave %v, want each's error", got)
		}
		for what, e := range map[string]error{
			"put": tx.Put(state.Containers, "x", c), "delete": tx.Delete(state.Containers, "a"),
			"claim": tx.Claim(state.Containers, "n", "a"), "meta": tx.SetMeta("k", []byte("v")),
		} {
			if !errors.Is(e, state.ErrReadOnly) {
				t.Errorf("%s in a view: %v", what, e)
			}
		}
		return err
	})
	update(t, s, func(tx state.Tx) error {
		wantKind(t, "delete of nothing", tx.Delete(state.Containers, "zz"), cove.NotFound)
		wantKind(t, "empty ID", tx.Put(state.Containers, "", container("")), cove.Invalid)
		wantKind(t, "NUL in ID", tx.Put(state.Containers, "a\x00b", container("")), cove.Invalid)
		wantKind(t, "huge ID", tx.Put(state.Containers, strings.Repeat("x", 1<<16), container("")), cove.Invalid)
		if n, err := tx.Next("one"); n != 1 || err != nil {
			t.Errorf("Next gave %d, %v", n, err)
		}
		if err := tx.SetMeta("k", []byte("v")); err != nil {
			return err
		}
		return tx.Delete(state.Containers, "a")
	})
	update(t, s, func(tx state.Tx) error {
		wantKind(t, "get of a deleted record", tx.Get(state.Containers, "a", new(cove.Container)), cove.NotFound)
		n, _ := tx.Next("one")
		m, _ := tx.Next("other")
		v, err := tx.Meta("k")
		if n != 2 || m != 1 || string(v) != "v" || err != nil {
			t.Errorf("got %d, %d, %q, %v", n, m, v, err)
		}
		if err := tx.SetMeta("k", nil); err != nil {
			return err
		}
		if v, _ := tx.Meta("k"); v != nil {
			t.Errorf("removed meta is %q", v)
		}
		return tx.Put(state.Pods, "a", struct{}{}) // the ID is free again
	})
}

func testUnknownFields(t *testing.T, b Backend) {
	s := b.Open(t)
	const stored = `{
		"schema": 7, "id": "abc", "name": "old", "future": {"deep": [1]},
		"spec": {"image": "i", "newFlag": true, "resources": {"newLimit": 5}, "restart": {"name": "always", "newDelay": 1},
			"health": {"test": ["NONE"], "newProbe": 1}, "labels": {"a": "b"}},
		"run": {"exitCode": 3, "newRun": 1},
		"mounts": [{"type": "bind", "destination": "/a", "newKey": "a"}, {"type": "bind", "destination": "/b", "newKey": "b"}],
		"attachments": [{"network": "n", "newIndex": 2}]
	}`
	update(t, s, func(tx state.Tx) error { return tx.Put(state.Containers, "abc", json.RawMessage(stored)) })
	change := func(how func(*cove.Container)) (got map[string]any) {
		t.Helper()
		update(t, s, func(tx state.Tx) error {
			var c cove.Container
			if err := tx.Get(state.Containers, "abc", &c); err != nil {
				return err
			}
			how(&c)
			return tx.Put(state.Containers, "abc", &c)
		})
		view(t, s, func(tx state.Tx) error { return tx.Get(state.Containers, "abc", &got) })
		return got
	}
	want := func(got map[string]any, what, text string) {
		t.Helper()
		var at any = got
		for _, key := range strings.Split(what, ".") {
			switch in := at.(type) {
			case map[string]any:
				at = in[key]
			case []any:
				n, _ := strconv.Atoi(key)
				at = in[n]
			}
		}
		if raw, _ := json.Marshal(at); string(raw) != text {
			t.Errorf("%s is %s, want %s", what, raw, text)
		}
	}
	got := change(func(c *cove.Container) {
		c.Schema, c.Name, c.Spec.Image = cove.Schema, "new", ""
		c.Mounts = append([]cove.Mount{{Type: "tmpfs", Destination: "/t"}}, c.Mounts...)
		c.Run.ExitCode = 4
	})
	want(got, "schema", "7")
	want(got, "name", `"new"`)
	want(got, "future", `{"deep":[1]}`)
	want(got, "spec.newFlag", "true")
	want(got, "spec.image", "null") // known, and emptied
	want(got, "spec.resources", `{"newLimit":5}`)
	want(got, "spec.restart.newDelay", "1")
	want(got, "spec.health.newProbe", "1")
	want(got, "run.newRun", "1")
	want(got, "run.exitCode", "4")
	want(got, "mounts.0.newKey", "null")
	want(got, "mounts.1.newKey", `"a"`)
	want(got, "mounts.2.newKey", `"b"`)
	want(got, "attachments.0.newIndex", "2")
	got = change(func(c *cove.Container) {
		c.Mounts = c.Mounts[2:]
		c.Spec.Health, c.Attachments = nil, nil
	})
	want(got, "mounts", `[{"destination":"/b","newKey":"b","type":"bind"}]`)
	want(got, "spec.health", "null")
	want(got, "attachments", "null")
	want(got, "spec.resources", `{"newLimit":5}`)
}

func testNames(t *testing.T, b Backend) {
	s := b.Open(t)
	update(t, s, func(tx state.Tx) error {
		return errors.Join(
			tx.Put(state.Containers, "c1", container("c1")), tx.Claim(state.Containers, "web", "c1"),
			tx.Put(state.Pods, "p1", struct{}{}), tx.Claim(state.Pods, "pod", "p1"),
			tx.Claim(state.Volumes, "web", "web"), tx.Claim(state.Networks, "web", "n1"), tx.Claim(state.Secrets, "web", "s1"))
	})
	update(t, s, func(tx state.Tx) error {
		if err := tx.Claim(state.Containers, "web", "c1"); err != nil {
			t.Errorf("claiming one's own name again: %v", err)
		}
		err := tx.Claim(state.Containers, "web", "c2")
		wantKind(t, "second container", err, cove.Exists)
		want := `the container name "web" is already in use by c1. You have to remove that container to be able to reuse that name: that name is already in use, or use --replace to instruct cove to do so`
		if err.Error() != want {
			t.Errorf("got %q\nwant %q", err, want)
		}
		wantKind(t, "pod with a container's name", tx.Claim(state.Pods, "web", "p2"), cove.Exists)
		wantKind(t, "container with a pod's name", tx.Claim(state.Containers, "pod", "c2"), cove.Exists)
		wantKind(t, "second volume", tx.Claim(state.Volumes, "web", "other"), cove.Exists)
		wantKind(t, "second network", tx.Claim(state.Networks, "web", "n2"), cove.Exists)
		wantKind(t, "second secret", tx.Claim(state.Secrets, "web", "s2"), cove.Exists)
		// A container may not free a pod's name.
		if err := tx.Release(state.Containers, "pod"); err != nil {
			return err
		}
		wantKind(t, "pod's name after a container's release", tx.Claim(state.Containers, "pod", "c2"), cove.Exists)
		// Rename.
		return errors.Join(tx.Release(state.Containers, "web"), tx.Claim(state.Containers, "api", "c1"), tx.Release(state.Containers, "nobody"))
	})
	view(t, s, func(tx state.Tx) error {
		_, err := tx.Find(state.Containers, "web")
		wantKind(t, "old name", err, cove.NotFound)
		if id, err := tx.Find(state.Containers, "api"); id != "c1" || err != nil {
			t.Errorf("new name: %q, %v", id, err)
		}
		var names []string
		err = tx.Names(state.Containers, func(name, id string) error { names = append(names, name+"="+id); return nil })
		if fmt.Sprint(names) != "[api=c1]" {
			t.Errorf("names of containers: %v", names)
		}
		return err
	})
}

func testFind(t *testing.T, b Backend) {
	s := b.Open(t)
	update(t, s, func(tx state.Tx) error {
		for _, c := range [][2]string{{"aa11", "one"}, {"aa22", "two"}, {"bb33", "aa22"}, {"cc44", "aa"}, {"cc", "five"}} {
			if err := errors.Join(tx.Put(state.Containers, c[0], container(c[0])), tx.Claim(state.Containers, c[1], c[0])); err != nil {
				return err
			}
		}
		return errors.Join(tx.Put(state.Pods, "dd55", struct{}{}), tx.Claim(state.Pods, "pod", "dd55"))
	})
	for _, c := range []struct {
		in, id string
		kind   cove.Kind
		text   string
	}{
		{in: "one", id: "aa11"},
		{in: "aa11", id: "aa11"},
		{in: "aa22", id: "bb33"}, // a name goes before an ID
		{in: "aa", id: "cc44"},   // and before a prefix
		{in: "cc", id: "cc"},     // an exact ID before a prefix
		{in: "cc4", id: "cc44"},
		{in: "b", id: "bb33"},
		{in: "a", kind: cove.Invalid, text: `more than one result for container name or ID "a": aa11, aa22`},
		{in: "pod", kind: cove.NotFound, text: `no container with name or ID "pod" found: no such container`},
		{in: "dd55", kind: cove.NotFound},
		{in: "aa111", kind: cove.NotFound},
		{in: "zz", kind: cove.NotFound},
		{in: "o", kind: cove.NotFound}, // names have no prefixes
		{in: "", kind: cove.Invalid},
		{in: "a\x00", kind: cove.NotFound},
		{in: strings.Repeat("a", 1<<17), kind: cove.NotFound},
	} {
		view(t, s, func(tx state.Tx) error {
			id, err := tx.Find(state.Containers, c.in)
			if c.id != "" {
				if id != c.id || err != nil {
					t.Errorf("%.20q: got %q, %v; want %q", c.in, id, err, c.id)
				}
				return nil
			}
			wantKind(t, fmt.Sprintf("%.20q", c.in), err, c.kind)
			if c.text != "" && err != nil && err.Error() != c.text {
				t.Errorf("got  %s\nwant %s", err, c.text)
			}
			return nil
		})
	}
	view(t, s, func(tx state.Tx) error {
		_, err := tx.Find(state.Volumes, "none")
		if err == nil || err.Error() != `no volume with name "none" found: no such volume` {
			t.Errorf("volume: %v", err)
		}
		return nil
	})
}

func testRollback(t *testing.T, b Backend) {
	s := b.Open(t)
	update(t, s, func(tx state.Tx) error { return tx.Put(state.Containers, "kept", container("kept")) })
	all := func(tx state.Tx) error {
		_, e1 := tx.Next("seq")
		_, e2 := tx.Lease("net", netip.MustParsePrefix("10.0.0.0/24"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.9"), netip.Addr{}, nil, "kept")
		return errors.Join(e1, e2, tx.Put(state.Containers, "new", container("new")), tx.Claim(state.Containers, "new", "new"),
			tx.Put(state.Containers, "kept", cove.Container{ID: "kept", Name: "changed"}), tx.Delete(state.Containers, "new"), tx.SetMeta("m", []byte("x")))
	}
	if err := s.Update(func(tx state.Tx) error { return errors.Join(all(tx), io.ErrUnexpectedEOF) }); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Update gave %v, want fn's error", err)
	}
	func() {
		defer func() {
			if p := recover(); p != "mine" {
				t.Errorf("recovered %v, want fn's panic", p)
			}
		}()
		_ = s.Update(func(tx state.Tx) error {
			if err := all(tx); err != nil {
				t.Error(err)
			}
			panic("mine")
		})
	}()
	func() {
		defer func() { recover() }()
		_ = s.View(func(tx state.Tx) error { panic("in a view") })
	}()
	update(t, s, func(tx state.Tx) error { // and the store still works
		var c cove.Container
		if err := tx.Get(state.Containers, "kept", &c); err != nil || c.Name != "nkept" {
			t.Errorf("after roll-back: %+v, %v", c, err)
		}
		if _, err := tx.Find(state.Containers, "new"); !cove.Is(err, cove.NotFound) {
			t.Errorf("claimed name survived: %v", err)
		}
		if n, _ := tx.Next("seq"); n != 1 {
			t.Errorf("sequence went on: %d", n)
		}
		if v, _ := tx.Meta("m"); v != nil {
			t.Errorf("meta survived: %q", v)
		}
		return tx.Leases("net", func(a netip.Addr, o string) error { t.Errorf("lease survived: %s %s", a, o); return nil })
	})
}

func testIsolation(t *testing.T, b Backend) {
	s := b.Open(t)
	// Two records change together; no view may see them differ.
	write := func(n int) error {
		return s.Update(func(tx state.Tx) error {
			return errors.Join(
				tx.Put(state.Containers, "x", cove.Container{ID: "x", Name: fmt.Sprint(n)}),
				tx.Put(state.Containers, "y", cove.Container{ID: "y", Name: fmt.Sprint(n)}))
		})
	}
	if err := write(0); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !stop.Load() {
				err := s.View(func(tx state.Tx) error {
					var x, y, again cove.Container
					err := errors.Join(tx.Get(state.Containers, "x", &x), tx.Get(state.Containers, "y", &y), tx.Get(state.Containers, "x", &again))
					if x.Name != y.Name || x.Name != again.Name {
						t.Errorf("a view saw %s, %s, %s", x.Name, y.Name, again.Name)
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := range 50 {
		if err := write(n); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	wg.Wait()
}

func testWriteWhileListing(t *testing.T, b Backend) {
	s := b.Open(t)
	update(t, s, func(tx state.Tx) error {
		for i := range 1000 {
			if err := tx.Put(state.Containers, fmt.Sprintf("%04d", i), container("x")); err != nil {
				return err
			}
		}
		return nil
	})
	update(t, s, func(tx state.Tx) error {
		n := 0
		err := tx.List(state.Containers, func(id string, _ []byte) error {
			if id != fmt.Sprintf("%04d", n) {
				return fmt.Errorf("listed %s, want number %d", id, n)
			}
			n++
			if n%3 == 0 {
				return tx.Delete(state.Containers, id)
			}
			return tx.Put(state.Containers, id, cove.Container{ID: id, Name: strings.Repeat("long", 500)})
		})
		if n != 1000 {
			t.Errorf("listed %d", n)
		}
		return err
	})
}

func testGoroutines(t *testing.T, b Backend) {
	s := b.Open(t)
	const workers, each = 8, 10
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				err := s.Update(func(tx state.Tx) error {
					if _, err := tx.Next("n"); err != nil {
						return err
					}
					return tx.Put(state.Containers, fmt.Sprintf("%d-%d", w, i), container("x"))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	update(t, s, func(tx state.Tx) error {
		if n, err := tx.Next("n"); n != workers*each+1 {
			t.Errorf("counted %d, %v", n, err)
		}
		return nil
	})
}

func testNewerSchema(t *testing.T, b Backend) {
	s := b.Open(t)
	update(t, s, func(tx state.Tx) error {
		v, err := tx.Meta(state.SchemaKey)
		if string(v) != fmt.Sprint(state.Schema) {
			t.Errorf("schema is %q", v)
		}
		return err
	})
	for _, c := range []struct {
		mark string
		kind cove.Kind
	}{
		{fmt.Sprint(state.Schema + 1), cove.Unsupported},
		{state.MarkMoved + "elsewhere", cove.Unavailable},
		{state.MarkComing + "elsewhere", cove.Unavailable},
		{"0", cove.Internal}, {"", cove.Internal}, {"-1", cove.Internal}, {"one", cove.Internal},
	} {
		s := b.Open(t)
		update(t, s, func(tx state.Tx) error { return tx.SetMeta(state.SchemaKey, []byte(c.mark)) })
		before := contents(t, s.Path())
		called := func(state.Tx) error { t.Errorf("a store with schema %q was opened", c.mark); return nil }
		wantKind(t, "view with schema "+c.mark, s.View(called), c.kind)
		wantKind(t, "update with schema "+c.mark, s.Update(called), c.kind)
		if contents(t, s.Path()) != before {
			t.Errorf("a file with schema %q was changed", c.mark)
		}
	}
}

// testOlderSchema: the first update of a newer release lifts the layout in its
// own transaction; a lift that fails leaves the store as it was.
func testOlderSchema(t *testing.T, b Backend) {
	s := b.Open(t)
	update(t, s, func(tx state.Tx) error { return tx.SetMeta("k", []byte("old")) })
	broken := errors.New("broken")
	newer := state.Layout{Version: state.Schema + 2, Lifts: map[int]func(state.Rows) error{
		state.Schema:     func(r state.Rows) error { return r.Put(state.TableMeta, "k", []byte("new")) },
		state.Schema + 1: func(state.Rows) error { return broken },
	}}
	ran := func(state.Tx) error { t.Error("ran on an old layout"); return nil }
	if err := b.With(s.Path(), newer).View(ran); !errors.Is(err, broken) {
		t.Errorf("a failed lift: %v", err)
	}
	check := func(s state.Store, want string) {
		t.Helper()
		view(t, s, func(tx state.Tx) error {
			if v, err := tx.Meta("k"); string(v) != want {
				t.Errorf("got %q, %v; want %q", v, err, want)
			}
			return nil
		})
	}
	check(s, "old")
	delete(newer.Lifts, state.Schema+1) // nothing to change
	check(b.With(s.Path(), newer), "new")
	wantKind(t, "the older release", s.View(ran), cove.Unsupported)
}
