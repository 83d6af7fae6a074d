package engine

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/ctrinit/drive"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/inspect"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/rootfs/archive"
	"github.com/cove-engine/cove/internal/rootfs/changes"
)

// CommitOptions say what the image of a container is.
type CommitOptions struct {
	image.CommitOptions
	// Volumes makes image volumes of all that is mounted for the container, and
	// not of its own volumes without a name alone.
	Volumes bool
	Pause   bool // while its files are read, if it runs
}

// Commit makes an image of what a container has changed and was made with, and
// gives its ID. The container's lock is held while its files are read, and not
// while the image is stored.
func (e *Engine) Commit(ctx context.Context, nameOrID string, o CommitOptions) (string, error) {
	if err := e.images.Ready(); err != nil {
		return "", err
	}
	release, err := e.images.Hold(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = release() }()
	h, err := e.hold(ctx, nameOrID)
	if err != nil {
		return "", err
	}
	o.Config = committedConfig(&h.Container, o.Volumes)
	c := h.Container.Container
	h.release()
	if c.Image.ID == "" {
		return "", cove.E("commit container", c.Name, cove.Unsupported, errors.New("cannot commit a container that uses an exploded rootfs"))
	}
	id, err := e.images.Commit(ctx, o.CommitOptions, func(w io.Writer) error { return e.writeLayer(ctx, c.ID, o, w) })
	if err == nil {
		e.emit(&c, "commit")
	}
	return id, err
}

// committedConfig is what an image says that is made of the container.
func committedConfig(c *Container, all bool) cove.ImageConfig {
	now := c.Inspect().Config
	var volumes []string
	for _, m := range c.Mounts {
		if all || m.Anonymous {
			volumes = append(volumes, m.Destination)
		}
	}
	return cove.ImageConfig{
		ID: c.Image.ID, Name: c.Image.Name, User: now.User, WorkDir: now.WorkingDir, Env: now.Env, Entrypoint: now.Entrypoint, Cmd: now.Cmd,
		Volumes: volumes, ExposedPorts: slices.Sorted(maps.Keys(now.ExposedPorts)), Labels: inspect.Labels(c.Container),
	}
}

// writeLayer writes what the container has changed of its image, or all, as a
// layer.
func (e *Engine) writeLayer(ctx context.Context, id string, o CommitOptions, w io.Writer) (err error) {
	h, fd, err := e.holdRoot(ctx, id, (*held).bareRoot)
	if err != nil {
		return err
	}
	defer h.release()
	root, err := rootfs.EntryOf(fd)
	if err != nil {
		_ = unix.Close(fd)
		return cove.E("read container", h.Name, fileKind(err), err)
	}
	defer root.Close()
	if o.Pause {
		goOn, err2 := h.holdStill(ctx)
		if err2 != nil {
			return err2
		}
		defer func() { err = errors.Join(err, goOn()) }()
	}
	there, deleted, err := h.changedPaths()
	if err != nil {
		return err
	}
	for _, name := range there {
		if strings.HasPrefix(path.Base(name), archive.Whiteout) {
			return cove.E("commit file", name, cove.Unsupported, errors.New("in a layer of an image this name deletes another file (layer.md): rename or remove it"))
		}
	}
	if o.Squash {
		return archive.Pack(ctx, w, &root, "")
	}
	return archive.PackEach(ctx, w, &root, there, deleted...)
}

// stillFile, in a container's directory, tells of a frozen one that it is so for the
// time in which a commit reads its files. That has the lock.
const stillFile = "committing"

func (c *Container) still() bool {
	_, err := os.Lstat(filepath.Join(c.Dir, stillFile))
	return err == nil
}

// holdStill freezes a running container until goOn is called, or somebody else gets
// its lock. A checkpoint of it, which freezes it, too, is waited for.
func (h *held) holdStill(ctx context.Context) (goOn func() error, err error) {
	turn := -1
	if h.Status == cove.Running && h.Spec.Runtime != "" {
		if turn, err = h.turn(ctx); err != nil {
			return nil, err
		}
	}
	end := func() error {
		if turn >= 0 {
			_ = unix.Close(turn)
		}
		return nil
	}
	if h.Status != cove.Running {
		return end, nil
	}
	name := filepath.Join(h.Dir, stillFile)
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		return nil, errors.Join(cove.E("pause container", h.Name, fileKind(err), err), end())
	}
	if err := h.freeze(); err != nil && !cove.Is(err, cove.WrongStatus) { // has just ended
		return nil, errors.Join(err, os.Remove(name), end())
	}
	return func() error { return errors.Join(h.goOn(), end()) }, nil
}

// goOn lets a container go on that a commit has frozen.
func (h *held) goOn() error {
	if err := h.e.thaw(&h.Container); err != nil && procfs.Lives(h.Run.PID, h.Run.PIDStart) {
		return err
	}
	if err := os.Remove(filepath.Join(h.Dir, stillFile)); err != nil {
		return cove.E("unpause container", h.Name, fileKind(err), err)
	}
	return nil
}

// settleCommit lets a container go on that a commit, which was killed, has frozen. A
// checkpoint may have frozen it since: that one is left alone.
func (h *held) settleCommit() error {
	if h.Status != cove.Paused && h.Status != cove.Running || !h.still() {
		return nil
	}
	if h.Status == cove.Paused && h.Spec.Runtime != "" {
		turn, err := drive.Turn(h.Dir, drive.LookPatience)
		if err == unix.EWOULDBLOCK {
			return nil // it is being made
		}
		if err != nil {
			return err
		}
		defer unix.Close(turn)
	}
	if h.Status == cove.Running {
		return os.Remove(filepath.Join(h.Dir, stillFile))
	}
	err := h.goOn()
	if err == nil {
		h.Status = cove.Running
	}
	return err
}

// changedPaths are the paths of what the container has changed or added, and of
// what it has deleted.
func (h *held) changedPaths() (there, deleted []string, err error) {
	all, err := h.changes()
	for _, c := range all {
		if c.Kind == changes.Deleted {
			deleted = append(deleted, c.Path)
		} else {
			there = append(there, c.Path)
		}
	}
	return there, deleted, err
}
