package engine

import (
	"context"
	"io"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/rootfs/archive"
)

// Export writes the container's root file system as a tar stream: its image
// and what it has changed, without what is mounted in it. The container's
// lock is not held while w is written to.
func (e *Engine) Export(ctx context.Context, nameOrID string, w io.Writer) error {
	h, root, err := e.holdRoot(ctx, nameOrID, (*held).bareRoot)
	if err != nil {
		return err
	}
	h.release()
	defer unix.Close(root)
	entry, err := rootfs.EntryOf(root)
	if err == nil {
		err = archive.Pack(ctx, w, &entry, "")
	}
	if err != nil {
		return cove.E("export container", h.Name, fileKind(err), err)
	}
	e.emit(&h.Container.Container, "export")
	return nil
}

// bareRoot opens the root file system to be read, without its mounts.
func (h *held) bareRoot() (int, error) {
	var fd int
	var err error
	if h.Run.PID != 0 {
		fd, err = h.live(false)
	} else if err = h.e.makeDir(&h.Container.Container); err == nil {
		fd, err = rootfs.Open(h.e.stoppedRoot(&h.Container.Container, true))
	}
	if err != nil {
		return -1, cove.E("open root of container", h.Name, fileKind(err), err)
	}
	return fd, nil
}
