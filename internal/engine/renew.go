package engine

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/conmon"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/ownplace"
	"github.com/cove-engine/cove/internal/procfs"
)

// A run file may be damaged, removed or replaced while its monitor lives. What has its
// name then says that the container never ran, or that its monitor was killed; and to
// believe that would be to start it a second time, or to kill it. So what is about to be
// believed is held against the processes that there are: a monitor has its run file open,
// whatever has become of the name. That is a look through /proc, and only where a start in
// this boot is on record and neither a monitor's lock nor a recorded end is found.

// doubtful tells of what was read of a run file, whose error is err, whether a living monitor
// may know better. It is empty also for a moment, before its room is taken.
func (e *Engine) doubtful(c *cove.Container, run *cove.Run, over bool, err error) bool {
	if c.Intent == cove.BeingRemoved {
		return false // that takes it away, as conmon's exit command does while conmon waits
	}
	if over {
		return c.Run.Generation > 0 && !procfs.OtherBoot(c.Run.BootID) && !e.gone(c.ID) &&
			(c.Spec.Monitor == "" || run == nil || run.Generation < c.Run.Generation && !conmonLives(run))
	}
	if c.Spec.Monitor != "" {
		return false // its file is not its own to write
	}
	if !errors.Is(err, os.ErrNotExist) {
		return errors.Is(err, runfile.ErrDamaged)
	}
	var st unix.Stat_t
	serr := unix.Lstat(filepath.Join(e.dir(c.ID), runfile.Name), &st)
	return serr == nil && st.Size == 0 && time.Since(time.Unix(st.Ctim.Unix())) > time.Second
}

// renewed is what the monitor that a container has says in the place of what was read of
// its run file: it writes that anew. Without one, what was read stands. One that does not
// write is an error if the file is not its own any more, for nothing may be done to the
// container then.
func (e *Engine) renewed(c *cove.Container, was *cove.Run, over bool, werr error) (*cove.Run, bool, error) {
	var pid int
	var err error
	if was != nil && was.MonitorPID != 0 && was.Generation >= c.Run.Generation {
		id, err := e.monitorOf(was.MonitorPID)
		if err != nil {
			return nil, false, err
		}
		if id == c.ID { // it is no other's
			pid = was.MonitorPID
		}
	} else if pid, err = e.livingMonitor(c.ID); err != nil {
		return nil, false, err
	}
	if pid == 0 {
		if run := e.toldRun(c); run != nil {
			return run, over, nil
		}
		return was, over, werr
	}
	if run, over, err := lastRun(e.dir(c.ID), c.Run.Generation); err == nil && !over {
		return run, over, nil // a start that has gone on meanwhile
	}
	if run := e.toldRun(c); run != nil { // it waits for its exit command, which is to find it
		run.MonitorPID = pid
		run.MonitorStart, err = procfs.StartTime(pid)
		return run, false, err
	}
	if c.Spec.Monitor != "" {
		run, err := e.conmonRun(c, pid)
		return run, false, err
	}
	monitored := &Container{Container: cove.Container{ID: c.ID, Run: cove.Run{MonitorPID: pid}}}
	patience := time.Second
	if !over && errors.Is(werr, os.ErrNotExist) {
		patience = 50 * time.Millisecond // a start that takes long looks the same, and has nothing to write
	}
	for wait := time.Millisecond; wait < patience; wait *= 2 {
		// Each time: one that has just begun does not listen to signals yet.
		if e.signalMonitor(monitored, unix.SIGUSR1) != nil {
			break // it has ended
		}
		time.Sleep(wait)
		if run, over, err := lastRun(e.dir(c.ID), c.Run.Generation); err == nil && !over {
			return run, over, nil
		}
	}
	run, still, err := lastRun(e.dir(c.ID), c.Run.Generation)
	if !e.monitors(pid, c.ID) || err == nil && !still {
		return run, still, err
	}
	if over && still {
		werr = fmt.Errorf("its run file is lost, and its monitor, process %d, which lives, does not write it anew", pid)
		if ownplace.Dangling(e.dir(c.ID)) {
			werr = fmt.Errorf("%s: %w", e.dir(c.ID), ownplace.ErrDangling)
		}
	}
	return nil, false, werr
}

