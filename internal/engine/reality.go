package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
	"github.com/cove-engine/cove/internal/cgroup/oom"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/lock/file"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/state"
)

// lostCode is the exit code of a container whose monitor was killed: its init
// dies by SIGKILL with it.
const lostCode = 137

// What Run.Exit says of an exit that no monitor has reaped.
const (
	exitMonitorLost = "monitor lost"
	exitUnknown     = "unknown"
)

// look derives what a container is doing. It changes nothing: a run that was
// lost is shown as ended before anybody has recorded it.
func (e *Engine) look(c *cove.Container) (Container, error) {
	out := Container{Container: *c, Dir: e.dir(c.ID), SizeRw: -1, SizeRootFs: -1, CgroupPath: shownCgroup(c), LogPath: e.logPath(c),
		GraphRoot: e.conf.GraphRoot, VolumePath: e.conf.Volumes(), Driver: e.conf.Driver, Runtime: "native", CgroupManager: cmp.Or(c.CgroupManager, cgroupfs), DefaultNetwork: e.defaultNetwork(),
		recorded: c.Run.Generation}
	run, err := runfile.Read(out.Dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		run = new(cove.Run)
	case errors.Is(err, runfile.ErrDamaged) && !alive(out.Dir):
		// Nobody can tell any more how it ended, and nobody waits to.
		run = unknownRun(c)
		run.Error = err.Error()
	case err != nil:
		return out, cove.E("look at container", c.Name, cove.Internal, err)
	}
	if run.Generation < c.Run.Generation && c.Run.BootID != procfs.BootID() {
		// It has been started and the machine has stopped before that was on
		// the disk. In the same boot it is a start that was cut short.
		run = unknownRun(c)
	}
	out.Run = *run
	if c.Spec.Monitor != "" && run.PID != 0 {
		mergeAide(&out)
	}
	if run.PID != 0 {
		out.MountPoint = filepath.Join("/proc", strconv.Itoa(run.PID), "root")
	}
	switch {
	case c.Intent == cove.BeingRemoved:
		out.Status = cove.Removing
	case run.PID != 0:
		out.Status = cove.Running
		lost := e.lost(c, run, out.Dir)
		if e.reported(&out, lost) {
			break
		}
		if lost != "" {
			out.Status = cove.Exited
			out.Run.PID, out.Run.Exit, out.Run.Finished = 0, lost, time.Now() // when it was found out
			out.Run.ExitCode = lostCode
			if lost == exitUnknown {
				out.Run.ExitCode = -1
			}
			break
		}
		if run.Stopping {
			out.Status = cove.Stopping
		}
		if frozen, _ := e.frozen(c); frozen {
			out.Status = cove.Paused
		}
	case run.Exit != exitUnknown && (run.Generation == 0 || run.Started.IsZero()):
		out.Status = cove.Created
	default:
		out.Status = cove.Exited
	}
	if lostInCrash(&out) {
		out.Run.Finished = bootTime()
	}
	if out.Run.Exit == exitMonitorLost && out.Run.Error == "" {
		if words := runfile.LastWords(out.Dir); words != "" {
			out.Run.Error = exitMonitorLost + ": " + words
		}
	}
	return out, nil
}

// unknownRun is one of which nothing is known but that it has been.
func unknownRun(c *cove.Container) *cove.Run {
	return &cove.Run{Generation: c.Run.Generation, Started: c.Created, Exit: exitUnknown, ExitCode: -1}
}

// lostInCrash tells whether the machine has stopped while the container ran,
// and nobody has touched it since. That is no difference to mend: its end is
// known from the boot, and whoever touches it first records it.
func lostInCrash(c *Container) bool {
	return c.Status == cove.Exited && c.Run.Exit == exitUnknown && !c.Run.Down
}

// bootTime is when this boot began: what an earlier one has left running had
// ended by then.
func bootTime() time.Time {
	var info unix.Sysinfo_t
	_ = unix.Sysinfo(&info) // cannot fail
	return time.Now().Add(-time.Duration(info.Uptime) * time.Second)
}

// lost tells why a run that its file calls running is not, "" when it is.
func (e *Engine) lost(c *cove.Container, run *cove.Run, dir string) string {
	if run.BootID != procfs.BootID() {
		return exitUnknown
	}
	if alive(dir) || c.Spec.Monitor != "" && conmonLives(run) {
		return ""
	}
	return exitMonitorLost
}

// alive tells whether a monitor lives that was given a container's directory:
// it holds the lock of the run file. Doubt is life.
func alive(dir string) bool {
	locked, err := file.Locked(filepath.Join(dir, runfile.Name))
	return locked || err != nil
}

