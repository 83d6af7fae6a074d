package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/signal"
	"github.com/cove-engine/cove/internal/state"
	"io/fs"
	"os"
)

// Stop ends a container: its stop signal now, SIGKILL when the time-out is
// over. The monitor keeps the time, so a killed Stop goes on. One that does
// not run is left alone.
func (e *Engine) Stop(ctx context.Context, nameOrID string, o StopOptions) error {
	ctx = lock.Track(ctx) // many are stopped at the same time
	defer e.hurryCRIU(nameOrID, o)()
	h, err := e.holdToEnd(ctx, nameOrID, o)
	if err != nil {
		if h, err = e.withForce(ctx, nameOrID, err); err == nil {
			err = e.stopDamaged(ctx, h, o)
		}
		return err
	}
	defer h.release()
	if err := e.desire(h, cove.DesireStop); err != nil {
		return e.stopUnrecorded(ctx, h, o, err)
	}
	if err := e.stop(ctx, h, "stop container", o); !errors.Is(err, errSettledAway) {
		return err
	}
	return nil
}

// stopUnrecorded stops a container that runs in a store that has become
// read-only, and says that nobody could write down that it was wanted, or that
// it has ended: its monitor stays until it can.
func (e *Engine) stopUnrecorded(ctx context.Context, h *held, o StopOptions, cause error) error {
	if !errors.Is(cause, unix.EROFS) || h.Run.PID == 0 {
		return cause
	}
	conn, timeout, err := e.askToStop(h, o)
	if err != nil {
		return errors.Join(cause, err)
	}
	defer conn.Close()
	if err := e.awaitEnd(ctx, conn, time.Duration(timeout)*time.Second+30*time.Second); err != nil {
		return errors.Join(cause, err)
	}
	return cove.E("record stop of container", h.Name, cove.KindOf(cause), fmt.Errorf("it has been stopped, but %w", cause))
}

// stop ends the container held; op is said of what fails. While it is given time
// to end by itself the lock is not held, so that it can be killed meanwhile;
// somebody may have started it again by the time stop returns. errSettledAway tells
// that it has gone.
func (e *Engine) stop(ctx context.Context, h *held, op string, o StopOptions) error {
	generation := h.Run.Generation
	err := e.stopAsked(ctx, h, o)
	if errors.Is(err, monitor.ErrNoAnswer) && ctx.Err() == nil {
		if lookErr := h.again(); lookErr == nil && h.Run.PID != 0 && h.Run.Generation == generation {
			if err = e.killMonitor(h); err == nil {
				err = h.ended(ctx)
			}
		}
	}
	if err != nil && !errors.Is(err, errSettledAway) {
		err = cove.E(op, h.Name, cove.KindOf(err), err)
	}
	return err
}

