package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
	"github.com/cove-engine/cove/internal/cgroup/oom"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/procfs"
)

// heal settles what a killed command or monitor has left, for verbs that only look at a
// container, and begins a restart that is due. They do not wait for its lock: whoever
// holds it does the same. What fails is left to a verb that changes something.
func (e *Engine) heal(ctx context.Context, c *Container) (healed bool) {
	return e.healAnd(ctx, c, e.startDue)
}

// healAnd is heal, with what is done about a restart that is due; that gives the lock back.
func (e *Engine) healAnd(ctx context.Context, c *Container, due func(context.Context, *held) error) (healed bool) {
	if c.dumping {
		return false // CRIU is not waited for by who looks
	}
	halfway := pending(&c.Container) && monitorStopped(c) == nil // of a stopped one nothing can be had
	if (!c.unsettled() || alive(c.Dir)) && !c.fileLost && e.lostAide(c) == nil && !halfway && !c.leftFrozen() {
		return false
	}
	l, err := e.locks.TryLock(ctx, lock.Container, c.ID)
	if err != nil {
		return false
	}
	h, err := e.holdLocked(ctx, c.ID, l)
	switch {
	case err == nil && h.due:
		err = due(ctx, h)
	case err == nil:
		h.release()
	}
	return err == nil || errors.Is(err, errSettledAway)
}

// errSettledAway tells that a container is gone: its --rm was still to be
// carried out, or was so just now.
var errSettledAway = errors.New("no such container")

// settle records a run whose monitor was killed, or that a reboot has ended,
// and takes down what it has left. With --rm that is the container itself:
// the error is errSettledAway then.
func (h *held) settle(ctx context.Context) error {
	if h.Status == cove.Created && !exists(h.Dir) && h.e.absent(h.ID) {
		// Its monitor has removed it since it was looked up.
		return h.away()
	}
	if h.Status == cove.Removing && h.Spec.Remove {
		return h.settleAway(ctx) // whoever was at it was killed: we have the lock
	}
	if h.dumping {
		if err := h.awaitCRIU(ctx); err != nil {
			return err
		}
	}
	if h.Spec.Monitor != "" {
		if h.fileLost {
			// On a full disk it stays with what conmon tells: to end it makes room.
			if err := h.rewriteRun(); err != nil && !isFull(err) {
				return err
			}
		}
		if done, err := h.settleConmon(ctx); done || err != nil {
			return err
		}
	}
	// What of a running container's network cannot be mended now must not keep
	// anybody from ending it.
	_ = h.e.settleUplink(&h.Container)
	_ = h.settleAide()
	_ = h.settleCheckpoint()
	_ = h.settleCommit()
	if err := h.e.settleNetworks(ctx, h); err != nil && h.Run.PID == 0 {
		return err
	}
	if h.Status == cove.Created {
		if err := h.settleCreated(ctx); err != nil {
			return err
		}
	}
	if h.cutShort() && h.over {
		if err := h.undoStart(); err != nil {
			return err
		}
	}
	if h.Status == cove.Exited && !h.Run.Down && (h.over || h.reported) {
		if err := h.settleEnd(ctx); err != nil {
			return err
		}
	} else if h.staysBehind() && !alive(h.Dir) {
		return h.settleAway(ctx)
	}
	// Not while the monitor of a start that is being undone lives.
	h.due = h.due || h.awaitsRestart() && h.Run.Down && !alive(h.Dir)
	// Who has one of those it needs may just be starting it: it stays due for who comes next.
	h.due = h.due && h.e.dependenciesRun(&h.Container.Container)
	return nil
}

// dependenciesRun tells whether all that a container depends on do.
func (e *Engine) dependenciesRun(c *cove.Container) bool {
	for _, id := range c.DependsOn {
		other, err := e.find(id)
		if err != nil {
			return false
		}
		if now, err := e.look(other); err != nil || now.Run.PID == 0 {
			return false
		}
	}
	return true
}

