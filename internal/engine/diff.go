package engine

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/rootfs"
)

// Change is one difference between a container and its image.
type Change struct {
	Path string // absolute, inside the container
	Kind ChangeKind
}

// ChangeKind is how a path differs, by the letter that diff prints.
type ChangeKind byte

// The kinds of changes.
const (
	Added   ChangeKind = 'A'
	Changed ChangeKind = 'C'
	Deleted ChangeKind = 'D'
)

// String gives the letter.
func (k ChangeKind) String() string { return string(rune(k)) }

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
func (e *Engine) Diff(ctx context.Context, nameOrID string, o DiffOptions) ([]Change, error) {
	if o.Images {
		release, err := e.images.Hold(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { _ = release() }()
	}
	img, c, err := e.diffable(ctx, nameOrID, o)
	var all []Change
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
	return slices.DeleteFunc(all, func(ch Change) bool { return slices.Contains(mountedAlways(), ch.Path) }), err
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
func (e *Engine) imageChanges(ctx context.Context, img *cove.ImageConfig) ([]Change, error) {
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
	var all []Change
	if top == 1 {
		all, err = compare(upper, lower)
	} else { // what its directories delete shows in the whole alone
		all, err = compareWhole(ctx, upper, lower)
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
func (e *Engine) diffRoots(ctx context.Context, img *cove.ImageConfig, c *cove.Container, o DiffOptions) ([]Change, error) {
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
	all, err := compareWhole(ctx, now, before)
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
func (h *held) changes() ([]Change, error) {
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
	all, err := compare(upper, lower)
	if err != nil {
		return nil, cove.E("compare container", h.Name, fileKind(err), err)
	}
	return all, nil
}

// mountedAlways are the places that a start makes in every container.
func mountedAlways() []string {
	return []string{"/dev", "/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf", "/proc", "/run", "/run/.containerenv", "/run/notify", "/run/secrets", "/sys"}
}

// compare lists what the writable layer upper changes of the root lower.
func compare(upper, lower int) ([]Change, error) {
	up, err := rootfs.EntryOf(upper)
	if err != nil {
		return nil, err
	}
	low, err := rootfs.EntryOf(lower)
	if err != nil {
		return nil, err
	}
	var d differ
	if err := d.directory(&up, &low, "/"); err != nil {
		return nil, err
	}
	return d.sorted(), nil
}

type differ struct{ changes []Change }

func (d *differ) sorted() []Change {
	slices.SortFunc(d.changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return d.changes
}

func (d *differ) add(name string, k ChangeKind) { d.changes = append(d.changes, Change{name, k}) }

// directory compares two directories of one path; low is nil when the image
// has none there.
func (d *differ) directory(up, low *rootfs.Entry, at string) error {
	names, err := up.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := d.entry(up, low, name, path.Join(at, name)); err != nil {
			return err
		}
	}
	if low == nil || !opaque(up) {
		return nil
	}
	// It hides all that the image has there.
	hidden, err := low.Names()
	if err != nil {
		return err
	}
	kept := make(map[string]bool, len(names))
	for _, name := range names {
		kept[name] = true
	}
	for _, name := range hidden {
		if !kept[name] {
			d.add(path.Join(at, name), Deleted)
		}
	}
	return nil
}

func (d *differ) entry(updir, lowdir *rootfs.Entry, name, at string) error {
	up, err := rootfs.OpenEntry(updir.FD, name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed since it was listed
		}
		return err
	}
	defer up.Close()
	var low *rootfs.Entry
	if lowdir != nil {
		e, err := rootfs.OpenEntry(lowdir.FD, name)
		if err == nil {
			defer e.Close()
			low = &e
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	switch {
	case whiteout(&up):
		if low != nil {
			d.add(at, Deleted)
		}
		return nil
	case low == nil:
		d.add(at, Added)
	default:
		d.add(at, Changed)
	}
	if up.Type() != unix.S_IFDIR {
		return nil
	}
	if low != nil && low.Type() != unix.S_IFDIR {
		low = nil
	}
	return d.directory(&up, low, at)
}

// compareWhole lists how the root now differs from the root before, none of
// them being a layer of the other: all of both is looked at. A file differs by
// its size, times, mode, owner or device, as with podman.
func compareWhole(ctx context.Context, now, before int) ([]Change, error) {
	n, err := rootfs.EntryOf(now)
	if err != nil {
		return nil, err
	}
	b, err := rootfs.EntryOf(before)
	if err != nil {
		return nil, err
	}
	d := differ{}
	if _, err := d.whole(ctx, &n, &b, "/"); err != nil {
		return nil, err
	}
	return d.sorted(), nil
}

// whole compares two directories, of which before may be nil, and tells
// whether they differ in anything.
func (d *differ) whole(ctx context.Context, now, before *rootfs.Entry, at string) (differ bool, err error) {
	names, err := now.Names()
	if err != nil {
		return false, err
	}
	had := len(d.changes)
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if err := d.wholeEntry(ctx, now, before, name, path.Join(at, name)); err != nil {
			return false, err
		}
	}
	if before == nil {
		return true, nil
	}
	old, err := before.Names()
	if err != nil {
		return false, err
	}
	kept := make(map[string]bool, len(names))
	for _, name := range names {
		kept[name] = true
	}
	for _, name := range old {
		if !kept[name] {
			d.add(path.Join(at, name), Deleted)
		}
	}
	return len(d.changes) > had, nil
}

func (d *differ) wholeEntry(ctx context.Context, nowDir, beforeDir *rootfs.Entry, name, at string) error {
	now, err := rootfs.OpenEntry(nowDir.FD, name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed since it was listed
		}
		return err
	}
	defer now.Close()
	var before *rootfs.Entry
	if beforeDir != nil {
		e, err := rootfs.OpenEntry(beforeDir.FD, name)
		if err == nil {
			defer e.Close()
			before = &e
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	changed := before != nil && differs(&now.Stat, &before.Stat)
	if now.Type() == unix.S_IFDIR {
		below := before
		if before != nil && before.Type() != unix.S_IFDIR {
			below = nil
		}
		inside, err := d.whole(ctx, &now, below, at)
		if err != nil {
			return err
		}
		changed = changed || inside
	}
	switch {
	case before == nil:
		d.add(at, Added)
	case changed:
		d.add(at, Changed)
	}
	return nil
}

// differs tells whether two files of one path are not the same. A directory's
// size and times are those of its entries.
func differs(a, b *unix.Stat_t) bool {
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Rdev != b.Rdev {
		return true
	}
	return a.Mode&unix.S_IFMT != unix.S_IFDIR && (a.Size != b.Size || a.Mtim != b.Mtim)
}

// whiteout tells a file that stands for a deleted one: the device 0:0,
// Documentation/filesystems/overlayfs.rst.
func whiteout(e *rootfs.Entry) bool {
	return e.Type() == unix.S_IFCHR && e.Stat.Rdev == 0
}

// opaque tells a directory that hides what is below it.
func opaque(e *rootfs.Entry) bool {
	x, err := e.Xattrs()
	if err != nil {
		return false
	}
	return x["trusted.overlay.opaque"] == "y" || x["user.overlay.opaque"] == "y"
}