// livingMonitor gives the process that monitors a container, 0 for none. An error tells
// that there may be one.
func (e *Engine) livingMonitor(id string) (int, error) {
	pids, err := processes()
	for _, pid := range pids {
		there, doubt := e.monitorOf(pid)
		if there == id {
			return pid, nil
		}
		err = cmp.Or(err, doubt)
	}
	if err != nil {
		return 0, err
	}
	return e.listener(id)
}

// monitors tells whether a process monitors a container, be the container's directory
// moved elsewhere.
func (e *Engine) monitors(pid int, id string) bool {
	if e.watches(pid, id) {
		return true
	}
	there, err := e.listener(id)
	return err == nil && pid != 0 && there == pid
}

// listener gives the monitor that listens at a container's socket, 0 for none. Only we can
// have put that there. An error tells that one may listen and does not answer.
func (e *Engine) listener(id string) (int, error) {
	conn, err := monitor.Dial(e.socket(id))
	if cove.Is(err, cove.NoFile) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	peer, err := unix.GetsockoptUcred(conn.FD(), unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, err
	}
	pid := int(peer.Pid)
	argv, err := commandLine(pid)
	if err != nil || argv[0] != "cove-monitor" {
		return 0, err
	}
	if ours, err := hasOurRights(pid); err != nil || !ours {
		return 0, err
	}
	return pid, nil
}

// errUnwatched tells of a container that a living conmon watches that no file says which
// process that is.
var errUnwatched = errors.New("its run file is lost")

// conmonRun is the run that a conmon watches, from what it has told when the container was
// made, or else from its children. What neither tells, restarts and hooks that are due, is
// forgotten. The error is errUnwatched when nothing is known.
func (e *Engine) conmonRun(c *cove.Container, pid int) (*cove.Run, error) {
	run := &cove.Run{Generation: c.Run.Generation, BootID: procfs.BootID(), MonitorPID: pid}
	var err error
	if run.PID, run.Started, err = conmon.Watches(e.bundle(c.ID)); err != nil {
		if child := e.watchedBy(c, pid); child != 0 {
			run.PID, err = child, nil
		}
	}
	if err == nil {
		run.PIDStart, err = procfs.StartTime(run.PID)
	}
	if run.Started.IsZero() {
		run.Started = bootTime().Add(time.Duration(run.PIDStart) * time.Second / procfs.UserHZ)
	}
	if err == nil {
		run.MonitorStart, err = procfs.StartTime(pid)
	}
	if err != nil {
		// Not wrapped: that its files are not there does not tell that it never ran.
		return nil, fmt.Errorf("%w, and conmon, process %d, lives, of whose container this is known: %v", errUnwatched, pid, err)
	}
	return run, nil
}

// watchedBy gives the process of the container that a conmon watches, 0 for none that is
// certain: the eldest of its children that does not have our root directory, as the runtime,
// hooks and the start's guard do. Younger ones are orphans of the container's, which come to
// conmon where it shares the host's processes. Of a kernel of its own conmon has children
// that the container is not, as gVisor's server of files.
func (e *Engine) watchedBy(c *cove.Container, conmon int) (eldest int) {
	f, err := e.foreign(c)
	if err != nil || f == nil || ownKernel(f.Runtime[0]) {
		return 0
	}
	var since uint64
	var twins bool
	pids, _ := processes() // what is not listed is not found
	for _, pid := range pids {
		if procfs.Parent(pid) != conmon {
			continue
		}
		ours, err := hasOurRights(pid)
		if err != nil {
			return 0 // of which one the container is, nothing is known
		}
		if ours {
			continue
		}
		start, err := procfs.StartTime(pid)
		if err != nil {
			continue
		}
		twins = twins && start >= since || eldest != 0 && start == since
		if eldest == 0 || start < since {
			eldest, since = pid, start
		}
	}
	if twins {
		return 0
	}
	return eldest
}

// toldRun is the run whose end conmon has told and nobody has recorded, from the same; nil
// for none. Of an end that was recorded the bundle is gone.
func (e *Engine) toldRun(c *cove.Container) *cove.Run {
	if c.Spec.Monitor == "" {
		return nil
	}
	if _, told := conmon.ReadEnd(e.exits(c.ID), e.bundle(c.ID), c.ID); !told {
		return nil
	}
	pid, made, err := conmon.Watches(e.bundle(c.ID))
	if err != nil {
		return nil
	}
	return &cove.Run{Generation: c.Run.Generation, BootID: procfs.BootID(), PID: pid, Started: made}
}
