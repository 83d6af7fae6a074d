package shm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cove-engine/cove/internal/lock"
)

// Whatever the table's file holds, it is refused or used: nothing waits, panics
// or gives an object that cannot be.
func FuzzTable(f *testing.F) {
	dir := f.TempDir()
	l, err := New(dir, 2).TryLock(f.Context(), lock.Volume, "v")
	if err != nil {
		f.Fatal(err)
	}
	_ = l.Unlock()
	whole, err := os.ReadFile(filepath.Join(dir, "table"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte("cove locks 1\n\xff\xff\xff\xff"))
	f.Add([]byte{})
	if memory, err := os.MkdirTemp("/dev/shm", "cove-table-"); err == nil {
		f.Cleanup(func() { os.RemoveAll(memory) })
		dir = memory
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, "table"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		m := New(dir, 2)
		if known, err := m.Known(); err == nil {
			for _, o := range known {
				if o.Kind == 0 {
					t.Errorf("an object of no kind: %q", o.ID)
				}
			}
		}
		if l, err := m.TryLock(t.Context(), lock.Volume, "v"); err == nil {
			_ = l.Unlock()
		}
		_ = m.Forget(lock.Volume, "v")
	})
}