// frozen asks the container's cgroup.
func (e *Engine) frozen(c *cove.Container) (bool, error) {
	set, err := e.cgroupDirs(c)
	if err != nil {
		return false, err
	}
	return cgroup.Frozen(set)
}

// held is a container whose lock we hold, and what is true of it. There is no
// other way to change one.
type held struct {
	Container
	e    *Engine
	lock lock.Held
	// due tells that the restart policy asks for another run and that the
	// monitor that would have seen to it was killed.
	due bool
}

func (h *held) release() { _ = h.lock.Unlock() }

// hold is holdAsIs, and then the restart policy is applied in the place of a
// monitor that was killed.
func (e *Engine) hold(ctx context.Context, nameOrID string) (*held, error) {
	h, err := e.holdAsIs(ctx, nameOrID)
	return e.restartDue(ctx, h, err)
}

// restartDue starts a container whose restart policy asks for it.
func (e *Engine) restartDue(ctx context.Context, h *held, err error) (*held, error) {
	if err != nil || !h.due {
		return h, err
	}
	if _, err := e.startHeld(ctx, h, StartOptions{}); err != nil {
		h.release()
		return nil, err
	}
	if err := h.again(); err != nil {
		h.release()
		return nil, err
	}
	return h, nil
}

// holdAsIs finds a container, takes its lock, and finishes what a killed
// command or monitor has left of it. The caller must release it.
func (e *Engine) holdAsIs(ctx context.Context, nameOrID string) (*held, error) {
	return e.holdWhen(ctx, nameOrID, nil)
}

