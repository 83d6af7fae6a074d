package migrate_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
	"github.com/cove-engine/cove/internal/state/bolt"
	"github.com/cove-engine/cove/internal/state/migrate"
	"github.com/cove-engine/cove/internal/state/sqlite"
	"github.com/cove-engine/cove/internal/state/statetest"
)

const childEnv = "COVE_MIGRATETEST"

func places(dir string) (a, b migrate.Place) {
	return migrate.Place{Name: "boltdb", File: bolt.Open(filepath.Join(dir, "state.db"), 0)},
		migrate.Place{Name: "sqlite", File: sqlite.Open(filepath.Join(dir, "state.sqlite"), 0)}
}

// thereOrBack moves the store to the place where it is not.
func thereOrBack(dir string) error {
	from, to := places(dir)
	here, err := migrate.Find(from, to)
	if err != nil {
		return err
	}
	if here.Name != from.Name {
		from, to = to, from
	}
	_, err = migrate.Move(from, to)
	return err
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := thereOrBack(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// open finds the store as the next command would.
func open(t *testing.T, dir string) (state.Store, migrate.Place) {
	t.Helper()
	a, b := places(dir)
	here, err := migrate.Find(a, b)
	if err != nil {
		t.Fatal(err)
	}
	return state.In(here.File, state.Present(), nil), here
}

func fill(t *testing.T, dir string, n int) {
	t.Helper()
	s, _ := open(t, dir)
	for range n {
		if _, err := statetest.Grow(s); err != nil {
			t.Fatal(err)
		}
	}
}

func names(t *testing.T, dir string) (l []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		l = append(l, e.Name())
	}
	return l
}

// TestThereAndBack: every row arrives, and the old file goes.
func TestThereAndBack(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 50)
	s, _ := open(t, dir)
	err := s.Update(func(tx state.Tx) error {
		return errors.Join(tx.SetMeta("k", []byte{}), tx.Put(state.Volumes, "v", map[string]any{"name": "v", "future": true}), tx.Claim(state.Volumes, "v", "v"))
	})
	if err != nil {
		t.Fatal(err)
	}
	was := rows(t, dir)
	for _, want := range []string{"sqlite", "boltdb", "sqlite"} {
		if err := thereOrBack(dir); err != nil {
			t.Fatal(err)
		}
		s, here := open(t, dir)
		if here.Name != want {
			t.Errorf("the store is in %s, want %s", here.Name, want)
		}
		if got := rows(t, dir); got != was {
			t.Errorf("in %s:\n%s\nwant\n%s", want, got, was)
		}
		if n := statetest.Whole(t, s); n != 50 {
			t.Errorf("%d objects", n)
		}
		if l := names(t, dir); len(l) > 2 || !strings.HasPrefix(l[len(l)-1], filepath.Base(here.Path())) {
			t.Errorf("in %s: files %v", want, l)
		}
	}
}

// rows is the text of all rows.
func rows(t *testing.T, dir string) string {
	t.Helper()
	_, here := open(t, dir)
	var text bytes.Buffer
	err := here.Raw(false, func(r state.Rows) error {
		for _, table := range state.Tables() {
			err := r.Ascend(table, "", func(k string, v []byte) (bool, error) {
				fmt.Fprintf(&text, "%s %q %q\n", table, k, v)
				return true, nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// TestKilled kills a migration as it enters the n-th of each system call that
// changes files: the next command finds one whole store, and the migration can
// be done again.
func TestKilled(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil || exec.Command(strace, "-o", "/dev/null", "true").Run() != nil {
		t.Skip("strace is not installed or cannot trace here")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, call := range []string{"openat", "pwrite64", "fdatasync", "fsync", "ftruncate", "fallocate", "flock", "linkat", "unlinkat", "munmap"} {
		dir := statetest.InMemory(t)
		fill(t, dir, 20)
		for n := 1; ; n++ {
			c := exec.Command(strace, "-f", "-o", "/dev/null", "-e", "trace="+call,
				"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n), self)
			c.Env = append(os.Environ(), childEnv+"="+dir)
			var said bytes.Buffer
			c.Stderr = &said
			ended := c.Run() == nil
			tried++
			s, _ := open(t, dir)
			if got := statetest.Whole(t, s); got != 20 {
				t.Fatalf("killed at %s number %d: %d objects of 20; it said %s", call, n, got, &said)
			}
			if l := names(t, dir); len(l) > 2 || strings.HasPrefix(strings.Join(l, ""), ".") {
				t.Errorf("killed at %s number %d: left behind %v", call, n, l)
			}
			if ended { // there were fewer
				break
			}
		}
	}
	t.Logf("%d kills", tried)
}

// TestBusy moves the store to and fro under commands that write: each of them
// succeeds or is told to run again, and nothing is lost.
func TestBusy(t *testing.T) {
	dir := statetest.InMemory(t)
	fill(t, dir, 1)
	end := time.Now().Add(2 * time.Second)
	var wg sync.WaitGroup
	var mu sync.Mutex
	done, again := 1, 0
	for range 4 {
		wg.Go(func() {
			for time.Now().Before(end) {
				a, b := places(dir)
				here, err := migrate.Find(a, b)
				if err == nil {
					other := a
					if here.Name == a.Name {
						other = b
					}
					_, err = statetest.Grow(state.In(here.File, state.Present(), func() error { return migrate.Elsewhere(other.Name, other.Path()) }))
				}
				mu.Lock()
				switch {
				case err == nil:
					done++
				case cove.Is(err, cove.Unavailable):
					again++
				default:
					t.Error(err)
				}
				mu.Unlock()
			}
		})
	}
	moves := 0
	for time.Now().Before(end) {
		if err := thereOrBack(dir); err != nil {
			t.Error(err)
		}
		moves++
	}
	wg.Wait()
	s, _ := open(t, dir)
	if n := statetest.Whole(t, s); n != uint64(done) {
		t.Errorf("%d objects of %d", n, done)
	}
	t.Logf("%d moves, %d writes, %d told to run again", moves, done, again)
}

// TestTwo: two whole stores are nobody's to choose from.
func TestTwo(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 1)
	a, b := places(dir)
	if err := b.Make(state.Present().Begin); err != nil {
		t.Fatal(err)
	}
	_, err := migrate.Find(a, b)
	if !cove.Is(err, cove.Internal) || !strings.Contains(fmt.Sprint(err), a.Path()) || !strings.Contains(fmt.Sprint(err), b.Path()) {
		t.Errorf("two stores: %v", err)
	}
}

// TestPowerLoss lets the power fail at any moment of a migration.
func TestPowerLoss(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	from := t.TempDir()
	fill(t, from, 20)
	for _, way := range []string{"there", "back"} {
		t.Run(way, func(t *testing.T) {
			c := exec.Command(self)
			c.Env = append(os.Environ(), childEnv+"="+from)
			r := statetest.Record(t, c, from)
			dir := statetest.InMemory(t)
			found := map[string]int{}
			r.Moments(t, func(moment int, chance *rand.Rand) {
				r.Crash(t, moment, chance, dir)
				s, here := open(t, dir)
				if n := statetest.Whole(t, s); n != 20 {
					t.Fatalf("power lost after step %d: %d objects of 20", moment, n)
				}
				found[here.Name]++
			})
			if len(found) != 2 {
				t.Errorf("the store was always found in the same place: %v", found)
			}
		})
	}
}
