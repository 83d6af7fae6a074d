package bolt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
	"github.com/cove-engine/cove/internal/state/statetest"
)

func again(path string, timeout time.Duration) state.Store { return Open(path, timeout) }

func TestMain(m *testing.M) {
	statetest.Child(again)
	os.Exit(m.Run())
}

func TestSuite(t *testing.T) {
	statetest.Run(t, statetest.Backend{
		Open:  func(t testing.TB) state.Store { return Open(filepath.Join(t.TempDir(), "state.db"), 0) },
		Again: again,
	})
}

// TestMigration: the first update of a newer release lifts the layout in its
// own transaction; a migration that fails leaves the store as it was.
func TestMigration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	if err := Open(path, 0).Update(func(tx state.Tx) error { return tx.SetMeta("k", []byte("old")) }); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	newer := Open(path, time.Second)
	newer.schema = state.Schema + 2
	newer.migrations = make([]func(*bbolt.Tx) error, newer.schema)
	newer.migrations[state.Schema] = func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(state.TableMeta)).Put([]byte("k"), []byte("new"))
	}
	newer.migrations[state.Schema+1] = func(*bbolt.Tx) error { return broken }
	if err := newer.View(func(state.Tx) error { t.Error("ran on an old layout"); return nil }); !errors.Is(err, broken) {
		t.Errorf("a failed migration: %v", err)
	}
	check := func(s *Store, want string) {
		t.Helper()
		err := s.View(func(tx state.Tx) error {
			if v, err := tx.Meta("k"); string(v) != want {
				t.Errorf("got %q, %v; want %q", v, err, want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	check(Open(path, 0), "old")
	newer.migrations[state.Schema+1] = nil // nothing to change
	check(newer, "new")
	if err := Open(path, 0).View(func(state.Tx) error { return nil }); !cove.Is(err, cove.Unsupported) {
		t.Errorf("the older release: %v", err)
	}
}

// TestViewsTogether: views run beside each other, an update alone, also within
// one process.
func TestViewsTogether(t *testing.T) {
	s := Open(filepath.Join(t.TempDir(), "state.db"), time.Second)
	if err := s.Update(func(state.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	err := s.View(func(state.Tx) error { return s.View(func(state.Tx) error { return nil }) })
	if err != nil {
		t.Error(err)
	}
	err = s.Update(func(state.Tx) error { return s.Update(func(state.Tx) error { return nil }) })
	if !cove.Is(err, cove.Unavailable) {
		t.Errorf("an update inside an update: %v", err)
	}
}

func benchStore(b *testing.B, n int) *Store {
	s := Open(filepath.Join(b.TempDir(), "state.db"), 0)
	err := s.Update(func(tx state.Tx) error {
		for i := range n {
			c := cove.Container{ID: fmt.Sprintf("%064x", i*7919), CommandLine: []string{strings.Repeat("x", 2000)}}
			if err := tx.Put(state.Containers, c.ID, c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{0, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := benchStore(b, n)
			i := 0
			for b.Loop() {
				i++
				c := cove.Container{ID: fmt.Sprintf("f%063x", i%100)}
				if err := s.Update(func(tx state.Tx) error { return tx.Put(state.Containers, c.ID, c) }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkView(b *testing.B) {
	for _, n := range []int{0, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := benchStore(b, n)
			for b.Loop() {
				err := s.View(func(tx state.Tx) error { _, err := tx.Meta("k"); return err })
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkList(b *testing.B) {
	s := benchStore(b, 10000)
	for b.Loop() {
		err := s.View(func(tx state.Tx) error {
			return tx.List(state.Containers, func(string, []byte) error { return nil })
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