// holdToEnd is holdAsIs for who wants the container to end: hooks that it
// waits for are ended.
func (e *Engine) holdToEnd(ctx context.Context, nameOrID string) (*held, error) {
	return e.holdWhen(ctx, nameOrID, e.callOff)
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
			if cove.Is(err, cove.NotFound) {
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

// callOff asks a container's monitor to end what it is at.
func (e *Engine) callOff(c *cove.Container) {
	if c.Spec.Monitor != "" {
		if run, err := runfile.Read(e.dir(c.ID)); err == nil && run.PID == 0 {
			_ = e.endConmon(run) // and the runtime, which waits for hooks, with it
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
	h, c := &held{e: e, lock: l}, new(cove.Container)
	// Once more under the lock: it may have changed or gone.
	err := e.store.View(func(tx state.Tx) error { return tx.Get(state.Containers, id, c) })
	if err == nil {
		h.Container, err = e.look(c)
	}
	if err == nil && h.aboutToStart(c) {
		err = cove.E("find container", c.Name, cove.Unavailable, fmt.Errorf("%w by process %d", errAboutToStart, c.StartedBy.PID))
	}
	if err == nil && e.undecided(&h.Container) {
		err = cove.E("find container", c.Name, cove.Unavailable, errAboutToStart)
	}
	if err == nil && h.Run.PID == 0 && h.Run.Poststop && c.Spec.Monitor == "" && alive(h.Dir) {
		err = cove.E("find container", c.Name, cove.Unavailable, errHooksRun)
	}
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

// startPatience is how long a run that has recorded its container is expected
// to take to its lock, and hooks while which nobody has it.
const startPatience = 30 * time.Second

// endPatience is how long who wants a container gone waits for the hooks of
// its end.
const endPatience = 10 * time.Second

var (
	errAboutToStart = errors.New("it is about to be started")
	errHooksRun     = errors.New("hooks of its end are running")
)

// aboutToStart tells whether the command that has recorded a start lives and
// has not had the lock yet, or does without it while hooks run.
func (h *held) aboutToStart(c *cove.Container) bool {
	if c.Intent != "" || h.Run.Generation >= c.Run.Generation || c.Run.BootID != procfs.BootID() || c.StartedBy.PID == 0 {
		return false
	}
	start, err := procfs.StartTime(c.StartedBy.PID)
	return err == nil && start == c.StartedBy.Start
}

// unsettled tells whether settle has something to do, as far as that can be
// seen at no cost.
func (c *Container) unsettled() bool {
	if c.cutShort() {
		return true
	}
	// The monitor was killed before it could tell the exit, or after that.
	return c.Status == cove.Exited && c.Run.Generation > 0 && !c.Run.Down && !lostInCrash(c)
}

// heal settles what a killed command or monitor has left, for verbs that only look at a
// container. They do not wait for its lock: whoever holds it does the same. What
// fails is left to a verb that changes something.
func (e *Engine) heal(ctx context.Context, c *Container) (healed bool) {
	if !c.unsettled() || alive(c.Dir) {
		return false
	}
	l, err := e.locks.TryLock(ctx, lock.Container, c.ID)
	if err != nil {
		return false
	}
	h, err := e.holdLocked(ctx, c.ID, l)
	if h, err = e.restartDue(ctx, h, err); err == nil {
		h.release()
	}
	return err == nil || errors.Is(err, errSettledAway)
}

// find looks a container up by name, ID or beginning of an ID.
func (e *Engine) find(nameOrID string) (*cove.Container, error) {
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
	if h.Spec.Monitor != "" {
		if done, err := h.settleConmon(ctx); done || err != nil {
			return err
		}
	}
	// What of a running container's network cannot be mended now must not keep
	// anybody from ending it.
	_ = h.e.settleUplink(&h.Container)
	if err := h.e.settleNetworks(ctx, h); err != nil && h.Run.PID == 0 {
		return err
	}
	if h.Status == cove.Created {
		if err := h.settleCreated(ctx); err != nil {
			return err
		}
	}
	if h.cutShort() && !alive(h.Dir) {
		return h.undoStart()
	}
	if h.Status != cove.Exited || h.Run.Down || alive(h.Dir) && !h.reported {
		return nil
	}
	return h.settleEnd(ctx)
}

// settleCreated finishes or undoes what made a container that has never run.
func (h *held) settleCreated(ctx context.Context) error {
	if h.Spec.Remove && h.Desired == cove.DesireRun {
		// Its run was killed before the command was let go: we have the lock.
		return h.settleAway(ctx)
	}
	if exists(h.Dir) {
		return nil
	}
	// Whoever recorded it was killed before the next steps.
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
		h.Run.Exit, h.Run.ExitCode, h.Run.Dumping = "", 0, false
	}
	h.Run.Down, h.Run.Poststop = true, false
	if h.Run.Exit == "" && !h.reported {
		// Its exit is recorded; the monitor was killed after that.
		if err := h.writeRun(); err != nil || !h.Spec.Remove || !h.Run.Checkpointed.IsZero() {
			return err
		}
		return h.settleAway(ctx)
	}
	h.Run.PID, h.Run.PIDStart, h.Run.Stopping = 0, 0, false
	// Its directory may not have been on the disk when the machine stopped.
	if err := h.e.makeDir(&h.Container.Container); err != nil {
		return err
	}
	if err := h.writeRun(); err != nil {
		return err
	}
	_ = h.e.events.Write(diedEvent(&h.Container.Container, h.Run.ExitCode))
	if h.Spec.Remove {
		return h.settleAway(ctx)
	}
	h.due = (h.Run.Exit == exitMonitorLost || h.reported && !conmonLives(&h.Run)) && h.Desired == cove.DesireRun && h.Spec.Restart.Restarts(h.Run.ExitCode, h.Run.Restarts)
	return nil
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
	h.Run.Generation = h.recorded
	return h.writeRun()
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

// clear takes down what a run may have left behind, by name: processes,
// cgroups, firewall elements, names, the socket. What is not there is no
// error.
func (e *Engine) clear(c *Container) error {
	var errs []error
	dirs, err := e.cgroupDirs(&c.Container)
	if err == nil {
		if err = cgroup.Kill(dirs, time.Now().Add(10*time.Second)); err == nil {
			err = cgroup.Remove(dirs)
		}
	}
	if err == nil && len(dirs) == 0 {
		err = endInit(c)
		if pid := c.Spec.PID; err == nil && pid != "" && pid != "private" {
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
	e.forgetNames(&c.Container)
	if err := os.RemoveAll(filepath.Dir(e.socket(c.ID))); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return cove.E("clean up container", c.Name, cove.Internal, err)
	}
	return nil
}

// endInit waits for the end of a container that could not have a cgroup: its
// init dies with its monitor, and its process namespace with it.
func endInit(c *Container) error {
	run, err := runfile.Read(c.Dir)
	if err != nil || run.PID == 0 || run.BootID != procfs.BootID() {
		return nil // it never ran, or in another boot
	}
	fd, err := procfs.Open(run.PID, run.PIDStart)
	if err != nil {
		return nil // it is gone
	}
	defer unix.Close(fd)
	if err := endProcess(fd, 10*time.Second); err != nil {
		return fmt.Errorf("end init: %w", err)
	}
	return nil
}

// update runs a write transaction; before it, it drops the records of
// containers whose monitors have removed them.
func (e *Engine) update(fn func(state.Tx) error) error {
	if err := e.prepareHome(); err != nil {
		return err
	}
	ready := e.finishRemovals()
	var dropped, waiting []*cove.Container
	drop := func(tx state.Tx) error {
		dropped, waiting = dropped[:0], waiting[:0]
		lost, err := e.lostWithBoot(tx)
		if err != nil {
			return err
		}
		for _, id := range slices.Concat(ready, lost) {
			c := new(cove.Container)
			err := tx.Get(state.Containers, id, c)
			if cove.Is(err, cove.NotFound) {
				c.ID = id
			} else if err != nil {
				return err
			} else if e.ownsVolumes(tx, c) {
				// Before the record that knows of them.
				waiting = append(waiting, c)
				continue
			} else if err := dropRecord(tx, c); err != nil {
				return err
			}
			dropped = append(dropped, c)
		}
		return nil
	}
	errWaiting := errors.New("volumes first")
	err := e.store.Update(func(tx state.Tx) error {
		if err := drop(tx); err != nil {
			return err
		}
		if len(waiting) > 0 {
			return errWaiting
		}
		return fn(tx)
	})
	if errors.Is(err, errWaiting) {
		for _, c := range waiting {
			// One that cannot go now goes with a later write.
			_ = e.removeAnonymous(c)
		}
		err = e.store.Update(func(tx state.Tx) error {
			if err := drop(tx); err != nil {
				return err
			}
			return fn(tx)
		})
	}
	if err != nil {
		return err
	}
	for _, c := range dropped {
		e.forget(c)
	}
	return nil
}

// bootKey holds the boot in which the store was last written to.
const bootKey = "boot"

// lostWithBoot gives, for the first write after the machine has stopped, the
// --rm containers that have stopped with it: no monitor was left to remove
// them, and a volatile layer cannot be mounted again. Nobody's names are those
// of a running container any more.
func (e *Engine) lostWithBoot(tx state.Tx) (lost []string, err error) {
	boot := procfs.BootID()
	if last, err := tx.Meta(bootKey); err != nil || string(last) == boot {
		return nil, err
	}
	err = tx.List(state.Containers, func(id string, raw []byte) error {
		c, err := decodeContainer(raw)
		if err == nil && c.Spec.Remove && c.Run.Generation > 0 && c.Run.BootID != boot {
			lost = append(lost, id)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(e.namesDir()); err != nil {
		return nil, cove.E("remove", e.namesDir(), fileKind(err), err)
	}
	return lost, tx.SetMeta(bootKey, []byte(boot))
}

// ownsVolumes tells whether one of a container's anonymous volumes is still
// there that only it uses.
func (e *Engine) ownsVolumes(tx state.Tx, c *cove.Container) bool {
	return slices.ContainsFunc(c.Mounts, func(m cove.Mount) bool {
		return m.Type == "volume" && m.Anonymous && tx.Get(state.Volumes, m.Source, new(struct{})) == nil &&
			e.volumeUser(tx, m.Source, c.ID) == nil
	})
}

// finishRemovals gives the containers whose monitors have removed them, and
// finishes what a killed monitor has left of its work. One whose monitor is
// still at it is left to a later write.
func (e *Engine) finishRemovals() (ready []string) {
	for _, id := range e.removedMarks() {
		if names, err := dirNames(e.removedDir(id)); err == nil && len(names) > 0 {
			if !monitorEnds(e.removedDir(id), time.Second) {
				continue
			}
			c := &cove.Container{ID: id}
			_ = e.store.View(func(tx state.Tx) error { return tx.Get(state.Containers, id, c) })
			if e.clear(&Container{Container: *c}) != nil {
				continue
			}
		}
		ready = append(ready, id)
	}
	return ready
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

// removedMarks lists the containers whose monitors have removed them.
func (e *Engine) removedMarks() []string {
	d, err := os.Open(e.conf.Removed())
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	return names
}

// dropRecord deletes a container's record with its name and leases.
func dropRecord(tx state.Tx, c *cove.Container) error {
	if err := tx.Release(state.Containers, c.Name); err != nil && !cove.Is(err, cove.NotFound) {
		return err
	}
	for _, a := range c.Attachments {
		if err := tx.Unlease(a.Network, c.ID); err != nil {
			return err
		}
	}
	for _, on := range c.DependsOn {
		if err := setDependent(tx, on, c.ID, false); err != nil {
			return err
		}
	}
	return tx.Delete(state.Containers, c.ID)
}

// forget removes what is left of a container once its record is gone.
func (e *Engine) forget(c *cove.Container) {
	_ = rootfs.RemoveTree(e.dir(c.ID))
	_ = os.RemoveAll(filepath.Dir(e.socket(c.ID)))
	_ = e.locks.Forget(lock.Container, c.ID)
	_ = rootfs.RemoveTree(e.removedDir(c.ID))
	removeCIDFile(c)
}

func decodeContainer(raw []byte) (*cove.Container, error) {
	c := new(cove.Container)
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, cove.E("read container record", "", cove.Internal, err)
	}
	return c, nil
}

func diedEvent(c *cove.Container, code int) cove.Event {
	ev := containerEvent(c, "died")
	ev.ExitCode = &code
	return ev
}
