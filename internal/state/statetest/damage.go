package statetest

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

// contents is the file's text; "" for no file.
func contents(t testing.TB, path string) string {
	if path == "" {
		return ""
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// testDamage: whatever the file holds, there is an answer and no panic, and a
// file that cannot be used is named and left as it is.
func testDamage(t *testing.T, b Backend) {
	s := b.Open(t)
	for range 60 {
		if _, err := Grow(s); err != nil {
			t.Fatal(err)
		}
	}
	good := []byte(contents(t, s.Path()))
	half := bytes.Clone(good)
	for i := len(half) / 2; i < len(half); i++ {
		half[i] = 0xa5
	}
	zeroed := make([]byte, len(good))
	path := filepath.Join(InMemory(t), "state")
	try := func(raw []byte) error { return TryDamaged(t, b, path, raw) }
	for name, raw := range map[string][]byte{
		"empty": {}, "one byte": {0}, "text": []byte("{\"not\":\"a store\"}\n"), "garbage": bytes.Repeat([]byte("garbage!"), 4096),
		"zeros": zeroed, "first page only": good[:4096], "half": good[:len(good)/2], "two pages": good[:8192],
		"headers gone": append(make([]byte, 8192), good[8192:]...),
	} {
		err := try(raw)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if !contains(err.Error(), path) || !contains(err.Error(), "damaged") || !contains(err.Error(), "put a copy back, or move it away") || contains(err.Error(), "\n") {
			t.Errorf("%s: the message does not help: %v", name, err)
		}
		wantKind(t, name, err, cove.Internal)
	}
	_ = try(half) // may or may not be noticed; must not panic
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	for range 300 {
		bad := bytes.Clone(good)
		for range 1 + r.IntN(20) {
			bad[r.IntN(len(bad))] ^= byte(1 + r.IntN(255))
		}
		_ = try(bad)
	}
	if err := try(good); err != nil {
		t.Errorf("the copy put back: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(s.Path(), path); err != nil {
		t.Fatal(err)
	}
	if err := b.Again(path, time.Minute).View(func(state.Tx) error { return nil }); err == nil {
		t.Error("a symbolic link was followed")
	}
}

// InMemory gives a directory that lives in memory where there is such a place:
// for tests of many files that no power loss will ever see.
func InMemory(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "cove-state-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// compressed is a file's content for a message.
func compressed(raw []byte) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(raw)
	_ = w.Close()
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// TryDamaged writes raw to path, does everything there is to do with that
// store, and gives the first error.
func TryDamaged(t testing.TB, b Backend, path string, raw []byte) error {
	t.Helper()
	return tryDamaged(t, b, path, raw, damagedDeeds)
}

// TryDamagedOnce does one thing of all that, for a fuzzer, which the number of
// executions helps more than what each does.
func TryDamagedOnce(t testing.TB, b Backend, path string, raw []byte, which byte) {
	t.Helper()
	at := int(which) % len(damagedDeeds)
	_ = tryDamaged(t, b, path, raw, damagedDeeds[at:at+1])
}

// tryDamaged does deeds. Nothing may panic or take long, and what fails must
// leave the file as it is.
func tryDamaged(t testing.TB, b Backend, path string, raw []byte, deeds []damagedDeed) (err error) {
	t.Helper()
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	const long = 30 * time.Second // a loaded machine's milliseconds
	written := raw
	late := time.AfterFunc(long, func() {
		debug.SetTraceback("all") // to see where it is
		panic(fmt.Sprintf("a damaged file was not done with after %v: it is %q", long, compressed(written)))
	})
	defer late.Stop()
	s := b.Again(path, time.Minute)
	for i, deed := range deeds {
		run := s.View
		if deed.writes {
			run = s.Update
		}
		e := run(deed.does)
		if e == nil {
			if deed.writes && i+1 < len(deeds) {
				raw = []byte(contents(t, path))
			}
			continue
		}
		if contents(t, path) != string(raw) {
			t.Errorf("a failed %s changed the file: %v", deed.name, e)
		}
		if contains(e.Error(), "\n") {
			t.Errorf("%s: more than a line: %v", deed.name, e)
		}
		if err == nil {
			err = e
		}
	}
	return err
}

type damagedDeed struct {
	name   string
	writes bool
	does   func(state.Tx) error
}

var damagedDeeds = []damagedDeed{
	{name: "view", does: func(tx state.Tx) error {
		for _, b := range state.Buckets() {
			keep := func(string, []byte) error { return nil }
			name := func(string, string) error { return nil }
			if err := errors.Join(tx.List(b, keep), tx.Names(b, name)); err != nil {
				return oneOf(err)
			}
		}
		return tx.Leases("n", func(netip.Addr, string) error { return nil })
	}},
	{name: "lookup", does: func(tx state.Tx) error {
		ids, err := identifiers(tx)
		if err != nil {
			return err
		}
		for _, id := range ids {
			err := tx.Get(state.Containers, id, new(cove.Container))
			if _, e := tx.Find(state.Containers, "n"+id); e != nil && err == nil {
				err = e
			}
			if err != nil && !cove.Is(err, cove.NotFound) {
				return err
			}
		}
		return nil
	}},
	{name: "step", writes: true, does: func(tx state.Tx) error { _, err := tx.Next("x"); return err }},
	{name: "growth", writes: true, does: func(tx state.Tx) error { _, err := grow(tx); return err }},
	{name: "removal", writes: true, does: func(tx state.Tx) error {
		ids, err := identifiers(tx)
		if err != nil {
			return err
		}
		var names []string
		err = tx.Names(state.Containers, func(name, _ string) error { names = append(names, name); return nil })
		if err != nil {
			return err
		}
		for _, id := range ids {
			err := tx.Delete(state.Containers, id)
			if err == nil || cove.Is(err, cove.NotFound) {
				err = tx.Unlease("n", id)
			}
			if err != nil {
				return err
			}
		}
		for _, name := range names {
			if err := tx.Release(state.Containers, name); err != nil {
				return err
			}
		}
		return nil
	}},
}

// identifiers are those of all containers.
func identifiers(tx state.Tx) (ids []string, err error) {
	err = tx.List(state.Containers, func(id string, _ []byte) error { ids = append(ids, id); return nil })
	return ids, err
}

// oneOf gives the first of joined errors.
func oneOf(err error) error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()[0]
	}
	return err
}

// testFileLimit: a file that may not grow gives errors and stays whole.
func testFileLimit(t *testing.T, b Backend) {
	for _, limit := range []int{1 << 10, 10 << 10, 40 << 10, 100 << 10, 200 << 10} {
		path := filepath.Join(t.TempDir(), "state")
		c := child(t, fmt.Sprintf("limit=%d", limit), path)
		var said bytes.Buffer
		c.Stderr = &said
		out, err := c.Output()
		if err != nil {
			t.Errorf("limit %d: %v: %s", limit, err, &said)
		}
		told := uint64(bytes.Count(out, []byte("\n")))
		if got := Whole(t, b.Again(path, time.Minute)); got != told {
			t.Errorf("limit %d: %d objects, %d told", limit, got, told)
		}
	}
}

// testFullDisk does the same on a real full file system.
func testFullDisk(t *testing.T, b Backend) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a tmpfs needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	defer func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	s := b.Again(filepath.Join(dir, "state"), time.Minute)
	var last uint64
	var err error
	for range 10000 {
		var n uint64
		if n, err = Grow(s); err != nil {
			break
		}
		last = n
	}
	wantKind(t, "a full disk", err, cove.Unavailable)
	if got := Whole(t, s); got != last || last == 0 {
		t.Errorf("%d objects, %d told", got, last)
	}
	// There is room again.
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
	if n, err := Grow(s); err != nil || n != last+1 {
		t.Errorf("with room again: %d, %v", n, err)
	}
}
