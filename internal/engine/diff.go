package engine

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/rootfs/changes"
)

// DiffOptions say what names may stand for, and with what is compared.
type DiffOptions struct {
	Containers, Images bool // an image comes before a container of its name
	// Against is the container or image whose root is taken for the older one;
	// "" is a container's image, and of an image all but its uppermost layer.
	Against string
}

// Diff lists what a container or image has changed, sorted by path. A
// directory counts as changed when something in it is. The paths that every
// container has changed, because something is mounted there, are left out, as
// podman does.
func (e *Engine) Diff(ctx context.Context, nameOrID string, o DiffOptions) ([]changes.Change, error) {
	if o.Images {
		release, err := e.images.Hold(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { _ = release() }()
	}
	img, c, err := e.diffable(ctx, nameOrID, o)
	var all []changes.Change
	switch {
	case err != nil:
	case o.Against != "":
		all, err = e.diffRoots(ctx, img, c, o)
	case img != nil:
		all, err = e.imageChanges(ctx, img)
	default:
		var h *held
		if h, err = e.hold(ctx, c.ID); err == nil {
			defer h.release()
			all, err = h.changes()
		}
	}
	return slices.DeleteFunc(all, func(ch changes.Change) bool { return slices.Contains(mountedAlways(), ch.Path) }), err
}

// diffable finds the image or, if there is none, the container of that name.
func (e *Engine) diffable(ctx context.Context, nameOrID string, o DiffOptions) (*cove.ImageConfig, *cove.Container, error) {
	if o.Images {
		img, err := e.images.Resolve(ctx, nameOrID, "")
		if err == nil {
			return &img, nil, nil
		}
		if !cove.Is(err, cove.NotFound) || !o.Containers {
			return nil, nil, err
		}
	}
	c, err := e.find(nameOrID)
	if cove.Is(err, cove.NotFound) && o.Images {
		err = cove.E("", "", cove.NotFound, errors.New("no container or image with name or ID \""+nameOrID+"\" found: no such object"))
	}
	return nil, c, err
}

// imageChanges lists what an image's uppermost layer changes of the others.
func (e *Engine) imageChanges(ctx context.Context, img *cove.ImageConfig) ([]changes.Change, error) {
	if len(img.Layers) == 0 {
		return nil, nil
	}
	if image.Whole(e.conf.Driver) {
		data, err := e.images.Inspect(ctx, img.ID)
		if err != nil {
			return nil, err
		}
		if len(data.RootFS.Layers) > 1 {
			return nil, cove.E("compare image", img.Name, cove.Unsupported, errors.New("the storage driver "+e.conf.Driver+" keeps no layer apart from those below it; this is not supported by cove yet"))
		}
	}
	top := image.Uppermost(img.Layers)
	above, below := *img, *img
	below.Layers = img.Layers[top:]
	if top == 1 {
		above.Layers = img.Layers[:1]
	}
	upper, err := e.openImage(&above)
	if err != nil {
		return nil, err
	}
	defer unix.Close(upper)
	lower, err := e.openImage(&below)
	if err != nil {
		return nil, err
	}
	defer unix.Close(lower)
	var all []changes.Change
	if top == 1 {
		all, err = changes.Layer(upper, lower)
	} else { // what its directories delete shows in the whole alone
		all, err = changes.Whole(ctx, upper, lower)
	}
	if err != nil {
		return nil, cove.E("compare image", img.Name, fileKind(err), err)
	}
	return all, nil
}

// openImage opens an image's root to be read.
func (e *Engine) openImage(img *cove.ImageConfig) (int, error) {
	if err := e.prepareHome(); err != nil {
		return -1, err
	}
	fd, err := rootfs.Open(e.imageRoot(&cove.Container{Image: *img}))
	if err != nil {
		return -1, cove.E("open root of image", img.Name, fileKind(err), err)
	}
	return fd, nil
}

// diffRoots compares the root of an image or container with that of the one
// that o names.
func (e *Engine) diffRoots(ctx context.Context, img *cove.ImageConfig, c *cove.Container, o DiffOptions) ([]changes.Change, error) {
	oldImage, oldContainer, err := e.diffable(ctx, o.Against, o)
	if err != nil {
		return nil, err
	}
	now, err := e.diffRoot(ctx, img, c)
	if err != nil {
		return nil, err
	}
	defer unix.Close(now)
	before, err := e.diffRoot(ctx, oldImage, oldContainer)
	if err != nil {
		return nil, err
	}
	defer unix.Close(before)
	all, err := changes.Whole(ctx, now, before)
	if err != nil {
		return nil, cove.E("compare with", o.Against, fileKind(err), err)
	}
	return all, nil
}

func (e *Engine) diffRoot(ctx context.Context, img *cove.ImageConfig, c *cove.Container) (int, error) {
	if img != nil {
		return e.openImage(img)
	}
	h, root, err := e.holdRoot(ctx, c.ID, (*held).bareRoot)
	if err != nil {
		return -1, err
	}
	h.release()
	return root, nil
}

// changes lists all that the container has changed of its image.
func (h *held) changes() ([]changes.Change, error) {
	e, c := h.e, &h.Container.Container
	o := e.overlay(c)
	if o == nil {
		return nil, nil // a plain directory has nothing below it
	}
	if err := e.makeDir(c); err != nil {
		return nil, err
	}
	upper, err := rootfs.Open(rootfs.Source{Dir: o.Upper})
	if err != nil {
		return nil, cove.E("compare container", h.Name, fileKind(err), err)
	}
	defer unix.Close(upper)
	lower, err := rootfs.Open(e.imageRoot(c))
	if err != nil {
		return nil, cove.E("compare container", h.Name, fileKind(err), err)
	}
	defer unix.Close(lower)
	all, err := changes.Layer(upper, lower)
	if err != nil {
		return nil, cove.E("compare container", h.Name, fileKind(err), err)
	}
	return all, nil
}

// mountedAlways are the places that a start makes in every container.
func mountedAlways() []string {
	return []string{"/dev", "/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf", "/proc", "/run", "/run/.containerenv", "/run/notify", "/run/secrets", "/sys"}
}