// stopAsked is stop by way of the monitor. The error is [monitor.ErrNoAnswer] when
// that does not do its work.
func (e *Engine) stopAsked(ctx context.Context, h *held, o StopOptions) error {
	e.wake(&h.Container)
	asked := time.Now()
	conn, timeout, err := e.askToStop(h, o)
	if errors.Is(err, errEnding) {
		return h.ended(ctx)
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	stopped := h.Container
	wait := func() error { return e.awaitEnd(ctx, conn, time.Duration(timeout)*time.Second+30*time.Second) }
	if timeout == 0 || h.Unread != nil { // nobody finds again what cannot be read
		err = wait()
	} else {
		err = h.unlocked(ctx, wait)
	}
	if err != nil {
		return err
	}
	if h.Run.PID != 0 && h.Run.Generation != stopped.Run.Generation {
		return nil // somebody has started it again
	}
	err = h.ended(ctx)
	resisted := timeout > 0 && time.Since(asked) >= time.Duration(timeout)*time.Second && (err != nil || h.Run.ExitCode == lostCode)
	if resisted && o.Warn != nil {
		o.Warn(fmt.Sprintf("%s failed to stop container %s in %d seconds, resorting to SIGKILL", cmp.Or(o.Signal, "StopSignal "+signal.Name(stopSignal(&stopped.Container))), stopped.Name, timeout))
	}
	return err
}

// wake lets a monitor go on that somebody has stopped: it is to do something. Its
// container may have, by freezing the cgroup in which a child of the monitor's was
// about to become the next run's init, which its parent waits for.
func (e *Engine) wake(c *Container) {
	switch state, _, err := procfs.Look(c.Run.MonitorPID); {
	case err != nil:
	case state == 'T':
		_ = e.signalMonitor(c, unix.SIGCONT)
	case state == 'D':
		if dirs, err := e.cgroupDirs(&c.Container); err == nil {
			_ = cgroup.Release(dirs)
		}
	}
}

// errEnding tells that a container is ending already.
var errEnding = errors.New("it is ending")

// wayToStop gives the signal that ends a container, and how many seconds later
// SIGKILL does.
func (e *Engine) wayToStop(c *cove.Container, o StopOptions) (sig unix.Signal, timeout uint, err error) {
	timeout = e.stopTimeout(c)
	if o.Timeout != nil {
		timeout = *o.Timeout
	}
	sig = stopSignal(c)
	if o.Signal != "" {
		if sig, err = parseSignal(o.Signal); err != nil {
			return 0, 0, err
		}
	}
	if timeout == 0 {
		sig = unix.SIGKILL
	}
	return sig, timeout, nil
}

// askToStop has the monitor end the container within so many seconds.
func (e *Engine) askToStop(h *held, o StopOptions) (conn *monitor.Conn, timeout uint, err error) {
	sig, timeout, err := e.wayToStop(&h.Container.Container, o)
	if err != nil {
		return nil, 0, err
	}
	conn, err = e.dial(&h.Container)
	if cove.Is(err, cove.NoFile) {
		return nil, 0, errEnding
	}
	if err != nil {
		return nil, 0, err
	}
	if h.Status == cove.Paused {
		err = e.thaw(&h.Container)
	}
	if err == nil {
		err = conn.Request(wire.Stop, wire.StopBody{Signal: int(sig), Timeout: timeout, Tell: !o.untold})
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
			err = errEnding
		}
	}
	if err != nil {
		conn.Close()
		return nil, 0, err
	}
	if h.Spec.Monitor != "" && !o.untold {
		e.emit(&h.Container.Container, "stop") // with the lock: nobody else tells the end before it
	}
	return conn, timeout, nil
}

// ended waits for the monitor of a container that has ended, or never ran, and
// settles what a killed one has left.
func (h *held) ended(ctx context.Context) error {
	if h.e.gone(h.ID) {
		return h.again()
	}
	if !monitorEnds(h.Dir, 10*time.Second) {
		return cove.E("", "", cove.Unavailable, errors.New("its monitor does not end"))
	}
	if err := h.again(); err != nil {
		return err
	}
	if err := h.settle(ctx); err != nil && !errors.Is(err, errSettledAway) {
		return err
	}
	return nil
}

// again looks at the container once more.
func (h *held) again() error {
	c := h.Container.Container
	now, err := h.e.look(&c)
	h.Container = now
	return err
}

// awaitEnd waits until the monitor has taken everything down and is gone.
func (e *Engine) awaitEnd(ctx context.Context, conn *monitor.Conn, limit time.Duration) error {
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(within, func() { _ = unix.Shutdown(conn.FD(), unix.SHUT_RDWR) })()
	for {
		m, err := conn.Receive()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if within.Err() != nil {
			return cove.E("", "", cove.Unavailable, monitor.ErrNoAnswer)
		}
		if err != nil || m.Kind == wire.Done {
			return nil
		}
	}
}

// dial connects to the container's monitor. Its socket may have been swept
// away; told by a signal, it makes a new one. The error is of kind NoFile when
// the monitor is ending.
func (e *Engine) dial(c *Container) (*monitor.Conn, error) {
	if c.Spec.Monitor != "" {
		return e.dialConmon(c)
	}
	conn, err := monitor.Dial(e.socket(c.ID))
	if err == nil || !cove.Is(err, cove.NoFile) || c.Run.MonitorPID == 0 || c.Run.PID == 0 {
		return conn, err
	}
	return e.redial(c, e.signalMonitor)
}

