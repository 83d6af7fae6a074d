package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor"
)

// Start starts a container that was created or has ended. One that runs
// already is left alone.
func (e *Engine) Start(ctx context.Context, nameOrID string, o StartOptions) (RunResult, error) {
	h, err := e.holdAsIs(ctx, nameOrID)
	if err != nil {
		return RunResult{}, err
	}
	if len(h.DependsOn) > 0 && (h.Status == cove.Created || h.Status == cove.Exited) {
		h.release() // theirs may come before it
		if err := e.startDependencies(ctx, &h.Container.Container); err != nil {
			return RunResult{}, err
		}
		if h, err = e.holdAsIs(ctx, h.ID); err != nil {
			return RunResult{}, err
		}
	}
	defer h.release()
	return e.startHeld(ctx, h, o)
}

// startDependencies starts the containers that one depends on and that do not
// run, and before each those that it depends on. No lock is held.
func (e *Engine) startDependencies(ctx context.Context, c *cove.Container) error {
	for _, id := range c.DependsOn {
		other, err := e.find(id)
		if err != nil {
			return err
		}
		now, err := e.look(other)
		if err != nil {
			return err
		}
		if now.Status != cove.Created && now.Status != cove.Exited {
			continue
		}
		if _, err := e.Start(ctx, id, StartOptions{}); err != nil {
			// Its kind is of that container, not of this one.
			return cove.E("start dependency of container", c.Name, cove.WrongStatus, fmt.Errorf("%s: %s", other.Name, err))
		}
	}
	return nil
}

// startHeld is Start with the container's lock held. Attached, it releases it.
func (e *Engine) startHeld(ctx context.Context, h *held, o StartOptions) (RunResult, error) {
	result := RunResult{ID: h.ID, Detached: true}
	if o.Attach != nil {
		if _, err := e.detachKeys(*o.Attach); err != nil {
			return result, err
		}
	}
	if h.Status == cove.Exited && alive(h.Dir) {
		// Its monitor waits for the next run by the restart policy, or takes
		// down the last one.
		if err := e.stop(ctx, h, "start container", StopOptions{}); err != nil {
			return result, err
		}
	}
	switch h.Status {
	case cove.Created, cove.Exited:
	case cove.Running:
		if o.Attach == nil {
			return result, nil
		}
		return e.attachRunning(ctx, h, *o.Attach)
	default:
		return result, cove.E("start container", h.Name, cove.WrongStatus, fmt.Errorf("it is %s", h.Status))
	}
	l := h.launch()
	l.attach, l.unasked = o.Attach, o.unasked
	if !l.unasked {
		if err := refuseTerminal(e.logDriver(l.c)); err != nil {
			return result, err
		}
	}
	conn, err := l.do(ctx)
	if err != nil && l.overtaken {
		return result, err
	}
	if err != nil && ctx.Err() != nil { // it is as it was
		err = l.calledOff(err)
		if errors.Is(context.Cause(ctx), errListPatience) {
			h.Run.Error, h.Run.Restarts = errListPatience.Error(), l.restarts
			h.Run.RestartDue, h.Run.RestartFails = true, true
			return result, errors.Join(err, h.notStarted(h.Run.Generation+1, nil))
		}
		if l.let {
			err = errors.Join(err, h.notStarted(h.Run.Generation+1, nil))
		}
		return result, err
	}
	if err != nil {
		return result, h.notStarted(h.Run.Generation+1, err)
	}
	defer conn.Close()
	result.Warnings = l.warnings
	h.release()
	result.Warnings = append(result.Warnings, l.announce()...)
	if o.Attach == nil {
		if l.unasked { // the monitor ends it itself if a hook fails
			return result, nil
		}
		if err := l.poststarted(conn); err != nil {
			return result, err
		}
		return result, l.announceHealthy(ctx)
	}
	defer l.announceMeanwhile(ctx)()
	return e.follow(ctx, &h.Container, conn, *o.Attach, result)
}

// notStarted writes down that nothing came of the start of that generation, and
// the cause where it is known. The exit code stays that of the run before.
func (h *held) notStarted(generation uint64, cause error) error {
	h.Run.Generation = generation
	if cause != nil {
		h.Run.Error, h.Run.RestartDue, h.Run.RestartFails = cause.Error(), false, false
	}
	err := h.writeRun()
	if cause != nil && (isFull(err) && isFull(cause) || errors.Is(err, unix.EROFS) && errors.Is(cause, unix.EROFS)) {
		err = nil // it says no more than the cause, and whoever comes next writes it down
	}
	return errors.Join(cause, err)
}

// closeRunFile closes our copy of the file whose lock says that the monitor lives:
// whoever has the container's lock when we ask for it again may wait for that.
func (l *launch) closeRunFile() {
	l.files = slices.DeleteFunc(l.files, func(f monitor.File) bool {
		if f.Name == "run" {
			_ = unix.Close(f.FD)
		}
		return f.Name == "run"
	})
}
