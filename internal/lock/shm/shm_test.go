package shm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/lock/file"
	"github.com/cove-engine/cove/internal/lock/locktest"
)

func in(dir string) lock.Manager { return New(dir, 16384) }

func TestMain(m *testing.M) {
	locktest.Child(in)
	os.Exit(m.Run())
}

func TestSuite(t *testing.T) { locktest.Run(t, in) }

func name(i int) string { return fmt.Sprint("name", i) }

// TestExhaustion: the error names what to do, whoever has a slot is not
// disturbed, and a slot that is given back can be had.
func TestExhaustion(t *testing.T) {
	dir := t.TempDir()
	m := New(dir, 8)
	ctx := context.Background()
	for i := range 8 {
		lockAndUnlock(t, m, name(i))
	}
	_, err := m.Lock(ctx, lock.Container, "more")
	if !cove.Is(err, cove.Unavailable) || !strings.Contains(err.Error(), "all 8 locks are in use") || !strings.Contains(err.Error(), "num_locks") {
		t.Errorf("exhausted: %v", err)
	}
	lockAndUnlock(t, m, name(3))
	if err := m.Forget(lock.Container, name(3)); err != nil {
		t.Fatal(err)
	}
	lockAndUnlock(t, m, "more")
	if _, err := m.TryLock(ctx, lock.Container, name(3)); !cove.Is(err, cove.Unavailable) {
		t.Errorf("exhausted again: %v", err)
	}
	// More of them, after a change of num_locks.
	more := New(dir, 16)
	if _, err := more.TryLock(ctx, lock.Container, name(3)); !cove.Is(err, cove.Unavailable) {
		t.Errorf("before renumber: %v", err)
	}
	var objects []lock.Object
	for i := range 8 {
		objects = append(objects, lock.Object{Kind: lock.Container, ID: name(i)})
	}
	if err := more.Renumber(objects); err != nil {
		t.Fatal(err)
	}
	if known, err := m.Known(); err != nil || len(known) != 7 { // without "more", which is gone
		t.Errorf("known: %v, %v", known, err)
	}
	for i := range 16 {
		lockAndUnlock(t, m, name(i))
	}
	if err := New(dir, 4).Renumber(objects); !cove.Is(err, cove.Invalid) || !strings.Contains(err.Error(), "num_locks") {
		t.Errorf("too few: %v", err)
	}
}

func lockAndUnlock(t *testing.T, m lock.Manager, id string) {
	t.Helper()
	h, err := m.TryLock(context.Background(), lock.Container, id)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Unlock(); err != nil {
		t.Fatal(err)
	}
}

