package serve

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cove-engine/cove/internal/monitor/runfile"
)

// A monitor that could not remove a cgroup says so: with a run that is not down,
// with --rm by a directory that has something in it.
func TestTeardownIncomplete(t *testing.T) {
	for _, busy := range []bool{false, true} {
		for _, remove := range []bool{false, true} {
			at := t.TempDir()
			dir, cgroup := filepath.Join(at, "c"), filepath.Join(at, "cgroup")
			for _, d := range []string{dir, cgroup} {
				if err := os.Mkdir(d, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if busy { // a file is what rmdir(2) stumbles over here
				if err := os.WriteFile(filepath.Join(cgroup, "file"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			f, err := runfile.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			m := newMonitor()
			m.record, m.env.Dir, m.env.Cgroups = f, dir, []string{cgroup}
			m.env.Teardown.Remove, m.env.Teardown.Removed = remove, filepath.Join(at, "removed")
			m.conclude()
			if m.run.Down != (!busy && !remove) {
				t.Errorf("cgroup busy %v, --rm %v: down is %v", busy, remove, m.run.Down)
			}
			left, _ := os.ReadDir(m.env.Teardown.Removed)
			if (len(left) > 0) != (busy && remove) {
				t.Errorf("cgroup busy %v, --rm %v: %d left of its directory", busy, remove, len(left))
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
