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
	"github.com/cove-engine/cove/internal/checkpoint"
	"github.com/cove-engine/cove/internal/ctrinit/drive"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/rootfs"
)

// A checkpoint is made by CRIU on behalf of another OCI runtime. The monitor
// has it made, so that it goes on without the command, and tells a run that
// ended in one from a run that was killed. In the container's directory are:
//
//	checkpoint      the images; beside it, while they are written, checkpoint.new
//	pre-checkpoint  the memory as --pre-checkpoint found it
//	criu            what CRIU has to say: its logs and statistics

// CheckpointOptions are for Checkpoint.
type CheckpointOptions struct {
	Leave          bool // the container runs on
	Pre            bool // only the memory; the container runs on
	WithPrevious   bool // only what has changed since Pre
	TCPEstablished bool
	FileLocks      bool
	Keep           bool // CRIU's logs and statistics
	Export         ExportOptions
	Image          string // one to be made of it; "" for none
}

// CheckpointResult is what making or restoring a checkpoint took.
type CheckpointResult struct {
	ID      string
	Whole   time.Duration
	Runtime time.Duration
	CRIU    checkpoint.Statistics
}

// Checkpoint writes a running container's processes to the disk and, unless
// they are to run on, ends it.
func (e *Engine) Checkpoint(ctx context.Context, nameOrID string, o CheckpointOptions) (CheckpointResult, error) {
	begun := time.Now()
	if o.Export.Path != "" || o.Image != "" {
		if err := e.images.Ready(); err != nil {
			return CheckpointResult{}, err
		}
	}
	if o.Image != "" {
		if _, err := e.images.NormalizeName(o.Image); err != nil {
			return CheckpointResult{}, err
		}
	}
	h, err := e.hold(ctx, nameOrID)
	if err != nil {
		return CheckpointResult{}, err
	}
	defer h.release()
	result := CheckpointResult{ID: h.ID}
	if err := e.checkpoints(ctx, &h.Container.Container); err != nil {
		return result, err
	}
	notRunning := func() error {
		return cove.E("", "", cove.WrongStatus, fmt.Errorf("%q is not running, cannot checkpoint: container state improper", h.Status))
	}
	if err := h.awaitCRIU(ctx); err != nil {
		return result, err
	}
	if h.Status != cove.Running {
		return result, notRunning()
	}
	if h.Spec.Remove && o.Export.Path == "" {
		return result, cove.E("", "", cove.Invalid, errors.New("cannot checkpoint containers that have been started with '--rm' unless '--export' is used"))
	}
	body := wire.CheckpointBody{Images: o.images(h.Dir), Leave: o.Leave || o.Pre, Stay: h.Spec.Remove}
	plan, err := h.beginCheckpoint(ctx, body)
	if err != nil {
		return result, cove.E("checkpoint container", h.Name, fileKind(err), err)
	}
	defer plan.Close()
	if h.Status != cove.Running { // another one has ended it
		return result, notRunning()
	}
	conn, err := e.dial(&h.Container)
	if cove.Is(err, cove.NoFile) {
		if err := h.ended(ctx); err != nil {
			return result, err
		}
		return result, notRunning()
	}
	if err != nil {
		h.endCheckpoint()
		return result, err
	}
	defer conn.Close()
	called := time.Now()
	ask := func() error { return conn.Checkpoint(ctx, body) }
	if plan != nil {
		ask = func() error { return conn.Checkpoint(ctx, body, int(plan.Fd())) }
	}
	if err := h.unlocked(ctx, ask); err != nil {
		if h.lock != nil && h.Run.PID == 0 && ctx.Err() == nil {
			return result, notRunning() // another one has ended it
		}
		// Who gives up waiting has not ended it: what has begun goes on.
		if h.lock != nil && ctx.Err() == nil {
			h.endCheckpoint()
		}
		return result, cove.E("checkpoint container", h.Name, cove.KindOf(err), err)
	}
	result.Runtime = time.Since(called)
	if !body.Leave {
		if err := h.ended(ctx); err != nil {
			return result, err
		}
		if err := e.desire(h, cove.DesireStop); err != nil {
			return result, err
		}
	}
	// Another one waits until these images and what CRIU has said are read, or has begun
	// and is waited for.
	turn, err := h.turn(ctx)
	if err != nil {
		return result, err
	}
	defer unix.Close(turn)
	if result.CRIU, err = checkpoint.ReadStatistics(filepath.Join(body.Work, checkpoint.DumpStatistics)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return result, cove.E("checkpoint container", h.Name, cove.Internal, err)
	}
	if o.Export.Path != "" {
		if err := e.exportCheckpoint(ctx, h, o); err != nil {
			return result, err
		}
	}
	if o.Image != "" {
		if err := e.imageOfCheckpoint(ctx, h, o); err != nil {
			return result, err
		}
	}
	if !o.Keep && !o.Pre {
		_ = rootfs.RemoveTree(body.Work)
	}
	e.emit(&h.Container.Container, "checkpoint")
	if h.Spec.Remove && !body.Leave {
		if err := e.removeHeld(h, RemoveOptions{}); err != nil {
			return result, err
		}
	}
	result.Whole = time.Since(begun)
	return result, nil
}

