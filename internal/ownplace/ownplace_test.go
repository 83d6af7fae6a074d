package ownplace

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// odd are the things that may lie in a place.
func odd(t *testing.T) map[string]func(name string) error {
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string]func(name string) error{
		"nothing": func(string) error { return nil },
		"file":    func(name string) error { return os.WriteFile(name, []byte("x"), 0o600) },
		"fifo":    func(name string) error { return syscall.Mkfifo(name, 0o600) },
		"link":    func(name string) error { return os.Symlink(other, name) },
	}
}

func TestDirectory(t *testing.T) {
	for what, put := range odd(t) {
		name := filepath.Join(t.TempDir(), "a")
		if err := put(name); err != nil {
			t.Fatal(err)
		}
		if err := Directory(name); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if st, err := os.Lstat(name); err != nil || !st.IsDir() {
			t.Errorf("%s: there is %v, %v, want a directory", what, st, err)
		}
	}
	dangling := filepath.Join(t.TempDir(), "a")
	if err := os.Symlink(dangling+".gone", dangling); err != nil {
		t.Fatal(err)
	}
	if err := Directory(dangling); err != ErrDangling {
		t.Errorf("in the place of a link to nothing: %v", err)
	}
	if !Dangling(dangling) || Dangling(t.TempDir()) || Dangling(dangling+".gone") {
		t.Error("a link to nothing is not told from others")
	}
}

func TestClear(t *testing.T) {
	for what, put := range odd(t) {
		name := filepath.Join(t.TempDir(), "a")
		if err := put(name); err != nil {
			t.Fatal(err)
		}
		if err := Clear(name); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := os.Lstat(name); os.IsNotExist(err) != (what != "file") {
			t.Errorf("%s: afterwards %v", what, err)
		}
	}
	full := filepath.Join(t.TempDir(), "a")
	if err := os.MkdirAll(filepath.Join(full, "content"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Clear(full); err == nil {
		t.Error("a directory with content was taken away")
	}
}

func TestRemove(t *testing.T) {
	for what, put := range odd(t) {
		above := filepath.Join(t.TempDir(), "a")
		if err := put(above); err != nil {
			t.Fatal(err)
		}
		if err := Remove(filepath.Join(above, "b")); err != nil { // and it waits for no writer
			t.Errorf("below %s: %v", what, err)
		}
		if err := Remove(above); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := os.Lstat(above); !os.IsNotExist(err) {
			t.Errorf("%s: afterwards %v", what, err)
		}
	}
}
