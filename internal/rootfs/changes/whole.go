package changes

import (
	"context"
	"errors"
	"io/fs"
	"path"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/rootfs"
)

// Whole lists how the root now differs from the root before, none of
// them being a layer of the other: all of both is looked at. A file differs by
// its size, times, mode, owner or device, as with podman.
func Whole(ctx context.Context, now, before int) ([]Change, error) {
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
