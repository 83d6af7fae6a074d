package engine

import (
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/procfs"
)

// due makes a container whose next run by policy is due and nobody's to begin: its
// monitor was killed. Here no start succeeds, and one that was tried is not due any more.
func due(t *testing.T, e *Engine, change func(*cove.Container, *cove.Run)) *cove.Container {
	t.Helper()
	run := cove.Run{Generation: 1, BootID: procfs.BootID(), Down: true, Exit: exitMonitorLost, ExitCode: lostCode, RestartDue: true, Restarts: 1}
	c := stored(t, e, "c", func(c *cove.Container) {
		c.Desired, c.Spec.Restart = cove.DesireRun, cove.RestartPolicy{Name: "always"}
		c.Run.Generation, c.Run.BootID = run.Generation, run.BootID
		if change != nil {
			change(c, &run)
		}
	})
	run.Started = c.Created
	writeRunOf(t, e.dir(c.ID), &run)
	return c
}

func stillDue(t *testing.T, e *Engine, c *cove.Container, want bool) {
	t.Helper()
	run, err := runfile.Read(e.dir(c.ID))
	if err != nil {
		t.Fatal(err)
	}
	if run.RestartDue != want {
		t.Errorf("its restart is due: %v, want %v", run.RestartDue, want)
	}
}

// Who executes something in a container has its restart begun, as any who names it.
func TestExecBeginsDueRestart(t *testing.T) {
	e, _ := engineWith(t)
	c := due(t, e, nil)
	if _, err := e.Exec(t.Context(), "c", ExecSpec{Command: []string{"true"}}, AttachOptions{}); err == nil {
		t.Error("something was executed")
	}
	stillDue(t, e, c, false)
}

// A list takes back a change of networks that was cut short, and does not begin a
// restart that a list before it has given up.
func TestListLeavesDueRestart(t *testing.T) {
	e, _ := engineWith(t)
	c := due(t, e, func(c *cove.Container, r *cove.Run) {
		r.RestartFails = true
		c.Attachments = []cove.NetworkAttachment{{Network: "podman", Interface: "eth0", Pending: cove.Leaving}}
	})
	for range 2 {
		list, err := e.List(t.Context(), ListOptions{All: true, Settle: true})
		if err != nil || len(list) != 1 || len(list[0].Attachments) != 0 {
			t.Fatalf("%+v, %v", list, err)
		}
	}
	stillDue(t, e, c, true)
	if _, err := e.Container(t.Context(), "c", false); err != nil {
		t.Fatal(err)
	}
	stillDue(t, e, c, false)
}

// What a hook had to say of the run before is no reason for a list to leave a restart.
func TestListBeginsDueRestart(t *testing.T) {
	e, _ := engineWith(t)
	c := due(t, e, func(_ *cove.Container, r *cove.Run) { r.Error = "poststop hook: exit status 1" })
	if _, err := e.List(t.Context(), ListOptions{All: true, Settle: true}); err != nil {
		t.Fatal(err)
	}
	stillDue(t, e, c, false)
}

// A restart by policy whose command was killed in the midst of it is due as before.
func TestDueAfterStartCutShort(t *testing.T) {
	e, _ := engineWith(t)
	c := due(t, e, func(c *cove.Container, r *cove.Run) { c.Run.Generation = r.Generation + 1 })
	h, err := e.holdAsIs(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer h.release()
	if h.Run.Generation != c.Run.Generation || !h.due {
		t.Errorf("generation %d of %d, due %v", h.Run.Generation, c.Run.Generation, h.due)
	}
}

// Who looks at a container whose restart waits for another is shown it as it is.
func TestLookAtWaitingRestart(t *testing.T) {
	e, _ := engineWith(t)
	other := stored(t, e, "other", nil)
	c := due(t, e, func(c *cove.Container, _ *cove.Run) { c.DependsOn = []string{other.ID} })
	now, err := e.Container(t.Context(), "c", false)
	if err != nil || now.Status != cove.Exited {
		t.Errorf("%s, %v", now.Status, err)
	}
	stillDue(t, e, c, true)
}
