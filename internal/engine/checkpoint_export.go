package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/checkpoint"
	"github.com/cove-engine/cove/internal/plan"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/rootfs/archive"
	"github.com/cove-engine/cove/internal/unnamed"
)

// ExportOptions say what goes into a checkpoint's archive.
type ExportOptions struct {
	Path          string // "" for none
	Compression   string // none, gzip, zstd
	IgnoreRootfs  bool
	IgnoreVolumes bool
}

// exportable refuses a place where no archive can be, before a container is ended for it; ""
// is none.
func exportable(name string) error {
	if name == "" {
		return nil
	}
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir(), os.IsPathSeparator(name[len(name)-1]):
		err = unix.EISDIR
	case errors.Is(err, os.ErrNotExist):
		err = unix.Access(filepath.Dir(name), unix.W_OK)
	}
	if err != nil {
		return cove.E("export checkpoint to", name, fileKind(err), err)
	}
	return nil
}

// exportCheckpoint writes the last checkpoint, with what the container has
// changed and its volumes, to an archive.
func (e *Engine) exportCheckpoint(ctx context.Context, h *held, o CheckpointOptions) error {
	err := writeWhole(o.Export.Path, func(w io.Writer) error {
		z, err := e.images.Compress(w, o.Export.Compression)
		if err != nil {
			return err
		}
		return errors.Join(e.writeCheckpoint(ctx, z, h, o), z.Close())
	})
	if err != nil {
		return cove.E("export checkpoint to", o.Export.Path, fileKind(err), err)
	}
	return nil
}

func (e *Engine) writeCheckpoint(ctx context.Context, out io.Writer, h *held, o CheckpointOptions) error {
	c := &h.Container.Container
	w := checkpoint.NewWriter(out)
	w.Config(checkpoint.ConfigOf(c))
	spec, err := h.configuration()
	if err != nil {
		return err
	}
	w.Spec(spec)
	w.Networks(c)
	w.Statistics(filepath.Join(h.Dir, checkpoint.Work, checkpoint.DumpStatistics))
	w.Log(e.logPath(c))
	if !o.Pre {
		w.Directory(checkpoint.Images, filepath.Join(h.Dir, checkpoint.Images))
	}
	if o.Pre || o.WithPrevious {
		w.Directory(checkpoint.Previous, filepath.Join(h.Dir, checkpoint.Previous))
	}
	if !o.Export.IgnoreRootfs {
		if err := h.writeChanges(ctx, w); err != nil {
			return err
		}
	}
	if !o.Export.IgnoreVolumes {
		if err := h.writeVolumes(ctx, w); err != nil {
			return err
		}
	}
	return w.Close()
}

// configuration is the OCI configuration of the run.
func (h *held) configuration() (json.RawMessage, error) {
	data, err := readOwn(filepath.Join(h.Dir, "plan"))
	if err != nil {
		return nil, err
	}
	var p plan.Foreign
	err = json.Unmarshal(data, &p)
	return p.Config, err
}

// writeChanges writes what the container has changed of its image.
func (h *held) writeChanges(ctx context.Context, w *checkpoint.Writer) error {
	there, deleted, err := h.changedPaths()
	if err != nil {
		return err
	}
	fd, err := h.bareRoot()
	if err != nil {
		return err
	}
	root, err := rootfs.EntryOf(fd)
	if err != nil {
		_ = unix.Close(fd)
		return err
	}
	defer root.Close()
	err = h.spooled(func(f *os.File) error { return archive.PackEach(ctx, f, &root, there) }, w.Changes)
	if err == nil && len(deleted) > 0 {
		w.Deleted(deleted)
	}
	return err
}

// writeVolumes writes the content of the container's volumes.
func (h *held) writeVolumes(ctx context.Context, w *checkpoint.Writer) error {
	for _, m := range h.Mounts {
		if m.Type != "volume" {
			continue
		}
		fd, err := unix.Open(h.e.volumeData(m.Source), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open volume", Path: m.Source, Err: err}
		}
		root, err := rootfs.EntryOf(fd)
		if err == nil {
			err = h.spooled(func(f *os.File) error { return archive.Pack(ctx, f, &root, "") }, func(f *os.File) { w.Volume(m.Source, f) })
		}
		_ = unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// spooled has make write to a file without a name, for use: the size of an
// archive's member is told before its content.
func (h *held) spooled(make func(*os.File) error, use func(*os.File)) error {
	f, err := unnamed.Create(h.Dir, 0o600, false)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := make(f.File); err != nil {
		return err
	}
	use(f.File)
	return nil
}

// writeWhole writes a file that appears under its name when it is complete and
// on the disk. A pipe or a device is written to as it is.
func writeWhole(name string, write func(io.Writer) error) error {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := unnamed.Create(filepath.Dir(name), 0o600, false)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Publish(name)
	}
	return errors.Join(err, f.Close())
}