// TestForgottenWhileHeld: nobody else is given the slot until it is released,
// and who has waited for it gets the object's new one.
func TestForgottenWhileHeld(t *testing.T) {
	m := New(t.TempDir(), 2)
	dir := t.TempDir()
	for i := range 400 { // the same ways again and again: they lead past what is held
		inTurn := New(dir, 512)
		h, err := inTurn.TryLock(context.Background(), lock.Container, name(i%7))
		if err != nil {
			t.Fatal(err)
		}
		defer h.Unlock()
		if err := inTurn.Forget(lock.Container, name(i%7)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	h, err := m.Lock(ctx, lock.Container, "a")
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error)
	go func() {
		g, err := m.Lock(ctx, lock.Container, "a")
		if err == nil {
			err = g.Unlock()
		}
		waiting <- err
	}()
	time.Sleep(20 * time.Millisecond)
	if err := m.Forget(lock.Container, "a"); err != nil {
		t.Fatal(err)
	}
	lockAndUnlock(t, m, "b")
	if _, err := m.TryLock(ctx, lock.Container, "c"); !cove.Is(err, cove.Unavailable) {
		t.Errorf("the slot of what is held still was given away: %v", err)
	}
	if err := h.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}

// TestRenumberWaits: for those who hold a lock; who waits meanwhile is served
// by the new table.
func TestRenumberWaits(t *testing.T) {
	dir := t.TempDir()
	m, other := New(dir, 8), New(dir, 32)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	h, err := m.Lock(ctx, lock.Container, "a")
	if err != nil {
		t.Fatal(err)
	}
	done, waiting := make(chan error), make(chan error)
	go func() { done <- other.Renumber([]lock.Object{{Kind: lock.Container, ID: "a"}}) }()
	go func() {
		g, err := New(dir, 8).Lock(ctx, lock.Container, "a")
		if err == nil {
			err = g.Unlock()
		}
		waiting <- err
	}()
	select {
	case err := <-done:
		t.Errorf("renumbered under a lock: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := h.Unlock(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []chan error{done, waiting} {
		if err := <-c; err != nil {
			t.Error(err)
		}
	}
}

// TestDamaged: it is said, and renumber mends it.
func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	m := New(dir, 8)
	lockAndUnlock(t, m, "a")
	for _, text := range []string{"", "garbage", magic + "\xff\xff\xff\xff"} {
		if err := os.WriteFile(filepath.Join(dir, tableName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := m.TryLock(context.Background(), lock.Container, "a"); err == nil || !strings.Contains(err.Error(), "cove system renumber") {
			t.Errorf("%q: %v", text, err)
		}
		if err := m.Renumber([]lock.Object{{Kind: lock.Container, ID: "a"}}); err != nil {
			t.Fatal(err)
		}
		lockAndUnlock(t, m, "a")
		if entries, _ := os.ReadDir(dir); len(entries) != 1 {
			t.Errorf("left: %v", entries)
		}
	}
}

// TestChangedKind: what the other kind has left goes.
func TestChangedKind(t *testing.T) {
	dir := t.TempDir()
	for _, m := range []lock.Manager{file.New(dir), New(dir, 8), file.New(dir)} {
		if err := m.Renumber(nil); err != nil {
			t.Fatal(err)
		}
		lockAndUnlock(t, m, "a")
		if entries, _ := os.ReadDir(dir); len(entries) != 1 {
			t.Errorf("in the directory: %v", entries)
		}
	}
}

// TestWays: freed slots do not make the ways to others longer for ever.
func TestWays(t *testing.T) {
	dir := t.TempDir()
	m := New(dir, 64)
	for i := range 2000 {
		lockAndUnlock(t, m, name(i))
		if i >= 20 {
			if err := m.Forget(lock.Container, name(i-20)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := 1980; i < 2000; i++ {
		if err := m.Forget(lock.Container, name(i)); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, tableName))
	if err != nil {
		t.Fatal(err)
	}
	left := 0
	for at := slotSize; at < len(data); at += slotSize {
		if data[at] != never {
			left++
		}
	}
	if left > 32 {
		t.Errorf("%d slots of an empty table are marked", left)
	}
}

func BenchmarkLock(b *testing.B) {
	m := New(b.TempDir(), 2048)
	for b.Loop() {
		h, err := m.Lock(context.Background(), lock.Container, "a")
		if err != nil {
			b.Fatal(err)
		}
		if err := h.Unlock(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestUntoldOfChange: who began before the locks were changed excludes nobody by
// his kind, and is refused.
func TestUntoldOfChange(t *testing.T) {
	dir := t.TempDir()
	a := []lock.Object{{Kind: lock.Container, ID: "a"}}
	files, table := file.New(dir), New(dir, 8)
	lockAndUnlock(t, files, "a")
	for _, c := range []struct{ old, now lock.Manager }{{files, table}, {table, files}} {
		if err := c.now.Renumber(a); err != nil {
			t.Fatal(err)
		}
		for _, try := range []func() (lock.Held, error){
			func() (lock.Held, error) { return c.old.TryLock(context.Background(), lock.Container, "a") },
			func() (lock.Held, error) { return c.old.Lock(context.Background(), lock.Container, "a") },
		} {
			if _, err := try(); !errors.Is(err, lock.ErrOther) {
				t.Errorf("the old kind gives: %v", err)
			}
		}
		lockAndUnlock(t, c.now, "a")
		if entries, _ := os.ReadDir(dir); len(entries) != 1 {
			t.Errorf("in the directory: %v", entries)
		}
	}
}
