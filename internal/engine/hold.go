package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/state"
)

// held is a container whose lock we hold, and what is true of it. There is no
// other way to change one.
type held struct {
	Container
	e    *Engine
	lock lock.Held // nil when it is not held any more
	// due tells that the restart policy asks for another run and that the
	// monitor that would have seen to it was killed.
	due bool
	// told tells that it has been told to end before it was held.
	told bool
}

func (h *held) release() {
	if h.lock != nil {
		_ = h.lock.Unlock()
		h.lock = nil
	}
}

// hold is holdAsIs, and then the restart policy is applied in the place of a
// monitor that was killed.
func (e *Engine) hold(ctx context.Context, nameOrID string) (*held, error) {
	h, err := e.holdAsIs(ctx, nameOrID)
	if err != nil || !h.due {
		return h, err
	}
	if err := e.startDue(ctx, h); err != nil {
		return nil, err
	}
	return e.holdAsIs(ctx, h.ID)
}

// startDue starts a container whose restart policy asks for it, and gives its lock back.
func (e *Engine) startDue(ctx context.Context, h *held) error {
	defer h.release()
	_, err := e.startHeld(ctx, h, StartOptions{unasked: true})
	return err
}

// holdAsIs finds a container, takes its lock, and finishes what a killed
// command or monitor has left of it. The caller must release it.
func (e *Engine) holdAsIs(ctx context.Context, nameOrID string) (*held, error) {
	return e.holdWhen(ctx, nameOrID, nil)
}

// holdToEnd is holdAsIs for who wants the container to end as o says: hooks that
// it waits for are ended.
func (e *Engine) holdToEnd(ctx context.Context, nameOrID string, o StopOptions) (*held, error) {
	return e.insist(ctx, nameOrID, o, func(ctx context.Context, nameOrID string) (*held, error) {
		return e.holdWhen(ctx, nameOrID, e.callOff)
	})
}

// insist is hold for who wants the container to end as o says. Who has the lock
// may be waiting for the container itself, which can serve a file system and let
// somebody write to it: after a while it is told to end all the same.
func (e *Engine) insist(ctx context.Context, nameOrID string, o StopOptions, hold func(context.Context, string) (*held, error)) (*held, error) {
	c, err := e.find(nameOrID)
	if err != nil {
		return nil, err
	}
	sig, timeout, err := e.wayToStop(c, o)
	if err != nil {
		return hold(ctx, nameOrID) // it may not run, and nobody minds
	}
	first := time.AfterFunc(endPatience, func() { e.tellToEnd(c, sig) })
	last := time.AfterFunc(endPatience+time.Duration(timeout)*time.Second, func() { e.tellToEnd(c, unix.SIGKILL) })
	h, err := hold(ctx, nameOrID)
	last.Stop()
	told := !first.Stop()
	if h != nil {
		h.told = told
	}
	return h, err
}

// tellToEnd sends a signal to the init of a container that somebody else may hold. Nothing is
// recorded: it may be started again by its policy until it is held.
func (e *Engine) tellToEnd(c *cove.Container, sig unix.Signal) {
	now, err := e.look(c)
	if err != nil || now.Run.PID == 0 {
		return
	}
	if now.Status == cove.Paused {
		_ = e.thaw(&now)
	}
	_ = e.signal(&now, sig)
}

