package changes

import (
	"errors"
	"io/fs"
	"path"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/rootfs"
)

// Layer lists what the writable layer upper changes of the root lower.
func Layer(upper, lower int) ([]Change, error) {
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
