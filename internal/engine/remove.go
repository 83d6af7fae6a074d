package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/state"
)

// Remove removes a container with all that is its own. Each step can be done
// again, so a removal that was cut short is finished by the next one.
func (e *Engine) Remove(ctx context.Context, nameOrID string, o RemoveOptions) error {
	ctx = lock.Track(ctx) // many are removed at the same time
	if o.Force {
		defer e.hurryCRIU(nameOrID, StopOptions{Timeout: new(uint)})()
	}
	h, err := e.holdAlone(ctx, nameOrID, o)
	if err != nil && o.Force && e.clearPlace(ctx, nameOrID, err) {
		h, err = e.holdAlone(ctx, nameOrID, o)
	}
	if errors.Is(err, errSettledAway) {
		return nil
	}
	if err != nil && o.Force {
		if h, err = e.withForce(ctx, nameOrID, err); err == nil {
			return e.removeDamaged(ctx, h)
		}
	}
	if err != nil {
		return err
	}
	defer h.release()
	for h.Run.PID != 0 { // as often as somebody starts it again
		if !o.Force {
			return cove.E("", "", cove.WrongStatus, fmt.Errorf("cannot remove container %s as it is %s - running or paused containers cannot be removed without force: container state improper", h.ID, h.Status))
		}
		if err := e.desire(h, cove.DesireStop); err != nil {
			return err
		}
		how := o.stop()
		if h.Status == cove.Paused {
			how.Timeout = new(uint) // it can do nothing with its time
		}
		err := e.stop(ctx, h, "remove container", how)
		if errors.Is(err, errSettledAway) {
			return nil
		}
		if err != nil && ctx.Err() != nil {
			return err // whoever has called it off may have left the lock to others
		}
		if err != nil && h.Run.PID != 0 {
			// The monitor does not do its work: without it.
			if kerr := e.killMonitor(h); kerr != nil {
				return errors.Join(err, kerr)
			}
		}
		if e.gone(h.ID) { // --rm: its monitor has removed it
			return e.update(func(state.Tx) error { return nil })
		}
	}
	return e.removeHeld(h, o)
}

// clearPlace takes away what is in the place of a container's directory and is none,
// in which nothing can be looked up, and makes the directory anew. Of a conmon, whose
// process is known by a file there alone, it ends what lives. It tells whether it did.
// cause is why the container cannot be removed otherwise. What goes by force does not
// wait for somebody to see to that.
func (e *Engine) clearPlace(ctx context.Context, nameOrID string, cause error) bool {
	c, err := e.find(nameOrID)
	if err != nil {
		return false
	}
	displaced := func() bool { return noDirectory(e.dir(c.ID)) }
	if !displaced() && !errors.Is(cause, errUnwatched) {
		return false
	}
	l, err := e.lockContainer(ctx, c.ID)
	if err != nil {
		return false
	}
	defer l.Unlock()
	if displaced() && (unix.Unlink(e.dir(c.ID)) != nil || e.makeDir(c) != nil) {
		return false
	}
	// Others may have started it until it was held.
	if c, err = e.find(c.ID); err == nil {
		_, err = e.look(c)
	}
	return !errors.Is(err, errUnwatched) || e.endMonitors(c.ID) == nil
}

// stop says how a container that runs is to end.
func (o RemoveOptions) stop() StopOptions {
	return StopOptions{Timeout: o.Timeout, Warn: o.Warn, untold: true}
}

