package engine

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
	"github.com/cove-engine/cove/internal/lock/file"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/procfs"
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
	if out.Configured == nil {
		out.Configured, _ = e.configuredNow() // a start refuses what it says wrongly
	}
	run, over, err := lastRun(out.Dir, c.Run.Generation)
	if (over || err != nil) && e.doubtful(c, run, over, err) {
		was := run
		run, over, err = e.renewed(c, was, over, err)
		out.fileLost = c.Spec.Monitor != "" && run != was
	}
	out.over = over
	switch {
	case errors.Is(err, os.ErrNotExist):
		run = new(cove.Run)
	case errors.Is(err, runfile.ErrDamaged) && over:
		// Nobody can tell any more how it ended, and nobody waits to.
		run = unknownRun(c)
		run.Error = err.Error()
	case err != nil:
		return out, cove.E("look at container", c.Name, cove.Internal, err)
	}
	if run.Generation < c.Run.Generation && procfs.OtherBoot(c.Run.BootID) {
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
		why := lost(c, run, !over)
		if e.reported(&out, why) {
			break
		}
		if why != "" && c.Spec.Monitor != "" && !sameRun(out.Dir, run) {
			return e.look(c) // what conmon has told was recorded just now
		}
		if why != "" {
			out.Status = cove.Exited
			out.Run.PID, out.Run.Exit, out.Run.Finished = 0, why, time.Now().Round(0) // when it was found out
			out.Run.ExitCode = lostCode
			if why == exitUnknown {
				out.Run.ExitCode = -1
			} else if run.Dumping && !procfs.Lives(run.PID, run.PIDStart) {
				out.showCheckpoint()
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

// lastRun reads a container's run file. over tells that the run, or the start of
// this generation, is not done with, and that its monitor was gone by then, so that
// this is the last word: a monitor that ends after its file was read has recorded
// an exit that was not read.
func lastRun(dir string, generation uint64) (run *cove.Run, over bool, err error) {
	for {
		run, err = runfile.Read(dir)
		if errors.Is(err, unix.ENOENT) {
			return nil, true, err // nobody has a file that is not there; an empty one a monitor may have
		}
		if err == nil && run.PID == 0 && run.Down && run.Generation >= generation || alive(dir) {
			return run, false, err
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, runfile.ErrDamaged) || sameRun(dir, run) {
			return run, true, err
		}
	}
}

// sameRun tells whether a run file still says what was read of it, nil for
// nothing.
func sameRun(dir string, run *cove.Run) bool {
	now, _ := runfile.Read(dir)
	return reflect.DeepEqual(now, run)
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

// bootTime is when this boot began, to the second, as /proc/stat has it: what an
// earlier one has left running had ended by then.
func bootTime() time.Time {
	return procfs.Booted().Truncate(time.Second)
}

// lost tells why a run that its file calls running is not, "" when it is; alive
// tells whether somebody still has the lock on the file.
func lost(c *cove.Container, run *cove.Run, alive bool) string {
	if procfs.OtherBoot(run.BootID) {
		return exitUnknown
	}
	if alive || c.Spec.Monitor != "" && conmonLives(run) {
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

var (
	errAboutToStart = errors.New("it is about to be started")
	errHooksRun     = errors.New("hooks of its end are running")
)

// unsettled tells whether settle has something to do, as far as that can be
// seen at no cost.
func (c *Container) unsettled() bool {
	if c.cutShort() {
		return true
	}
	// The monitor was killed before it could tell the exit, or after that.
	return c.Status == cove.Exited && c.Run.Generation > 0 && !c.Run.Down && !lostInCrash(c) || c.awaitsRestart() || c.staysBehind() ||
		// Or conmon and its exit command, in the pause before the next run.
		c.Spec.Monitor != "" && c.restartWanted() && !conmonLives(&c.Run)
}

// staysBehind tells of a container that was to go with its end, which is recorded, that it is
// still there: who was to remove it is about to, or was killed before that or in the middle.
func (c *Container) staysBehind() bool {
	return c.Spec.Remove && (c.Status == cove.Removing || c.Status == cove.Exited && c.Run.Down && c.goes())
}

func diedEvent(c *cove.Container, code int) cove.Event {
	ev := containerEvent(c, "died")
	ev.ExitCode = &code
	return ev
}