// holdWhen is holdAsIs. While others have the container without holding its
// lock, hurry is asked to do something about it.
func (e *Engine) holdWhen(ctx context.Context, nameOrID string, hurry func(*cove.Container)) (*held, error) {
	for began := time.Now(); ; {
		c, err := e.find(nameOrID)
		if err != nil {
			return nil, err
		}
		l, err := e.lockContainer(ctx, c.ID)
		if err != nil {
			if cove.Is(err, cove.NoFile) && time.Since(began) < startPatience { // not so for want of a directory for locks
				time.Sleep(time.Millisecond)
				continue
			}
			return nil, err
		}
		h, err := e.holdLocked(ctx, c.ID, l)
		if !errors.Is(err, errAboutToStart) && !errors.Is(err, errHooksRun) || time.Since(began) > startPatience {
			return h, err
		}
		// What cleans up behind a container is given time to.
		if hurry != nil && (errors.Is(err, errAboutToStart) || time.Since(began) > endPatience) {
			hurry(c)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

// callOffStart ends a start that has not come to the command, by asking the
// container's monitor, or by ending conmon or the start's guard.
func (e *Engine) callOffStart(c *cove.Container) {
	if c.Spec.Monitor != "" {
		e.callOff(c)
		return
	}
	conn, err := monitor.Dial(e.socket(c.ID))
	if err != nil {
		return // it has ended
	}
	defer conn.Close()
	_ = conn.Request(wire.Stop, wire.StopBody{})
}

// callOff asks a container's monitor to end what it is at.
func (e *Engine) callOff(c *cove.Container) {
	if c.Spec.Monitor != "" {
		if run, err := runfile.Read(e.dir(c.ID)); err == nil && run.PID == 0 {
			_ = e.endConmon(run) // and the runtime, which waits for hooks, with it
		} else if err == nil {
			e.endGuard(c.ID)
		}
		return
	}
	conn, err := monitor.Dial(e.socket(c.ID))
	if err != nil {
		return // it does not listen yet, or not any more
	}
	defer conn.Close()
	_ = conn.Request(wire.Stop, wire.StopBody{Signal: int(unix.SIGKILL)})
}

// holdLocked is holdAsIs with the lock taken; it is released on error.
func (e *Engine) holdLocked(ctx context.Context, id string, l lock.Held) (*held, error) {
	h := &held{e: e, lock: l}
	err := h.read(id)
	if err == nil {
		err = h.settle(ctx)
	}
	if err != nil {
		if cove.Is(err, cove.NotFound) {
			// Its remover has taken the lock file away, and we have made a
			// new one.
			_ = e.locks.Forget(lock.Container, id)
		}
		h.release()
		return nil, err
	}
	return h, nil
}

// read looks at the container whose lock is held, once more: it may have changed
// or gone. One that somebody has without its lock is an error.
func (h *held) read(id string) error {
	e, c := h.e, new(cove.Container)
	err := e.store.View(func(tx state.Tx) error { return tx.Get(state.Containers, id, c) })
	if err == nil {
		h.Container, err = e.look(c)
	}
	switch {
	case err != nil:
		return err
	case h.aboutToStart(c):
		return cove.E("find container", c.Name, cove.Unavailable, fmt.Errorf("%w by process %d", errAboutToStart, c.StartedBy.PID))
	case e.undecided(&h.Container):
		return cove.E("find container", c.Name, cove.Unavailable, errAboutToStart)
	case h.Run.PID == 0 && h.Run.Poststop && c.Spec.Monitor == "" && alive(h.Dir):
		return cove.E("find container", c.Name, cove.Unavailable, errHooksRun)
	}
	return nil
}

// startPatience is how long a run that has recorded its container is expected
// to take to its lock, and hooks while which nobody has it.
const startPatience = 30 * time.Second

// endPatience is how long who wants a container gone waits for the hooks of
// its end, and for others who hold it.
const endPatience = 10 * time.Second

// aboutToStart tells whether the command that has recorded a start lives and
// has not had the lock yet, or does without it while hooks run.
func (h *held) aboutToStart(c *cove.Container) bool {
	if c.Intent != "" || h.Run.Generation >= c.Run.Generation || procfs.OtherBoot(c.Run.BootID) || c.StartedBy.PID == 0 {
		return false
	}
	start, err := procfs.StartTime(c.StartedBy.PID)
	return err == nil && start == c.StartedBy.Start
}

// find looks a container up by name, ID or beginning of an ID.
func (e *Engine) find(nameOrID string) (*cove.Container, error) {
	nameOrID = bareName(nameOrID)
	c := new(cove.Container)
	err := e.store.View(func(tx state.Tx) error {
		id, err := tx.Find(state.Containers, nameOrID)
		if err != nil {
			return err
		}
		if e.gone(id) {
			return cove.E("", "", cove.NotFound, errors.New("no container with name or ID \""+nameOrID+"\" found: no such container"))
		}
		return tx.Get(state.Containers, id, c)
	})
	return c, err
}

// gone tells whether a container's monitor has removed it already and only the
// record waits for the next write.
func (e *Engine) gone(id string) bool {
	_, err := os.Lstat(e.removedDir(id))
	return err == nil
}

// absent is gone, or that the record has been dropped by now.
func (e *Engine) absent(id string) bool {
	if e.gone(id) {
		return true
	}
	err := e.store.View(func(tx state.Tx) error { return tx.Get(state.Containers, id, new(struct{})) })
	return cove.Is(err, cove.NotFound)
}

// unlocked lets others have the container while something is waited for, and
// looks at it anew afterwards. Whoever has removed it meanwhile makes the error
// errSettledAway.
func (h *held) unlocked(ctx context.Context, wait func() error) error {
	h.release()
	waited := wait()
	l, err := h.e.lockContainer(ctx, h.ID)
	if err != nil {
		return errors.Join(waited, err)
	}
	h.lock = l
	c := new(cove.Container)
	err = h.e.store.View(func(tx state.Tx) error { return tx.Get(state.Containers, h.ID, c) })
	if err == nil {
		h.Container, err = h.e.look(c)
	}
	if cove.Is(err, cove.NotFound) {
		_ = h.e.locks.Forget(lock.Container, h.ID) // it was made by asking for it
		err = h.away()
	}
	if err != nil {
		h.release()
		return errors.Join(waited, err)
	}
	return waited
}

// monitorEnds waits until no monitor lives in a container's directory; false
// when one still does after limit.
func monitorEnds(dir string, limit time.Duration) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
		if !alive(dir) {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}
