package config

import (
	"os"
	"path/filepath"
	"testing"
)

// An ordinary user's mounts.conf is his home's, never the working directory's.
func TestHostMountsHome(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, ".config/containers"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, ".config/containers/mounts.conf")
	if err := os.WriteFile(file, []byte("/planted:/run/planted\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for home, want := range map[string]bool{"": false, ".": false, dir: true} {
		t.Setenv("HOME", home)
		_, all, err := (&Config{Rootless: true}).HostMounts()
		if err != nil {
			t.Fatal(err)
		}
		found := len(all) == 1 && all[0] == HostMount{"/planted", "/run/planted"}
		if found != want {
			t.Errorf("HOME=%q: %+v", home, all)
		}
	}
}
