package engine

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/checkpoint"
	"github.com/cove-engine/cove/internal/ctrinit/drive"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/procfs"
)

// A program with the engine in it may be called as it likes, and so may cove.
func TestIsCove(t *testing.T) {
	for main, want := range map[string]bool{
		"github.com/cove-engine/cove/cmd/cove":       true,
		"github.com/cove-engine/cove/cmd/cove-full":  true,
		"github.com/cove-engine/cove/examples/embed": false,
		"example.org/cove-board/cmd/cove":            false,
		"":                                           false,
	} {
		if isCove(main) != want {
			t.Errorf("%q: not %t", main, want)
		}
	}
}

// conmonEnded is a container that conmon has watched and whose process is gone, which
// nobody has recorded.
func conmonEnded(t *testing.T, e *Engine, dumping bool) *Container {
	t.Helper()
	run := cove.Run{Generation: 1, BootID: procfs.BootID(), PID: os.Getpid(), PIDStart: 1, Dumping: dumping, Started: time.Now()}
	c := stored(t, e, "a", func(c *cove.Container) {
		c.Spec.Monitor, c.Run.Generation, c.Run.BootID = "conmon", run.Generation, run.BootID
	})
	now := &Container{Container: *c, Dir: e.dir(c.ID)}
	now.Run = run
	writeRunOf(t, now.Dir, &run)
	return now
}

func writeRunOf(t *testing.T, dir string, run *cove.Run) {
	t.Helper()
	f, err := runfile.Open(dir)
	if err == nil {
		err = f.Write(run, false)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Who waits for the end of a run has its file open, and that may be made anew before the end
// is recorded.
func TestEndInRunFileMadeAnew(t *testing.T) {
	e, _ := engineWith(t)
	c := conmonEnded(t, e, false)
	f, err := runfile.Open(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(filepath.Join(c.Dir, runfile.Name)); err != nil {
		t.Fatal(err)
	}
	recorded := c.Run
	recorded.PID, recorded.PIDStart, recorded.ExitCode, recorded.Down = 0, 0, 3, true
	writeRunOf(t, c.Dir, &recorded)
	if run, err := e.awaitConmon(t.Context(), c, f); err != nil || run.ExitCode != 3 {
		t.Errorf("exit code %d, %v; want 3", run.ExitCode, err)
	}
}

// What conmon tells of a run that a checkpoint has ended is that it was killed.
func TestWaitForCheckpoint(t *testing.T) {
	e, _ := engineWith(t)
	c := conmonEnded(t, e, true)
	i := new(CheckpointOptions).images(c.Dir)
	for name, text := range map[string]string{
		filepath.Join(e.exits(c.ID), c.ID):               strconv.Itoa(lostCode),
		filepath.Join(i.Dir, "inventory.img"):            "",
		filepath.Join(i.Work, checkpoint.DumpStatistics): "",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, name, text)
	}
	look, err := os.Open(c.Dir) // another one who looks has not CRIU's turn
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(look.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	if all, err := e.List(t.Context(), ListOptions{All: true}); err != nil || len(all) != 1 || all[0].Run.Checkpointed.IsZero() {
		t.Errorf("a list beside another: %+v, %v", all, err)
	}
	_ = look.Close()
	turn, err := drive.Turn(c.Dir, 0) // CRIU has it still
	if err != nil {
		t.Fatal(err)
	}
	for _, ended := range []bool{false, true} {
		all, err := e.List(t.Context(), ListOptions{All: true})
		if err != nil || len(all) != 1 || all[0].Run.ExitCode != 0 || all[0].Run.Checkpointed.IsZero() == ended {
			t.Errorf("a list before anybody has recorded it, CRIU ended %t: %+v, %v", ended, all, err)
		}
		if !ended {
			_ = unix.Close(turn)
		}
	}
	if code, err := e.Wait(t.Context(), "a", WaitOptions{}); code != 0 || err != nil {
		t.Errorf("exit code %d, %v; want 0", code, err)
	}
}

// Who waits gets no exit code before it is known whether a checkpoint has ended the container.
func TestWaitForCRIU(t *testing.T) {
	e, _ := engineWith(t)
	c := conmonEnded(t, e, true)
	if err := os.MkdirAll(e.exits(c.ID), 0o700); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, filepath.Join(e.exits(c.ID), c.ID), "3")
	turn, err := drive.Turn(c.Dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		time.Sleep(100 * time.Millisecond)
		_ = unix.Close(turn)
	}()
	if code, err := e.Wait(t.Context(), "a", WaitOptions{Interval: 10 * time.Millisecond}); code != 3 || err != nil {
		t.Errorf("exit code %d, %v; want 3", code, err)
	}
}

// The images of a checkpoint that are complete are put into their place by one at a time.
func TestCompleteCheckpointTakesTurn(t *testing.T) {
	e, _ := engineWith(t)
	c := conmonEnded(t, e, true)
	i := new(CheckpointOptions).images(c.Dir)
	for _, name := range []string{filepath.Join(i.Dir+drive.Unfinished, "inventory.img"), filepath.Join(i.Work, checkpoint.DumpStatistics)} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, name, "")
	}
	turn, err := drive.Turn(c.Dir, 0) // another one is at it
	if err != nil {
		t.Fatal(err)
	}
	h, done := held{e: e, Container: *c}, make(chan error)
	go func() {
		whole, err := h.completeCheckpoint()
		if err == nil && !whole {
			err = errors.New("there was none")
		}
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("it is completed at the same time (%v)", err)
	case <-time.After(200 * time.Millisecond):
	}
	_ = unix.Close(turn)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What --rm removes with its end stays while another run is due, counted and tried as
// that may be.
func TestGoesNotBeforeDueRestart(t *testing.T) {
	h := held{Container: Container{Container: cove.Container{Desired: cove.DesireRun}}}
	h.Status = cove.Exited
	h.Spec.Monitor, h.Spec.Remove, h.Spec.Restart = "/usr/bin/conmon", true, cove.RestartPolicy{Name: "on-failure", MaxRetries: 1}
	h.Run = cove.Run{Generation: 1, BootID: procfs.BootID(), Down: true, ExitCode: 3, Restarts: 1}
	if !h.goes() {
		t.Error("it stays after its last restart")
	}
	h.Run.RestartDue = true
	if h.goes() {
		t.Error("it goes before a restart that is counted")
	}
	h.Run.Error = "its start took too long"
	if h.goes() {
		t.Error("it goes before a restart that was tried")
	}
}
