package engine

import (
	"context"
	"io"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/rootfs/archive"
)

// Export writes the container's root file system as a tar stream: its image
// and what it has changed, without what is mounted in it. The container's
// lock is not held while w is written to.
func (e *Engine) Export(ctx context.Context, nameOrID string, w io.Writer) error {
	h, err := e.hold(ctx, nameOrID)
	if err != nil {
		return err
	}
	root, err := h.bareRoot()
	h.release()
	if err != nil {
		return err
	}
	defer unix.Close(root)
	entry, err := rootfs.EntryOf(root)
	if err == nil {
		err = archive.Pack(ctx, w, &entry, "")
	}
	if err != nil {
		return cove.E("export container", h.Name, fileKind(err), err)
	}
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

// Diff lists what the container has changed of its image, sorted by path. A
// directory counts as changed when something in it is. The paths that every
// container has changed, because something is mounted there, are left out, as
// podman does.
func (e *Engine) Diff(ctx context.Context, nameOrID string) ([]Change, error) {
	h, err := e.hold(ctx, nameOrID)
	if err != nil {
		return nil, err
	}
	defer h.release()
	all, err := h.changes()
	return slices.DeleteFunc(all, func(ch Change) bool { return slices.Contains(mountedAlways(), ch.Path) }), err
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
	return []string{"/dev", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/proc", "/run", "/run/.containerenv", "/run/notify", "/run/secrets", "/sys"}
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
	slices.SortFunc(d.changes, func(a, b Change) int {
		if a.Path < b.Path {
			return -1
		}
		if a.Path > b.Path {
			return 1
		}
		return 0
	})
	return d.changes, nil
}

type differ struct{ changes []Change }

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
		if fileKind(err) == cove.NotFound {
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
		} else if fileKind(err) != cove.NotFound {
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