// settleCreated finishes or undoes what made a container that has never run.
func (h *held) settleCreated(ctx context.Context) error {
	if h.neverRan() { // we have the lock
		return h.settleAway(ctx)
	}
	_ = h.remake() // or whoever needs it finds out why not
	return nil
}

// remake makes what a container has from its beginning: whoever recorded it may
// have been killed before the next steps, or in them.
func (h *held) remake() error {
	if exists(filepath.Join(h.Dir, lastMade)) {
		return nil
	}
	if err := h.e.makeVolumeDirs(&h.Container.Container); err != nil {
		return err
	}
	return h.e.makeDir(&h.Container.Container)
}

// settleEnd records the end of a run that nobody has taken down, and takes it
// down.
func (h *held) settleEnd(ctx context.Context) error {
	if h.reported && !h.Run.OOMKilled { // conmon may not have got round to it
		if dirs, err := h.e.cgroupDirs(&h.Container.Container); err == nil {
			h.Run.OOMKilled = oom.Killed(dirs)
		}
	}
	whole, err := h.completeCheckpoint()
	if err != nil {
		return err
	}
	if h.Run.Exit != exitUnknown { // a reboot has taken it down
		if err := h.e.clear(&h.Container); err != nil {
			return err
		}
	}
	if whole {
		h.Run.Checkpointed = h.Run.Finished
	}
	if !h.Run.Checkpointed.IsZero() { // or a restore was cut short
		h.Run.Exit, h.Run.ExitCode = "", 0
	}
	h.Run.Down, h.Run.Poststop, h.Run.Dumping = true, false, false
	if h.Run.Exit == "" && !h.reported && !whole {
		// Its exit is recorded; the monitor was killed after that.
		if err := h.writeRun(); err != nil || !h.goes() {
			return err
		}
		return h.settleAway(ctx)
	}
	if (h.Run.Exit == exitMonitorLost || h.reported && !conmonLives(&h.Run)) && h.Run.Checkpointed.IsZero() && h.Desired == cove.DesireRun &&
		h.Spec.Restart.Restarts(h.Run.ExitCode, h.Run.Restarts) {
		h.Run.RestartDue = true // whoever records that may be killed before the start
		h.Run.RestartFails = h.Run.Exit == exitMonitorLost && runfile.LastWords(h.Dir) != ""
		if !h.restartsUnhealthy() {
			h.Run.Restarts++
		}
	}
	h.Run.PID, h.Run.PIDStart, h.Run.Stopping = 0, 0, false
	// Its directory may not have been on the disk when the machine stopped.
	if err := h.e.makeDir(&h.Container.Container); err != nil {
		return err
	}
	if err := h.writeRun(); err != nil {
		return err
	}
	if !whole {
		_ = h.e.events.Write(diedEvent(&h.Container.Container, h.Run.ExitCode))
	}
	if h.goes() {
		return h.settleAway(ctx)
	}
	return nil
}

// awaitsRestart tells whether the restart policy has another run follow that has not
// begun, and nobody has wanted the end since.
func (c *Container) awaitsRestart() bool {
	return c.Status == cove.Exited && c.Run.RestartDue && c.Desired == cove.DesireRun && !procfs.OtherBoot(c.Run.BootID)
}

// cutShort tells whether the last start was killed, or fails just now, before
// the monitor had written the run down: the record knows of it and the run file
// does not.
func (c *Container) cutShort() bool {
	return c.recorded > c.Run.Generation && c.Run.Exit != exitUnknown && (c.Status == cove.Created || c.Status == cove.Exited)
}

// undoStart takes down what a start that was cut short has left.
func (h *held) undoStart() error {
	if err := h.e.clear(&h.Container); err != nil {
		return err
	}
	err := h.notStarted(h.recorded, nil)
	if isFull(err) {
		err = nil // a removal makes room, and another start finds out; who comes next undoes it again
	}
	return err
}