// removeHeld removes a container that does not run: the intent is recorded,
// what the run has left goes, then the directory, last the record.
func (e *Engine) removeHeld(h *held, o RemoveOptions) error {
	c := &h.Container.Container
	if err := e.update(func(tx state.Tx) error {
		now := new(cove.Container)
		if err := tx.Get(state.Containers, h.ID, now); err != nil {
			return err
		}
		// Since the last look somebody may have come to share its namespaces;
		// from here on nobody can.
		if users, err := e.sharersIn(tx, h.ID); err != nil {
			return err
		} else if len(users) > 0 {
			return errShared(h.ID, users)
		}
		if !cove.MayMove(now.Intent, cove.BeingRemoved) {
			return cove.E("remove container", now.Name, cove.Internal, fmt.Errorf("it is %s", now.Intent))
		}
		now.Intent = cove.BeingRemoved
		return tx.Put(state.Containers, h.ID, now)
	}); err != nil {
		return err
	}
	if err := e.awaitMonitor(h); err != nil {
		return err
	}
	if err := e.clear(&h.Container); err != nil {
		return err
	}
	if o.Volumes || c.Spec.Remove {
		// Before the record: nobody else knows that they were its own.
		if err := e.removeAnonymous(c, e.lockUnder); err != nil {
			return err
		}
	}
	if err := e.drop(c); err != nil {
		return err
	}
	ev := containerEvent(c, "remove")
	if h.Run.Generation > 0 { // it has run
		ev.ExitCode = &h.Run.ExitCode
	}
	_ = e.events.Write(ev)
	return nil
}

// awaitMonitor waits until a monitor that has told the exit has taken down
// everything and is gone.
func (e *Engine) awaitMonitor(h *held) error {
	if monitorEnds(h.Dir, 10*time.Second) {
		return nil
	}
	// One that has never begun its run is recorded nowhere.
	return e.endMonitors(h.ID)
}

// killMonitor ends a monitor that does not answer. Its init dies with it.
func (e *Engine) killMonitor(h *held) error {
	if h.Run.MonitorPID == 0 {
		return nil
	}
	gone := func() bool { return lost(&h.Container.Container, &h.Run, alive(h.Dir)) != "" }
	if !gone() {
		if err := e.signalMonitor(&h.Container, unix.SIGKILL); err != nil && err != unix.ESRCH {
			return cove.E("end monitor of container", h.Name, cove.Internal, err)
		}
	}
	// A child of its that has not become an exec yet has the monitor's lock, and may
	// stand still in a cgroup that the container has frozen.
	if dirs, err := e.cgroupDirs(&h.Container.Container); err == nil {
		_ = cgroup.Kill(dirs, time.Now().Add(5*time.Second))
	}
	for wait := time.Millisecond; wait < 5*time.Second; wait *= 2 {
		if gone() {
			h.Run.PID = 0
			return nil
		}
		time.Sleep(wait)
	}
	return cove.E("end monitor of container", h.Name, cove.Internal, errors.New("it does not die"))
}

// holdAlone is holdAsIs of a container whose namespaces nobody shares: with
// o.Depend those who do are removed first, while it is not held.
func (e *Engine) holdAlone(ctx context.Context, nameOrID string, o RemoveOptions) (*held, error) {
	hold := e.holdAsIs
	if o.Force {
		hold = func(ctx context.Context, nameOrID string) (*held, error) { return e.holdToEnd(ctx, nameOrID, o.stop()) }
	}
	for {
		h, err := hold(ctx, nameOrID)
		if err != nil {
			return nil, err
		}
		users, err := e.sharers(h.ID)
		if err == nil && len(users) == 0 {
			return h, nil
		}
		h.release()
		if err == nil && !o.Depend {
			err = errShared(h.ID, users)
		}
		if err != nil {
			return nil, err
		}
		for _, id := range users {
			switch err := e.Remove(ctx, id, o); {
			case err == nil && o.Dependent != nil:
				o.Dependent(id)
			case err != nil && !cove.Is(err, cove.NotFound):
				return nil, err
			}
		}
		nameOrID = h.ID
	}
}

// sharers lists the containers that share a container's namespaces.
func (e *Engine) sharers(id string) (users []string, err error) {
	err = e.store.View(func(tx state.Tx) error {
		users, err = e.sharersIn(tx, id)
		return err
	})
	return users, err
}

func (e *Engine) sharersIn(tx state.Tx, id string) ([]string, error) {
	ids, err := dependents(tx, id)
	return slices.DeleteFunc(ids, e.gone), err
}

func errShared(id string, users []string) error {
	return cove.E("", "", cove.InUse, fmt.Errorf("container %s has dependent containers which must be removed before it: %s: container already exists", id, strings.Join(users, ", ")))
}
