package statetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
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
		if _, err := grow(s); err != nil {
			t.Fatal(err)
		}
	}
	good := []byte(contents(t, s.Path()))
	half := bytes.Clone(good)
	for i := len(half) / 2; i < len(half); i++ {
		half[i] = 0xa5
	}
	zeroed := make([]byte, len(good))
	path := filepath.Join(t.TempDir(), "state")
	try := func(raw []byte) error {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		s := b.Again(path, time.Second)
		err := s.View(func(tx state.Tx) error {
			for _, b := range state.Buckets() {
				if err := tx.List(b, func(string, []byte) error { return nil }); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil && contents(t, path) != string(raw) {
			t.Error("a view changed the file")
		}
		e := s.Update(func(tx state.Tx) error { _, err := tx.Next("x"); return err })
		if e != nil && contents(t, path) != string(raw) {
			t.Errorf("a failed update changed the file: %v", e)
		}
		if err == nil {
			err = e
		}
		return err
	}
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
		if !contains(err.Error(), path) || !contains(err.Error(), "damaged") || contains(err.Error(), "\n") {
			t.Errorf("%s: the message does not help: %v", name, err)
		}
		wantKind(t, name, err, cove.Internal)
	}
	_ = try(half) // may or may not be noticed; must not panic
	r := rand.New(rand.NewPCG(1, 2))
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
	if err := b.Again(path, time.Second).View(func(state.Tx) error { return nil }); err == nil {
		t.Error("a symbolic link was followed")
	}
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
		if got := whole(t, b.Again(path, time.Second)); got != told {
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
	s := b.Again(filepath.Join(dir, "state"), time.Second)
	var last uint64
	var err error
	for range 10000 {
		var n uint64
		if n, err = grow(s); err != nil {
			break
		}
		last = n
	}
	wantKind(t, "a full disk", err, cove.Unavailable)
	if got := whole(t, s); got != last || last == 0 {
		t.Errorf("%d objects, %d told", got, last)
	}
	// There is room again.
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
	if n, err := grow(s); err != nil || n != last+1 {
		t.Errorf("with room again: %d, %v", n, err)
	}
}
