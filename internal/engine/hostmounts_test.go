package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/config"
)

// What a killed start has left of a copy is not taken for one, and what is one is the
// container's.
func TestHostMountCutShort(t *testing.T) {
	source, dir := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(source, "sub/file"), "whole")
	write(filepath.Join(dir, "%new/sub/file"), "wh")
	write(filepath.Join(dir, "%new/other"), "")
	entries := []config.HostMount{{Source: source, Destination: "/run/secrets"}}
	all, err := readHostMounts(entries, dir)
	if err != nil || len(all) != 1 || all[0].content == nil {
		t.Fatalf("%+v, %v", all, err)
	}
	l := &launch{c: new(cove.Container)}
	if err := l.copyHostMount(all[0]); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(all[0].bind.Source, "sub/file")); string(text) != "whole" {
		t.Errorf("%q, %v", text, err)
	}
	if names, err := os.ReadDir(all[0].bind.Source); len(names) != 1 {
		t.Errorf("%v, %v", names, err)
	}
	if all, err = readHostMounts(entries, dir); err != nil || len(all) != 1 || all[0].content != nil {
		t.Errorf("a second start: %+v, %v", all, err)
	}
}

// What cannot be looked at is not taken for a copy that the container has.
func TestHostMountUnseen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ destination, dir string }{
		"long":         {"/" + strings.Repeat("x", 256), t.TempDir()},
		"a file's":     {"/run/secrets", file},
		"with slashes": {strings.Repeat("/x", 100), t.TempDir()},
	} {
		if all, err := readHostMounts([]config.HostMount{{Source: file, Destination: c.destination}}, c.dir); err == nil {
			t.Errorf("%s: %+v", name, all)
		}
	}
}
