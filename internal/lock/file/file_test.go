package file

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/lock/locktest"
	"github.com/cove-engine/cove/internal/ownplace"
)

func in(dir string) lock.Manager { return New(dir) }

func TestMain(m *testing.M) {
	locktest.Child(in)
	os.Exit(m.Run())
}

func TestSuite(t *testing.T) { locktest.Run(t, in) }

func TestObjectRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "object")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	m, other := in(dir), in(dir)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	wait := func() chan error {
		c := make(chan error)
		go func() {
			h, err := other.Lock(ctx, lock.Container, "a")
			if err == nil {
				// It must be the lock of the present file.
				if _, e := m.TryLock(ctx, lock.Container, "a"); !cove.Is(e, cove.InUse) {
					t.Errorf("the lock of a removed file was given: %v", e)
				}
				err = h.Unlock()
			}
			c <- err
		}()
		time.Sleep(20 * time.Millisecond)
		return c
	}
	h, err := m.Lock(ctx, lock.Container, "a")
	if err != nil {
		t.Fatal(err)
	}
	waiting := wait()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := h.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; !cove.Is(err, cove.NoFile) {
		t.Errorf("the object went: %v", err)
	}
	// Removed and made anew.
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if h, err = m.Lock(ctx, lock.Container, "a"); err != nil {
		t.Fatal(err)
	}
	waiting = wait()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := h.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Errorf("the object was made anew: %v", err)
	}
	if !m.(*Manager).Idle() || !other.(*Manager).Idle() {
		t.Error("queues are left over")
	}
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "container-a")
	want := func(what string, want bool) {
		t.Helper()
		if got, err := Locked(path); got != want || err != nil {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	want("no file", false)
	h, err := in(dir).Lock(context.Background(), lock.Container, "a")
	if err != nil {
		t.Fatal(err)
	}
	want("held", true)
	want("held, asked again", true)
	if err := h.Unlock(); err != nil {
		t.Fatal(err)
	}
	want("released", false)
}

// What is in a lock's place and no file is taken away and not followed; what a directory holds
// stays, and who asks for a known lock only gets none.
func TestNoFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "container-a")
	dir, other := filepath.Dir(name), filepath.Join(t.TempDir(), "other")
	for what, make := range map[string]func() error{
		"link":      func() error { return os.Symlink(other, name) },
		"fifo":      func() error { return unix.Mkfifo(name, 0o600) },
		"directory": func() error { return os.Mkdir(name, 0o700) },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if _, err := in(dir).TryKnown(context.Background(), lock.Container, "a"); err == nil {
			t.Errorf("%s: taken for a known lock", what)
		}
		h, err := in(dir).TryLock(context.Background(), lock.Container, "a")
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if locked, err := Locked(name); !locked || err != nil {
			t.Errorf("%s: locked is %v, %v", what, locked, err)
		}
		if err := errors.Join(h.Unlock(), os.Remove(name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(other); err == nil {
		t.Error("a link was followed")
	}
	if err := os.MkdirAll(filepath.Join(name, "content"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := in(dir).TryLock(context.Background(), lock.Container, "a"); err == nil {
		t.Error("a directory with content was taken for a lock")
	}
}

func BenchmarkLock(b *testing.B) {
	m := in(b.TempDir())
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

// Where the locks' directory is none, no object is gone: who looks again then would do
// so for ever.
func TestNoDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "locks")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := in(dir).Lock(t.Context(), lock.Container, "c1")
	if err == nil || cove.Is(err, cove.NoFile) {
		t.Errorf("a lock in a file: %v", err)
	}
}

// What lies in a lock's place is told, taken away by who wants the lock or forgets it, and
// named where it cannot be.
func TestDisplaced(t *testing.T) {
	dir := t.TempDir()
	m := New(dir)
	for _, name := range []string{"container-a", "container-b", "container-full/x"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	held, err := m.TryLock(t.Context(), lock.Container, "good")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Unlock()
	if all := lock.Displaced(dir); len(all) != 3 {
		t.Errorf("displaced are %v", all)
	}
	if err := m.Forget(lock.Container, "a"); err != nil {
		t.Error(err)
	}
	b, err := m.TryLock(t.Context(), lock.Container, "b")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Unlock()
	if _, err = m.TryLock(t.Context(), lock.Container, "full"); err == nil || !strings.Contains(err.Error(), "container-full is no file") {
		t.Errorf("a full directory in its place: %v", err)
	}
	if all := lock.Displaced(dir); len(all) != 1 || all[0].ID != "full" {
		t.Errorf("afterwards %v", all)
	}
}

// A directory of locks that leads nowhere does not say that an object is gone.
func TestDanglingDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "locks")
	if err := os.Symlink(dir+".none", dir); err != nil {
		t.Fatal(err)
	}
	if _, err := New(dir).TryLock(t.Context(), lock.Container, "a"); !errors.Is(err, ownplace.ErrDangling) || cove.Is(err, cove.NoFile) {
		t.Errorf("%v", err)
	}
}
