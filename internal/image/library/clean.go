package library

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"go.podman.io/common/libimage"
	imagetypes "go.podman.io/image/v5/types"
	"go.podman.io/storage"
)

// orClean runs a copy into the store, by the library's operations with sys or,
// for nil, the usual configuration; if it fails, it deletes the images and layers
// that the copy has left: the library commits layers one by one and leaves those
// before the failing one to a next attempt that may never come, and it looks at
// some things of an image only when it has stored it.
//
// What another copy by cove has built upon these layers is known by a lock that
// each copy shares; while one runs, nothing is deleted here and Prune does it
// another day. Layers that others have made meanwhile are theirs: they may be part
// of a copy by another tool.
func (s *Store) orClean(ctx context.Context, lib *library, sys *imagetypes.SystemContext, copy func(*libimage.Runtime) error) (err error) {
	if sys == nil {
		sys = lib.runtime.SystemContext()
	}
	into := &incoming{Store: lib.store, ctx: ctx}
	rt, err := libimage.RuntimeFromStore(into, &libimage.RuntimeOptions{SystemContext: sys})
	if err != nil {
		return err
	}
	dir, err := s.indexDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "copies"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_SH); err != nil {
		return &os.PathError{Op: "lock", Path: lock.Name(), Err: err}
	}
	if err = copy(rt); err == nil {
		return nil
	}
	if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return err
	}
	for _, id := range into.images {
		if _, cleanErr := lib.store.DeleteImage(id, true); cleanErr != nil {
			err = errors.Join(err, ignore(cleanErr, storage.ErrImageUnknown, storage.ErrImageUsedByContainer, storage.ErrLayerHasChildren))
		}
	}
	for _, id := range slices.Backward(into.layers) { // children come after their parents
		if cleanErr := lib.store.DeleteLayer(id); cleanErr != nil {
			err = errors.Join(err, ignore(cleanErr, storage.ErrLayerHasChildren, storage.ErrLayerUsedByImage,
				storage.ErrLayerUsedByContainer, storage.ErrLayerUnknown, storage.ErrNotALayer))
		}
	}
	return err
}
