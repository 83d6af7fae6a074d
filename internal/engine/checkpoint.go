package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
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
	if err := exportable(o.Export.Path); err != nil {
		return CheckpointResult{}, err
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
	if len(h.DependsOn) > 0 && (o.Export.Path != "" || o.Image != "") {
		return result, cove.E("", "", cove.Unsupported, errors.New("cannot export checkpoints of containers with dependencies"))
	}
	body := wire.CheckpointBody{Images: o.images(h.Dir), Leave: o.Leave || o.Pre, Stay: h.Spec.Remove}
	handed, err := h.beginCheckpoint(ctx, body)
	if err != nil {
		return result, cove.E("checkpoint container", h.Name, fileKind(err), err)
	}
	letGo := func() {
		for _, f := range handed {
			_ = f.Close()
		}
	}
	defer letGo()
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
		letGo()
		_ = h.settleCheckpoint()
		return result, err
	}
	defer conn.Close()
	called := time.Now()
	if err := h.unlocked(ctx, func() error { return conn.Checkpoint(ctx, body, handed...) }); err != nil {
		if h.lock != nil && h.Run.PID == 0 && ctx.Err() == nil {
			return result, notRunning() // another one has ended it
		}
		// Who gives up waiting has not ended it: what has begun goes on.
		if h.lock != nil && ctx.Err() == nil {
			_ = h.settleCheckpoint()
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

// keepPatience is how long who has the container's lock waits for another one to put images
// that are complete into their place.
const keepPatience = 10 * time.Second

var errNoTurn = errors.New("another checkpoint of it does not end, to stop the container ends it")

// beginCheckpoint waits until no other checkpoint is made of a container which conmon watches,
// writes down whether the one that is to be made ends it, and sees to it that what there is of
// others is not taken for one that does. It gives what goes to the aide: the plan and the turn.
// With our own monitor, who does all that, it is nothing. The container may have ended.
func (h *held) beginCheckpoint(ctx context.Context, body wire.CheckpointBody) (handed []*os.File, err error) {
	if h.Spec.Monitor == "" {
		return nil, nil
	}
	fd, err := h.turn(ctx)
	if err != nil {
		return nil, err
	}
	turn := os.NewFile(uintptr(fd), h.Dir)
	if err := h.noteCheckpoint(body); err != nil || h.Status != cove.Running {
		turn.Close()
		return nil, err
	}
	plan, err := os.Open(filepath.Join(h.Dir, "plan"))
	if err != nil {
		turn.Close()
		return nil, err
	}
	return []*os.File{plan, turn}, nil
}

// awaitCRIU waits as long as what has the container frozen, or has ended its processes, is a
// checkpoint that is being made.
func (h *held) awaitCRIU(ctx context.Context) error {
	if h.Status != cove.Paused && !h.dumping {
		return nil
	}
	for {
		if err := h.awaitTurn(ctx, drive.Free); err != nil {
			return err
		}
		if err := h.again(); err != nil || !h.dumping { // it may have been let go just now
			return err
		}
	}
}

// hurryCRIU calls endCRIU when the container has had its time to end, as o says, and every now
// and then from there on, until the function that it gives is called.
func (e *Engine) hurryCRIU(nameOrID string, o StopOptions) (end func()) {
	over := make(chan struct{})
	go func() {
		for wait, timed := endPatience, false; ; {
			select {
			case <-over:
				return
			case <-time.After(wait):
			}
			c, err := e.find(nameOrID)
			if err != nil {
				continue
			}
			if _, timeout, err := e.wayToStop(c, o); err == nil && timeout > 0 && !timed && e.stillRuns(c.ID) {
				wait, timed = time.Duration(timeout)*time.Second, true
				continue
			}
			wait = endPatience
			e.endCRIU(c.ID)
		}
	}()
	return func() { close(over) }
}

// stillRuns tells whether a container has a process, and no checkpoint that ends it is made.
func (e *Engine) stillRuns(id string) bool {
	c, err := e.recorded(id)
	return err == nil && c != nil && !c.dumping && c.Run.PID != 0 && procfs.Lives(c.Run.PID, c.Run.PIDStart)
}

// endCRIU kills the CRIU that has ended a container's processes, or outlived them, and does not
// end itself, with the runtime that called it: what ends or removes the container does not wait
// for it. They have the turn by a descriptor of a number of their own, with a lock that is theirs
// alone.
func (e *Engine) endCRIU(id string) {
	c, err := e.recorded(id)
	if err != nil || c == nil || !c.dumping && (c.Run.PID == 0 || procfs.Lives(c.Run.PID, c.Run.PIDStart)) {
		return
	}
	dir, err := filepath.EvalSymlinks(c.Dir)
	if err != nil {
		return
	}
	number := strconv.Itoa(drive.TurnFD)
	_ = endEach(func(pid int) (bool, error) {
		if pid == os.Getpid() {
			return false, nil
		}
		proc := filepath.Join("/proc", strconv.Itoa(pid))
		if name, err := os.Readlink(filepath.Join(proc, "fd", number)); err != nil || name != dir {
			return false, nil
		}
		about, err := procfs.Read(filepath.Join(proc, "fdinfo", number), 64<<10)
		if err != nil || !bytes.Contains(about, []byte("FLOCK")) || !bytes.Contains(about, []byte("WRITE")) || !handed(about) {
			return false, nil
		}
		return hasOurRights(pid)
	})
}

// handed tells from a descriptor's proc_pid_fdinfo(5) that it is to go on to who is executed. One
// of that number by chance, of a program that waits for CRIU, is close-on-exec.
func handed(about []byte) bool {
	_, flags, ok := bytes.Cut(about, []byte("flags:"))
	flags, _, _ = bytes.Cut(flags, []byte("\n"))
	n, err := strconv.ParseUint(string(bytes.TrimSpace(flags)), 8, 64)
	return ok && err == nil && n&unix.O_CLOEXEC == 0
}

// turn waits as long as a checkpoint of the container is being made, and keeps others from one
// while the descriptor that it gives is open.
func (h *held) turn(ctx context.Context) (turn int, err error) {
	err = h.awaitTurn(ctx, func(dir string) (err error) {
		turn, err = drive.Turn(dir, 0)
		return err
	})
	return turn, err
}

// awaitTurn tries, for the container's directory, until that does not tell that somebody has
// the turn.
func (h *held) awaitTurn(ctx context.Context, try func(dir string) error) error {
	deadline, looked := time.Now().Add(turnPatience), time.Now()
	for {
		err := try(h.Dir)
		if err == nil {
			return nil
		}
		if time.Since(looked) > drive.OrphanWait {
			drive.EndOrphans(h.Dir)
			looked = time.Now()
		}
		if err == unix.EWOULDBLOCK && time.Now().After(deadline) {
			err = errNoTurn
		}
		if err != unix.EWOULDBLOCK {
			return cove.E("checkpoint container", h.Name, fileKind(err), err)
		}
		if err := h.turnWait(ctx); err != nil {
			return err
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

// noteCheckpoint writes down whether the checkpoint that is to be made, whose turn the caller
// has, ends the container: it may have ended while that was waited for.
func (h *held) noteCheckpoint(body wire.CheckpointBody) error {
	if err := h.again(); err != nil || h.Status != cove.Running {
		return err
	}
	if !procfs.Lives(h.Run.PID, h.Run.PIDStart) { // a checkpoint that nobody was left to tell of may have ended it
		return unix.ESRCH
	}
	ends := !body.Leave
	if ends {
		// One whose driver was killed may be complete, and is told so by what goes now.
		if i := new(CheckpointOptions).images(h.Dir); drive.Begun(i.Dir) && drive.Complete(i.Dir, i.Work) {
			if err := drive.Keep(i.Dir); err != nil {
				return err
			}
		}
		if err := drive.Anew(body.Work); err != nil {
			return err
		}
	}
	if h.Run.Dumping == ends {
		return nil
	}
	h.Run.Dumping = ends // or that of a command which was killed before there was one
	return h.writeRun()
}

// showCheckpoint lays over what is known of the end of a run what CRIU tells of it: the
// processes that a checkpoint takes down look killed, and those that it is about to have taken.
func (c *Container) showCheckpoint() {
	i := new(CheckpointOptions).images(c.Dir)
	switch {
	case drive.Free(c.Dir) == unix.EWOULDBLOCK:
		c.Run.ExitCode, c.dumping = 0, true
	case drive.Complete(i.Dir, i.Work):
		c.Run.ExitCode, c.Run.Checkpointed = 0, c.Run.Finished
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
	// An aide that has waited for CRIU may be putting them into their place, too.
	turn, err := drive.Turn(h.Dir, keepPatience)
	if err == unix.EWOULDBLOCK {
		err = errNoTurn
	}
	i := new(CheckpointOptions).images(h.Dir)
	if err == nil {
		defer unix.Close(turn)
		if !drive.Complete(i.Dir, i.Work) {
			return false, nil
		}
		err = drive.Keep(i.Dir)
	}
	if err != nil {
		return false, cove.E("keep the checkpoint of container", h.Name, fileKind(err), err)
	}
	return true, nil
}

// leftFrozen tells whether it looks as if a checkpoint or commit had left a container frozen.
func (c *Container) leftFrozen() bool {
	return c.Status == cove.Paused && (c.still() || c.Spec.Runtime != "" && (c.begun(false) || c.begun(true)))
}

// begun tells whether there are images that a checkpoint, or one of the memory alone, has not
// put into their place.
func (c *Container) begun(pre bool) bool {
	return drive.Begun((&CheckpointOptions{Pre: pre}).images(c.Dir).Dir)
}

// endCheckpoint waits for a checkpoint that is being made, and sees to it that a container that
// is frozen from now on is not taken for one that it has left so.
func (h *held) endCheckpoint(ctx context.Context) error {
	if h.Spec.Runtime == "" {
		return nil
	}
	if err := h.awaitTurn(ctx, drive.Free); err != nil {
		return err
	}
	if err := h.settleCheckpoint(); err != nil {
		return err
	}
	return h.again()
}

// settleCheckpoint sees to what a checkpoint has left that has failed, or whose driver and monitor,
// or aide, were killed with CRIU: a container that is frozen goes on, and nothing is taken for
// the end by a checkpoint any more. One that is being made is none of that.
func (h *held) settleCheckpoint() error {
	noted := h.Run.Dumping && h.Spec.Monitor != ""
	if h.Run.PID == 0 || h.Spec.Runtime == "" || !noted && !h.begun(false) && !h.begun(true) {
		return nil
	}
	turn, err := drive.Turn(h.Dir, drive.LookPatience)
	if err == unix.EWOULDBLOCK {
		return nil // it is being made
	}
	if err != nil {
		return err
	}
	defer unix.Close(turn)
	for _, pre := range []bool{false, true} {
		i := (&CheckpointOptions{Pre: pre}).images(h.Dir)
		switch {
		case !drive.Begun(i.Dir):
		case drive.Complete(i.Dir, i.Work):
			err = drive.Keep(i.Dir)
		default:
			if h.Status == cove.Paused {
				err = h.e.thaw(&h.Container)
			}
			if err == nil {
				err = drive.Discard(i.Dir)
			}
		}
		if err != nil {
			return err
		}
	}
	if i := new(CheckpointOptions).images(h.Dir); noted && !drive.Complete(i.Dir, i.Work) { // else it is about to end
		h.Run.Dumping = false
		if err := h.writeRun(); err != nil {
			return err
		}
	}
	return h.again()
}