// settleUplink connects an ordinary user's bridges anew when what did it was
// killed and this container is on them.
func (e *Engine) settleUplink(c *Container) error {
	if e.lan == nil || c.Run.PID == 0 || len(c.Attachments) == 0 {
		return nil
	}
	if kept, err := e.lan.Kept(); err != nil || kept {
		return err
	}
	netns, _, err := e.lan.Join()
	if err != nil {
		return err
	}
	return unix.Close(netns)
}

// settleAway carries out --rm, unless others depend on the container.
func (h *held) settleAway(ctx context.Context) error {
	if users, err := h.e.sharers(h.ID); err != nil || len(users) > 0 {
		return err
	}
	if err := h.e.removeHeld(h, RemoveOptions{}); err != nil {
		return err
	}
	return h.away()
}

func (h *held) away() error {
	return cove.E("find container", h.Name, cove.NotFound, errSettledAway)
}

func (h *held) writeRun() error {
	f, err := runfile.Open(h.Dir)
	if err == nil {
		defer f.Close()
		err = f.Write(&h.Run, true)
	}
	if err != nil {
		return cove.E("record exit of container", h.Name, fileKind(err), err)
	}
	return nil
}

// rewriteRun makes a lost run file anew, and before it what conmon is to tell the exit in:
// all of the container's directory may be lost.
func (h *held) rewriteRun() error {
	if err := os.MkdirAll(h.e.exits(h.ID), 0o700); err != nil {
		return cove.E("record run of container", h.Name, fileKind(err), err)
	}
	return h.writeRun()
}

// clear takes down what a run may have left behind, by name: processes,
// cgroups, firewall elements, names, the socket. What is not there is no
// error.
func (e *Engine) clear(c *Container) error {
	var errs []error
	dirs, err := e.cgroupDirs(&c.Container)
	if err == nil && (!c.Run.Down || c.cutShort()) {
		err = e.endRuntimes(&c.Container)
	}
	for end := time.Now().Add(10 * time.Second); err == nil; {
		if err = cgroup.Kill(dirs, end); err == nil {
			err = cgroup.Remove(dirs)
		}
		if !cove.Is(err, cove.InUse) || time.Now().After(end) {
			break
		}
		err = nil // somebody was just being born there, or ends on a machine with much to do
	}
	if err == nil && len(dirs) == 0 {
		var known bool
		known, err = endInit(c)
		pid := c.Spec.PID
		shared := pid != "" && pid != "private"
		// conmon's does not die with it.
		if err == nil && (shared || !known && c.Spec.Monitor != "") {
			err = e.endStrays(c.ID)
		}
	}
	errs = append(errs, err)
	e.forgetForeign(&c.Container)
	if c.Spec.Monitor != "" {
		errs = append(errs, e.awaitAide(c.ID))
	}
	e.finishHooks(c)
	errs = append(errs, os.RemoveAll(e.bundle(c.ID)))
	if len(c.Ports) > 0 {
		errs = append(errs, e.networks.RemoveElements(context.Background(), c.ID))
	}
	errs = append(errs, e.forgetNames(&c.Container))
	errs = append(errs, e.removeSocket(c.ID))
	if err := errors.Join(errs...); err != nil {
		return cove.E("clean up container", c.Name, cove.Internal, err)
	}
	return nil
}

// endInit waits for the end of a container that could not have a cgroup: its
// init dies with its monitor, and its process namespace with it. known is false where
// nothing tells which process that was.
func endInit(c *Container) (known bool, err error) {
	run, err := runfile.Read(c.Dir)
	if err != nil {
		return false, nil
	}
	if run.PID == 0 || procfs.OtherBoot(run.BootID) {
		return true, nil // it never ran, or in another boot
	}
	fd, err := procfs.Open(run.PID, run.PIDStart)
	if err != nil {
		return true, nil // it is gone
	}
	defer unix.Close(fd)
	if err := endProcess(fd, 10*time.Second); err != nil {
		return true, fmt.Errorf("end init: %w", err)
	}
	return true, nil
}