// images says what the runtime is to write, and where.
func (o *CheckpointOptions) images(dir string) wire.Images {
	i := wire.Images{Dir: filepath.Join(dir, checkpoint.Images), Work: filepath.Join(dir, checkpoint.Work)}
	for _, flag := range []struct {
		on   bool
		args []string
	}{
		{o.TCPEstablished, []string{"--tcp-established"}},
		{o.FileLocks, []string{"--file-locks"}},
		{o.Leave && !o.Pre, []string{"--leave-running"}},
		{o.Pre, []string{"--pre-dump"}},
		{o.WithPrevious, []string{"--parent-path", "../" + checkpoint.Previous}},
	} {
		if flag.on {
			i.Args = append(i.Args, flag.args...)
		}
	}
	if o.Pre {
		i.Dir = filepath.Join(dir, checkpoint.Previous)
	}
	return i
}

// checkpoints refuses by name what no checkpoint can be made of.
func (e *Engine) checkpoints(ctx context.Context, c *cove.Container) error {
	refuse := func(why string) error { return cove.E("", "", cove.Unsupported, errors.New(why)) }
	if e.conf.Rootless {
		return refuse("checkpointing a container requires root")
	}
	if c.Spec.Runtime == "" {
		return refuse("checkpoints are not made by cove's own OCI runtime: a container made with --runtime runc can have them")
	}
	program, err := e.runtimeProgram(c.Spec.Runtime)
	if err != nil {
		return err
	}
	if can, err := e.canCheckpoint(ctx, program); err != nil {
		return err
	} else if !can {
		return refuse("OCI runtime " + c.Spec.Runtime + " does not support checkpoints: one made with --runtime runc can have them")
	}
	return nil
}

// turnPatience is how long a checkpoint waits for another one of the same container.
const turnPatience = 10 * time.Minute

var errNoTurn = errors.New("another checkpoint of it does not end")

// beginCheckpoint waits until no other checkpoint is asked for of a container which conmon
// watches, writes down whether the one that is to be made ends it, and sees to it that what
// there is of others is not taken for one that does. The plan that it gives goes to the aide:
// the lock on that keeps others waiting until it is made. With our own monitor, who does all
// that, it is nil. The container may have ended.
func (h *held) beginCheckpoint(ctx context.Context, body wire.CheckpointBody) (plan *os.File, err error) {
	if h.Spec.Monitor == "" {
		return nil, nil
	}
	if plan, err = os.Open(filepath.Join(h.Dir, "plan")); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(turnPatience); ; {
		if err = h.mayCheckpoint(plan, body); err != unix.EWOULDBLOCK {
			break
		}
		if time.Now().After(deadline) {
			err = errNoTurn
			break
		}
		_ = unix.Flock(int(plan.Fd()), unix.LOCK_UN) // it is to be had together with the turn
		if err = h.turnWait(ctx); err != nil || h.Run.PID == 0 {
			break
		}
	}
	if err != nil {
		plan.Close()
		return nil, err
	}
	return plan, nil
}

