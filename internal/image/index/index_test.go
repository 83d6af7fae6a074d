package index_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image/index"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// setting is a graph root with a file of each kind of mark.
func setting(t testing.TB) (root, dir string, e index.Entry) {
	root = t.TempDir()
	dir = filepath.Join(root, "cove", "images")
	must(t, os.WriteFile(filepath.Join(root, "images.lock"), []byte(strings.Repeat("t", 64)), 0o600))
	must(t, os.WriteFile(filepath.Join(root, "images.json"), []byte("[]"), 0o600))
	must(t, os.Mkdir(filepath.Join(root, "layer"), 0o700))
	e = index.Entry{
		Key:   index.Key("app:1", ""),
		Image: cove.ImageConfig{ID: strings.Repeat("ab", 32), Name: "example.org/app:1", Layers: []string{"overlay/l/A"}, Cmd: []string{"sh"}},
		Marks: []index.Mark{
			index.MarkLock(root, filepath.Join(root, "images.lock")),
			index.MarkLock(root, filepath.Join(root, "no.lock")),
			index.MarkFile(root, filepath.Join(root, "images.json")),
			index.MarkFile(root, filepath.Join(root, "absent")),
			index.MarkIdentity(root, filepath.Join(root, "layer")),
		},
	}
	return root, dir, e
}

func TestLookup(t *testing.T) {
	root, dir, e := setting(t)
	if _, ok := index.Lookup(dir, root, e.Key); ok {
		t.Error("an empty index answers")
	}
	must(t, index.Write(dir, e))
	got, ok := index.Lookup(dir, root, e.Key)
	if !ok || !reflect.DeepEqual(got, e.Image) {
		t.Errorf("%v %+v", ok, got)
	}
	if _, ok := index.Lookup(dir, root, index.Key("app:1", "linux/arm64")); ok {
		t.Error("answers another question")
	}
	if index.Key("a", "bc") == index.Key("ab", "c") {
		t.Error("keys of different questions are equal")
	}
	must(t, os.WriteFile(filepath.Join(root, "layer", "file"), nil, 0o600))
	if _, ok := index.Lookup(dir, root, e.Key); !ok {
		t.Error("the content of a layer counts")
	}
	moved := root + ".moved"
	must(t, os.Rename(root, moved))
	if _, ok := index.Lookup(filepath.Join(moved, "cove", "images"), moved, e.Key); !ok {
		t.Error("the index did not survive a move of the graph root")
	}
	must(t, os.Rename(moved, root))
	must(t, index.Clear(dir))
	if _, ok := index.Lookup(dir, root, e.Key); ok {
		t.Error("answers after Clear")
	}
}

func TestLookupStale(t *testing.T) {
	for name, change := range map[string]func(root, dir string) error{
		"token": func(root, _ string) error {
			return os.WriteFile(filepath.Join(root, "images.lock"), []byte(strings.Repeat("u", 64)), 0o600)
		},
		"token emptied": func(root, _ string) error { return os.Truncate(filepath.Join(root, "images.lock"), 0) },
		"token longer": func(root, _ string) error {
			return os.WriteFile(filepath.Join(root, "images.lock"), []byte(strings.Repeat("t", 65)), 0o600)
		},
		"lock gone":     func(root, _ string) error { return os.Remove(filepath.Join(root, "images.lock")) },
		"lock appeared": func(root, _ string) error { return os.WriteFile(filepath.Join(root, "no.lock"), nil, 0o600) },
		"json touched": func(root, _ string) error {
			return os.Chtimes(filepath.Join(root, "images.json"), time.Unix(1, 1), time.Unix(1, 1))
		},
		"file appeared": func(root, _ string) error { return os.WriteFile(filepath.Join(root, "absent"), nil, 0o600) },
		"layer gone":    func(root, _ string) error { return os.Remove(filepath.Join(root, "layer")) },
		"layer replaced": func(root, _ string) error {
			// Both exist for a moment, so the inodes differ.
			must(t, os.Mkdir(filepath.Join(root, "new"), 0o700))
			must(t, os.Remove(filepath.Join(root, "layer")))
			return os.Rename(filepath.Join(root, "new"), filepath.Join(root, "layer"))
		},
		"entry torn": func(_, dir string) error {
			files, _ := filepath.Glob(filepath.Join(dir, "*.json"))
			return os.Truncate(files[0], 200)
		},
		"entry from the future": func(_, dir string) error {
			files, _ := filepath.Glob(filepath.Join(dir, "*.json"))
			data, _ := os.ReadFile(files[0])
			return os.WriteFile(files[0], []byte(strings.Replace(string(data), `"schema":3`, `"schema":4`, 1)), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			root, dir, e := setting(t)
			must(t, index.Write(dir, e))
			must(t, change(root, dir))
			if _, ok := index.Lookup(dir, root, e.Key); ok {
				t.Error("a stale entry answers")
			}
		})
	}
}

func TestHoldAndOwn(t *testing.T) {
	dir := t.TempDir()
	short := func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(context.Background(), 20*time.Millisecond)
	}
	one, err := index.Hold(context.Background(), dir)
	must(t, err)
	two, err := index.Hold(context.Background(), dir)
	must(t, err)
	ctx, cancel := short()
	if _, err := index.Own(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("owned while held: %v", err)
	}
	cancel()
	must(t, one())
	must(t, two())
	own, err := index.Own(context.Background(), dir)
	must(t, err)
	ctx, cancel = short()
	defer cancel()
	if _, err := index.Hold(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("held while owned: %v", err)
	}
	must(t, own())
}

// Who waits for a process that somebody has stopped is told which one, in the end.
func TestHeldForEver(t *testing.T) {
	dir := t.TempDir()
	own, err := index.Own(context.Background(), dir)
	must(t, err)
	defer own()
	f, err := os.Open(filepath.Join(dir, "lock"))
	must(t, err)
	defer f.Close()
	name, err := os.Executable()
	must(t, err)
	err = index.Lock(context.Background(), int(f.Fd()), f.Name(), syscall.LOCK_SH, 20*time.Millisecond)
	want := fmt.Sprintf("lock %s/lock: process %d (%s) has held it for 20ms", dir, os.Getpid(), filepath.Base(name))
	if err == nil || err.Error() != want {
		t.Errorf("%v, not %s", err, want)
	}
}

func BenchmarkLookup(b *testing.B) {
	root, dir, e := setting(b)
	must(b, index.Write(dir, e))
	for b.Loop() {
		if _, ok := index.Lookup(dir, root, e.Key); !ok {
			b.Fatal("stale")
		}
	}
}

// FuzzLookup reads entries that are damaged or somebody else's: each is the
// answer that was written or none.
func FuzzLookup(f *testing.F) {
	root, dir, e := setting(f)
	must(f, index.Write(dir, e))
	entries, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(entries) != 1 {
		f.Fatal(entries, err)
	}
	whole, err := os.ReadFile(entries[0])
	must(f, err)
	f.Add(whole)
	f.Add([]byte(`{"Schema":1,"Key":"x","Marks":[{}]}`))
	f.Add(whole[:len(whole)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		must(t, os.WriteFile(entries[0], data, 0o600))
		index.Lookup(dir, root, e.Key)
		index.Lookup(dir, root, "")
	})
}
