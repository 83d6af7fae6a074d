package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/checkpoint"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/rootfs"
)

// RestoreOptions are for Restore and RestoreArchive.
type RestoreOptions struct {
	TCPEstablished bool
	FileLocks      bool
	Keep           bool // the images, with CRIU's logs and statistics
}

// Restore lets a container go on from its last checkpoint.
func (e *Engine) Restore(ctx context.Context, nameOrID string, o RestoreOptions) (CheckpointResult, error) {
	begun := time.Now()
	h, err := e.holdAsIs(ctx, nameOrID)
	if err != nil {
		return CheckpointResult{}, err
	}
	defer h.release()
	result, err := e.restoreHeld(ctx, h, o)
	result.Whole = time.Since(begun)
	return result, err
}

// restoreHeld is Restore with the container's lock held.
func (e *Engine) restoreHeld(ctx context.Context, h *held, o RestoreOptions) (CheckpointResult, error) {
	result := CheckpointResult{ID: h.ID}
	if err := e.checkpoints(ctx, &h.Container.Container); err != nil {
		return result, err
	}
	if h.Status != cove.Created && h.Status != cove.Exited {
		return result, cove.E("", "", cove.WrongStatus, fmt.Errorf("container %s is running or paused, cannot restore: container state improper", h.ID))
	}
	i := o.images(h.Dir)
	if _, err := os.Stat(filepath.Join(i.Dir, "inventory.img")); err != nil {
		return result, cove.E("", "", cove.NoFile, errors.New("a complete checkpoint for this container cannot be found, cannot restore"))
	}
	err := os.Mkdir(i.Work, 0o700)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return result, cove.E("restore container", h.Name, fileKind(err), err)
	}
	if !procfs.OtherBoot(h.Run.BootID) {
		// One of --rm was mounted as volatile, and so would not be mounted again,
		// Documentation/filesystems/overlayfs.rst. What it has written is still there.
		if err := os.RemoveAll(filepath.Join(h.Dir, "work", "work", "incompat")); err != nil {
			return result, cove.E("restore container", h.Name, fileKind(err), err)
		}
	}
	l := h.launch()
	l.restore = &wire.Restore{Images: i, Started: h.Run.Started, Checkpointed: h.Run.Checkpointed}
	if h.Run.Started.IsZero() { // imported
		l.restore.Started = time.Now()
	}
	conn, err := l.do(ctx)
	if err != nil && ctx.Err() != nil {
		return result, l.calledOff(err)
	}
	if err != nil {
		return result, h.notStarted(h.Run.Generation+1, err)
	}
	defer conn.Close()
	result.Runtime = l.took
	if err := e.restored(&h.Container.Container, i, o, &result); err != nil {
		return result, err
	}
	h.release()
	return result, l.poststarted(conn)
}

// restored is the end of a restore: the container runs.
func (e *Engine) restored(c *cove.Container, i wire.Images, o RestoreOptions, result *CheckpointResult) (err error) {
	if result.CRIU, err = checkpoint.ReadStatistics(filepath.Join(i.Work, checkpoint.RestoreStatistics)); err != nil {
		return cove.E("restore container", c.Name, cove.Internal, err)
	}
	if !o.Keep {
		for _, dir := range []string{i.Dir, i.Work, filepath.Join(e.dir(c.ID), checkpoint.Previous)} {
			_ = rootfs.RemoveTree(dir)
		}
	}
	e.emit(c, "restore")
	return nil
}

// images says what the runtime is to read.
func (o *RestoreOptions) images(dir string) wire.Images {
	return (&CheckpointOptions{TCPEstablished: o.TCPEstablished, FileLocks: o.FileLocks}).images(dir)
}
