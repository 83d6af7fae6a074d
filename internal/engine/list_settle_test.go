package engine

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/procfs"
)

// A list settles whose monitor was killed; it waits neither for who has a container's
// lock nor for what does not end.
func TestListSettles(t *testing.T) {
	e, _ := engineWith(t)
	lost := func(name string, edit func(*cove.Container)) *cove.Container {
		c := stored(t, e, name, func(c *cove.Container) {
			c.Run.Generation, c.Run.BootID = 1, procfs.BootID()
			if edit != nil {
				edit(c)
			}
		})
		h := held{e: e, Container: Container{Container: *c, Dir: e.dir(c.ID)}}
		h.Run = cove.Run{Generation: 1, BootID: procfs.BootID(), PID: 1 << 30, Started: time.Now()}
		if err := h.writeRun(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	free := lost("free", nil)
	taken := lost("taken", nil)
	stuck := lost("stuck", func(c *cove.Container) { c.Spec.Monitor = "/usr/bin/conmon" })
	l, err := e.lockContainer(t.Context(), taken.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Unlock() }()
	// An aide that does not end.
	if err := os.MkdirAll(e.aideDir(stuck.ID), 0o700); err != nil {
		t.Fatal(err)
	}
	aide, err := os.Create(filepath.Join(e.aideDir(stuck.ID), runfile.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer aide.Close()
	if err := unix.Flock(int(aide.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	list := func(settle bool) (down map[string]bool) {
		t.Helper()
		began := time.Now()
		got, err := e.List(t.Context(), ListOptions{All: true, Settle: settle})
		if err != nil || len(got) != 3 {
			t.Fatalf("%d containers, %v", len(got), err)
		}
		if took := time.Since(began); took > listPatience+time.Minute {
			t.Errorf("it took %s", took)
		}
		down = map[string]bool{}
		for _, c := range got {
			if c.Status != cove.Exited || c.Run.ExitCode != lostCode || c.Run.Exit != exitMonitorLost {
				t.Errorf("%s: %s, %q %d", c.Name, c.Status, c.Run.Exit, c.Run.ExitCode)
			}
			down[c.ID] = c.Run.Down
		}
		return down
	}
	if down := list(false); down[free.ID] {
		t.Error("a list that was not to settle anything has")
	}
	// A busy machine may not get round to it in the time that a list takes.
	settles := func(what string, c *cove.Container) (down map[string]bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if down = list(true); down[c.ID] {
				return down
			}
			if time.Now().After(end) {
				t.Fatal(what + " is not taken down")
			}
		}
	}
	if down := settles("what is free", free); down[taken.ID] || down[stuck.ID] {
		t.Errorf("taken down beside what is free: taken %v, stuck %v", down[taken.ID], down[stuck.ID])
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	if down := settles("what was taken", taken); down[stuck.ID] {
		t.Error("what does not end is taken down")
	}
	aide.Close()
	settles("what has ended since", stuck)
}