// redial connects to a process that has to make its socket anew, which signal tells
// it to.
func (e *Engine) redial(c *Container, signal func(*Container, unix.Signal) error) (conn *monitor.Conn, err error) {
	if err := e.makeRoomForSocket(c.ID); err != nil {
		return nil, cove.E("reach monitor of container", c.Name, cove.Unavailable, err)
	}
	for wait := time.Millisecond; wait < 2*time.Second; wait *= 2 {
		// Each time: a monitor that has just begun does not listen to signals
		// yet, and this one is lost on it.
		if err := signal(c, unix.SIGUSR1); err == unix.ESRCH {
			// Killed just now: some of its threads still hold the run file.
			return nil, cove.E("reach monitor of container", c.Name, cove.NoFile, err)
		} else if err != nil {
			return nil, cove.E("reach monitor of container", c.Name, cove.Unavailable, err)
		}
		time.Sleep(wait)
		if conn, err = monitor.Dial(e.socket(c.ID)); err == nil {
			return conn, nil
		}
	}
	return nil, cove.E("reach monitor of container", c.Name, cove.Unavailable, err)
}

// signalMonitor sends a signal to a container's monitor, and to no other process
// that may have got its number.
func (e *Engine) signalMonitor(c *Container, sig unix.Signal) error {
	fd, err := unix.PidfdOpen(c.Run.MonitorPID, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !e.monitors(c.Run.MonitorPID, c.ID) {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}

// desire records what the user wants of the container.
func (e *Engine) desire(h *held, d cove.Desired) error {
	if h.Desired == d {
		return nil
	}
	h.Desired = d
	return e.change(h.ID, func(c *cove.Container) error { c.Desired = d; return nil })
}

// change edits a container's record.
func (e *Engine) change(id string, edit func(*cove.Container) error) error {
	return e.update(func(tx state.Tx) error {
		c := new(cove.Container)
		if err := tx.Get(state.Containers, id, c); err != nil {
			return err
		}
		if err := edit(c); err != nil {
			return err
		}
		return tx.Put(state.Containers, id, c)
	})
}

// Restart stops a container and starts it again; one that does not run is
// started.
func (e *Engine) Restart(ctx context.Context, nameOrID string, o StopOptions) error {
	unhurry := e.hurryCRIU(nameOrID, o)
	h, err := e.holdAsIs(ctx, nameOrID)
	if err != nil {
		unhurry()
		return err
	}
	id := h.ID
	if err = refuseTerminal(e.logDriver(&h.Container.Container)); err == nil {
		err = e.startable(&h.Container.Container)
	}
	if err == nil {
		e.emit(&h.Container.Container, "restart")
		err = e.stop(ctx, h, "restart container", o)
	}
	h.release()
	unhurry()
	if err != nil {
		return err
	}
	_, err = e.Start(ctx, id, StartOptions{})
	return err
}

// startable finds the programs of others that make and watch a container: one that
// runs is not stopped to be started again without.
func (e *Engine) startable(c *cove.Container) (err error) {
	if c.Spec.Runtime != "" {
		_, err = e.runtimeProgram(c.Spec.Runtime)
	}
	if c.Spec.Monitor != "" && err == nil {
		_, err = e.conmonProgram(c.Spec.Monitor)
	}
	return err
}

// Kill sends a signal to a running container's init; "" is SIGKILL.
func (e *Engine) Kill(ctx context.Context, nameOrID, signal string) error {
	if signal == "" {
		signal = "KILL"
	}
	sig, err := parseSignal(signal)
	if err != nil {
		return err
	}
	o := StopOptions{Timeout: new(uint), untold: true}
	hold := e.holdAsIs
	if sig == unix.SIGKILL {
		defer e.hurryCRIU(nameOrID, o)()
		hold = func(ctx context.Context, nameOrID string) (*held, error) {
			return e.insist(ctx, nameOrID, o, e.holdAsIs)
		}
	}
	h, err := hold(ctx, nameOrID)
	if err != nil {
		return err
	}
	defer h.release()
	if h.Run.PID == 0 && h.told {
		return e.desire(h, cove.DesireStop)
	}
	if h.Run.PID == 0 {
		return cove.E("", "", cove.WrongStatus, fmt.Errorf("can only kill running containers. %s is in state %s: container state improper", h.ID, h.Status))
	}
	if sig != unix.SIGKILL {
		if err := e.signal(&h.Container, sig); err != nil {
			return err
		}
		e.emit(&h.Container.Container, "kill")
		return nil
	}
	e.emit(&h.Container.Container, "kill") // it comes before the end
	if err := e.desire(h, cove.DesireStop); err != nil {
		return e.stopUnrecorded(ctx, h, o, err)
	}
	if err := e.stop(ctx, h, "kill container", o); !errors.Is(err, errSettledAway) {
		return err
	}
	return nil
}

// signal sends a signal to the container's init. The process is checked after
// it is held by descriptor, so it cannot be another one of the same number.
func (e *Engine) signal(c *Container, sig unix.Signal) error {
	fd, err := unix.PidfdOpen(c.Run.PID, 0)
	if err != nil {
		return cove.E("send signal to container", c.Name, cove.WrongStatus, err)
	}
	defer unix.Close(fd)
	if start, err := procfs.StartTime(c.Run.PID); err != nil || c.Run.PIDStart != 0 && start != c.Run.PIDStart {
		return cove.E("send signal to container", c.Name, cove.WrongStatus, unix.ESRCH)
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil {
		return cove.E("send signal to container", c.Name, cove.Internal, err)
	}
	return nil
}

// Pause freezes a running container.
func (e *Engine) Pause(ctx context.Context, nameOrID string) error {
	h, err := e.hold(ctx, nameOrID)
	if err != nil {
		return err
	}
	defer h.release()
	if err := e.hasCgroup(&h.Container.Container, "pause"); err != nil {
		return err
	}
	if err := h.endCheckpoint(ctx); err != nil {
		return err
	}
	if h.Status == cove.Paused {
		return cove.E("", "", cove.WrongStatus, fmt.Errorf("%q is already paused: container state improper", h.ID))
	}
	if err := os.Remove(filepath.Join(h.Dir, stillFile)); err != nil && !errors.Is(err, fs.ErrNotExist) { // it was killed before it froze
		return cove.E("pause container", h.Name, fileKind(err), err)
	}
	if err := h.freeze(); err != nil {
		return err
	}
	e.emit(&h.Container.Container, "pause")
	return nil
}

// freeze freezes a container that must be running: WrongStatus if it is not, or
// not any more.
func (h *held) freeze() error {
	if h.Status == cove.Running {
		dirs, err := h.e.cgroupDirs(&h.Container.Container)
		if err == nil {
			err = cgroup.Freeze(dirs)
		}
		if err == nil {
			return nil
		}
		if procfs.Lives(h.Run.PID, h.Run.PIDStart) {
			return cove.E("pause container", h.Name, cove.KindOf(err), err)
		}
		// It has ended meanwhile, and its cgroup with it.
	}
	return cove.E("", "", cove.WrongStatus, fmt.Errorf("%q is not running, can't pause: container state improper", h.ID))
}

// Unpause lets a frozen container go on.
func (e *Engine) Unpause(ctx context.Context, nameOrID string) error {
	h, err := e.hold(ctx, nameOrID)
	if err != nil {
		return err
	}
	defer h.release()
	if err := e.hasCgroup(&h.Container.Container, "unpause"); err != nil {
		return err
	}
	if h.Status == cove.Paused { // by a checkpoint, it may be
		if err := h.endCheckpoint(ctx); err != nil {
			return err
		}
	}
	if h.Status != cove.Paused {
		return cove.E("", "", cove.WrongStatus, fmt.Errorf("%q is not paused, can't unpause: container state improper", h.ID))
	}
	if err := e.thaw(&h.Container); err != nil {
		return err
	}
	e.emit(&h.Container.Container, "unpause")
	return nil
}

func (e *Engine) thaw(c *Container) error {
	dirs, err := e.cgroupDirs(&c.Container)
	if err == nil {
		err = cgroup.Thaw(dirs)
	}
	if err != nil {
		return cove.E("unpause container", c.Name, cove.KindOf(err), err)
	}
	return nil
}

// Wait waits until a container has ended, or has one of the statuses asked
// for, and gives its exit code; -1 for a status other than ended.
func (e *Engine) Wait(ctx context.Context, nameOrID string, o WaitOptions) (int, error) {
	c, err := e.find(nameOrID)
	if err != nil {
		if o.Ignore && cove.Is(err, cove.NotFound) {
			return -1, nil
		}
		return 0, err
	}
	interval := o.Interval
	if interval <= 0 {
		interval = 250 * time.Millisecond
	}
	var file *runfile.File // tells the exit of a container that goes with its end
	for {
		if file == nil {
			if fd, err := unix.Open(filepath.Join(e.dir(c.ID), runfile.Name), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
				file = runfile.Attach(fd)
				defer file.Close()
			}
		}
		now, err := e.look(c)
		if err != nil {
			return 0, err
		}
		if (file != nil || e.gone(c.ID)) && !exists(now.Dir) {
			now.Status, now.Run = cove.Exited, e.runOfGone(c.ID, file)
		}
		for _, want := range o.Conditions {
			if (want == "healthy" || want == "unhealthy") && healthCheck(&now.Container) == nil {
				return 0, cove.E("", "", cove.Invalid, fmt.Errorf("cannot use condition %q: container %s has no healthcheck", want, now.ID))
			}
		}
		done, code := waited(&now, o.Conditions)
		if done && !now.dumping { // else CRIU may have found it ended
			e.heal(ctx, &now)
			return code, nil
		}
		if now.fileLost { // what conmon tells is laid beside what that says
			e.heal(ctx, &now)
		}
		// The monitor tells the end at once; other statuses are looked for.
		if len(o.Conditions) == 0 && now.Run.PID != 0 {
			if conn, derr := e.dial(&now); derr == nil {
				code, told, err := e.awaitExit(ctx, conn)
				conn.Close()
				if err != nil || told {
					return code, err
				}
				continue
			}
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(interval):
		}
	}
}

// runOfGone gives the last run of a container that was removed, of whose run file
// only a descriptor may be left.
func (e *Engine) runOfGone(id string, file *runfile.File) cove.Run {
	if file == nil {
		return cove.Run{}
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		over := !alive(e.removedDir(id)) || time.Now().After(deadline)
		run, err := file.Read()
		switch {
		case err != nil:
			return cove.Run{}
		case run.PID == 0:
			return *run
		case over: // its monitor was killed while it removed it
			run.ExitCode = lostCode
			return *run
		}
	}
}

func waited(c *Container, conditions []string) (bool, int) {
	if len(conditions) == 0 {
		conditions = []string{"exited"}
	}
	for _, want := range conditions {
		switch cove.Status(want) {
		case "stopped", cove.Exited:
			if c.Status == cove.Exited {
				return true, c.Run.ExitCode
			}
			if c.Status == cove.Created { // as little running; podman and docker do not wait for a start either
				return true, 0
			}
		case "healthy", "unhealthy":
			if c.Run.Health != nil && c.Run.Health.Status == want {
				return true, -1
			}
		case c.Status:
			return true, -1
		}
	}
	return false, 0
}

// awaitExit listens to a monitor until it tells the exit code.
func (e *Engine) awaitExit(ctx context.Context, conn *monitor.Conn) (code int, told bool, err error) {
	if err := conn.SendJSON(wire.Watch, nil); err != nil {
		return 0, false, nil // it has just ended: look again
	}
	s := &session{conn: conn}
	code, err = s.receive(ctx)
	if ctx.Err() != nil {
		return 0, false, ctx.Err()
	}
	return code, err == nil, nil
}