// awaitCRIU waits as long as what has the container frozen is a checkpoint that is being made.
func (h *held) awaitCRIU(ctx context.Context) error {
	if h.Status != cove.Paused {
		return nil
	}
	turn, err := h.turn(ctx)
	if err != nil {
		return err
	}
	_ = unix.Close(turn)
	return h.again() // it may have been let go just now
}

// turn waits as long as a checkpoint of the container is being made, and keeps others from one
// while the descriptor that it gives is open.
func (h *held) turn(ctx context.Context) (int, error) {
	for deadline := time.Now().Add(turnPatience); ; {
		turn, err := drive.Turn(h.Dir, 0)
		if err == nil {
			return turn, nil
		}
		if err == unix.EWOULDBLOCK && time.Now().After(deadline) {
			err = errNoTurn
		}
		if err != unix.EWOULDBLOCK {
			return -1, cove.E("checkpoint container", h.Name, fileKind(err), err)
		}
		if err := h.turnWait(ctx); err != nil {
			return -1, err
		}
	}
}

// turnWait lets others have the container for a moment in which a checkpoint of it may end.
func (h *held) turnWait(ctx context.Context) error {
	return h.unlocked(ctx, func() error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
			return nil
		}
	})
}

// mayCheckpoint is beginCheckpoint with nobody waited for: EWOULDBLOCK tells of another
// checkpoint that is asked for or being made.
func (h *held) mayCheckpoint(plan *os.File, body wire.CheckpointBody) error {
	if err := unix.Flock(int(plan.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	turn, err := drive.Turn(h.Dir, 0)
	if err != nil {
		return err
	}
	defer unix.Close(turn)
	if err := h.again(); err != nil || h.Status != cove.Running {
		return err
	}
	if !procfs.Lives(h.Run.PID, h.Run.PIDStart) { // a checkpoint that nobody was left to tell of may have ended it
		return unix.ESRCH
	}
	ends := !body.Leave
	if ends {
		if err = drive.Anew(body.Work); err != nil {
			return err
		}
	}
	if h.Run.Dumping == ends {
		return nil
	}
	h.Run.Dumping = ends // or that of a command which was killed before there was one
	return h.writeRun()
}

// endCheckpoint writes down that none is being made, unless another one is.
func (h *held) endCheckpoint() {
	if !h.Run.Dumping || h.Spec.Monitor == "" {
		return
	}
	if turn, err := drive.Turn(h.Dir, 0); err == nil {
		defer unix.Close(turn)
		h.Run.Dumping = false
		_ = h.writeRun()
	}
}

// completeCheckpoint finishes the checkpoint of a container whose monitor was
// killed when it had been written, or is conmon, and tells whether there was one.
// Nothing of the container may have run on since.
func (h *held) completeCheckpoint() (bool, error) {
	run, err := runfile.Read(h.Dir)
	if err != nil || !run.Dumping || procfs.OtherBoot(run.BootID) || procfs.Lives(run.PID, run.PIDStart) {
		return false, nil
	}
	turn, err := drive.Turn(h.Dir, 10*time.Second) // whoever makes it is about to end
	if err != nil {
		return false, cove.E("keep the checkpoint of container", h.Name, fileKind(err), err)
	}
	defer unix.Close(turn)
	i := new(CheckpointOptions).images(h.Dir)
	// CRIU needs no monitor for its last steps.
	for deadline := time.Now().Add(2 * time.Second); !drive.Complete(i.Dir, i.Work); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Lstat(i.Dir + drive.Unfinished + "/inventory.img"); err != nil || time.Now().After(deadline) {
			return false, nil
		}
	}
	if err := drive.Keep(i.Dir); err != nil {
		return false, cove.E("keep the checkpoint of container", h.Name, fileKind(err), err)
	}
	return true, nil
}
