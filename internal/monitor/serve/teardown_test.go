package serve

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cove-engine/cove/internal/monitor/runfile"
)

// A monitor that could not remove something says so: with a run that is not down,
// with --rm by a directory that has something in it.
func TestTeardownIncomplete(t *testing.T) {
	for _, stuck := range []string{"", "cgroup", "name", "socket", "run/socket"} {
		for _, remove := range []bool{false, true} {
			at := t.TempDir()
			dir := filepath.Join(at, "c")
			for _, d := range []string{"c", "cgroup", "run"} {
				if err := os.Mkdir(filepath.Join(at, d), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if stuck != "" { // what is not empty cannot be removed, nor a directory where a file is expected
				full := filepath.Join(at, stuck, "full")
				if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o700), os.WriteFile(full, nil, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			f, err := runfile.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			m := newMonitor()
			m.record, m.env.Dir, m.env.Cgroups = f, dir, []string{filepath.Join(at, "cgroup")}
			m.env.Socket = filepath.Join(at, "run/socket")
			if stuck == "socket" {
				m.env.Socket = filepath.Join(at, "socket/attach")
			}
			m.env.Teardown.Unlink = []string{filepath.Join(at, "name")}
			m.env.Teardown.Remove, m.env.Teardown.Removed = remove, filepath.Join(at, "removed")
			m.conclude()
			if m.run.Down != (stuck == "" && !remove) {
				t.Errorf("%q stuck, --rm %v: down is %v", stuck, remove, m.run.Down)
			}
			left, _ := os.ReadDir(m.env.Teardown.Removed)
			if (len(left) > 0) != (stuck != "" && remove) {
				t.Errorf("%q stuck, --rm %v: %d left of its directory", stuck, remove, len(left))
			}
		}
	}
}

// Cgroups below cgroups that cannot be removed take no longer the deeper they are.
func TestDeepCgroups(t *testing.T) {
	at := t.TempDir()
	if err := os.MkdirAll(at+strings.Repeat("/d", 60), 0o700); err != nil {
		t.Fatal(err)
	}
	if !removeCgroup(at + "/d") {
		t.Error("it is not removed")
	}
	if err := os.MkdirAll(at+strings.Repeat("/d", 60), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at+strings.Repeat("/d", 60)+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan bool)
	go func() { ended <- removeCgroup(at + "/d") }()
	select {
	case removed := <-ended:
		if removed {
			t.Error("it says that it has removed what is there")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
}
