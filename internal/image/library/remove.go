package library

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.podman.io/common/libimage"
	"go.podman.io/storage"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/index"
)

// Remove removes images by name or ID: takes the given name from an image
// with several, deletes an image with one. An image that containers use is
// refused with InUse, those of other tools too; also with Force: the engine
// removes cove's containers first. What could be done is reported beside the
// errors, which are joined.
func (s *Store) Remove(ctx context.Context, names []string, o image.RemoveOptions, users image.Users) ([]image.RemoveReport, error) {
	const op = "remove image"
	return soon(ctx, op, strings.Join(names, ", "), func() ([]image.RemoveReport, error) { return s.remove(ctx, op, names, o, users) })
}

func (s *Store) remove(ctx context.Context, op string, names []string, o image.RemoveOptions, users image.Users) ([]image.RemoveReport, error) {
	if o.All == (len(names) > 0) {
		return nil, cove.E(op, "", cove.Invalid, errors.New("name images or ask for all, not both"))
	}
	r, release, err := s.remover(ctx, o, users)
	if err != nil {
		return nil, err
	}
	var errs []error
	if o.All {
		images, err := r.lib.runtime.ListImages(ctx, &libimage.ListImagesOptions{Filters: []string{"readonly=false"}})
		errs = append(errs, fail(op, "", err))
		for _, img := range images {
			names = append(names, img.ID())
		}
		r.Force = true // IDs with several names
	}
	for _, name := range names {
		img, found, err := r.lib.lookupAny(name)
		if cove.Is(fail(op, name, err), cove.NotFound) && (o.Ignore || o.All) {
			continue
		}
		if err == nil {
			err = r.remove(ctx, img, found)
		}
		errs = append(errs, fail(op, name, err))
	}
	errs = append(errs, release())
	return r.reports, errors.Join(errs...)
}

// remover removes images one after the other, while no container is made, and in the
// end what force-removed images and killed copies have left.
type remover struct {
	image.RemoveOptions
	lib     *library
	users   image.Users
	copies  *copies
	sizes   bool
	reports []image.RemoveReport
}

func (s *Store) remover(ctx context.Context, o image.RemoveOptions, users image.Users) (*remover, func() error, error) {
	lib, err := s.writable()
	if err != nil {
		return nil, nil, err
	}
	dir, err := s.indexDir()
	if err != nil {
		return nil, nil, err
	}
	release, err := index.Own(ctx, dir)
	if err != nil {
		return nil, nil, fail("remove image", "", err)
	}
	mine, err := s.shareCopies(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, release())
	}
	return &remover{RemoveOptions: o, lib: lib, users: users, copies: mine}, func() error {
		return errors.Join(lib.sweepPins(mine, users), lib.cleanAlone(mine), mine.file.Close(), index.Clear(dir), lib.sweepMarkers(), lib.settle(), release())
	}, nil
}

// lookupAny finds what may be removed: also a list of images of which none
// is here.
func (l *library) lookupAny(name string) (*libimage.Image, string, error) {
	img, found, err := l.lookup(name, "")
	if errors.Is(err, storage.ErrImageUnknown) {
		if img, found, listErr := l.runtime.LookupImage(name, &libimage.LookupImageOptions{ManifestList: true}); listErr == nil {
			return img, found, nil
		}
	}
	return img, found, err
}

// remove takes the name found from img, or deletes it.
func (r *remover) remove(ctx context.Context, img *libimage.Image, found string) error {
	names := img.Names()
	byID := found == "" || strings.HasPrefix(img.ID(), found) || strings.HasPrefix(found, "sha256:")
	if len(names) > 1 && byID && !r.Force {
		return cove.E("", "", cove.Invalid, fmt.Errorf("unable to delete image %q by ID with more than one tag (%s): please force removal", img.ID(), names))
	}
	if len(names) > 1 && !byID && slices.Contains(names, found) {
		if err := img.Untag(found); err != nil {
			return err
		}
		r.reports = append(r.reports, image.RemoveReport{ID: img.ID(), Untagged: []string{found}})
		return nil
	}
	return r.delete(ctx, img)
}

// delete removes an image that nothing uses, then parents that only it kept.
func (r *remover) delete(ctx context.Context, img *libimage.Image) error {
	if img.IsReadOnly() {
		return cove.E("", "", cove.Denied, errors.New("the image is in an additional, read-only store"))
	}
	if err := r.unused(img); err != nil {
		return err
	}
	var size int64
	if r.sizes {
		size, _ = img.Size() // a damaged image has none
	}
	var parent *libimage.Image
	if !r.NoPrune {
		parent, _ = img.Parent(ctx) // unknown for a damaged image
	}
	if err := r.lib.unpin(img.ID()); err != nil {
		return err
	}
	if err := r.copies.leave(r.lib, img.TopLayer()); err != nil {
		return err
	}
	// Not by the name found: with one name left, or by force, all go.
	names := img.Names()
	if _, err := r.lib.store.DeleteImage(img.ID(), true); err != nil {
		return err
	}
	r.reports = append(r.reports, image.RemoveReport{ID: img.ID(), Deleted: true, Untagged: names, Size: size})
	if parent == nil || r.unused(parent) != nil || parent.IsReadOnly() {
		return nil
	}
	if dangling, err := parent.IsDangling(ctx); err != nil || !dangling {
		return nil
	}
	return r.delete(ctx, parent)
}

// unused refuses an image that a container of cove's or of another tool's
// uses.
func (r *remover) unused(img *libimage.Image) error {
	if users := of(r.users, img.ID()); len(users) > 0 {
		return cove.E("", "", cove.InUse, fmt.Errorf("image used by %s: image is in use by a container", strings.Join(users, ", ")))
	}
	containers, err := r.lib.store.Containers()
	if err != nil {
		return err
	}
	for _, c := range containers {
		if c.ImageID == img.ID() && c.ID != image.PinID("container", img.ID()) {
			return cove.E("", "", cove.InUse, fmt.Errorf("image used by %s: image is in use by a container of another tool", c.ID))
		}
	}
	return nil
}
