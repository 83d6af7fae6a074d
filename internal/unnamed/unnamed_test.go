package unnamed_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cove-engine/cove/internal/unnamed"
)

func TestPublish(t *testing.T) {
	for _, named := range []bool{false, true} {
		for _, there := range []bool{false, true} {
			dir := t.TempDir()
			name := filepath.Join(dir, "out")
			if there {
				if err := os.WriteFile(name, []byte("old"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			f, err := unnamed.Create(dir, 0o640, named)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString("new"); err != nil {
				t.Fatal(err)
			}
			if old, _ := os.ReadFile(name); there && string(old) != "old" {
				t.Errorf("named %v: before it was published: %q", named, old)
			}
			if err := f.Publish(name); err != nil {
				t.Errorf("named %v, over another %v: %v", named, there, err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			want(t, dir, "out")
			if text, _ := os.ReadFile(name); string(text) != "new" {
				t.Errorf("named %v, over another %v: %q", named, there, text)
			}
		}
	}
}

func TestUnpublished(t *testing.T) {
	for _, named := range []bool{false, true} {
		dir := t.TempDir()
		f, err := unnamed.Create(dir, 0o600, named)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.Path(), []byte("text"), 0); err != nil {
			t.Errorf("by its path: %v", err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		want(t, dir)
		if _, err := unnamed.Create(filepath.Join(dir, "none"), 0o600, named); !os.IsNotExist(err) {
			t.Errorf("in a directory that is not there: %v", err)
		}
	}
}

func want(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(names) || len(names) == 1 && entries[0].Name() != names[0] {
		t.Errorf("there is %v, want %v", entries, names)
	}
}
