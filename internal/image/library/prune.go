package library

import (
	"context"
	"errors"
	"time"

	"go.podman.io/common/libimage"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
)

// orphanAge is how old a layer must be before Prune takes it for the remains
// of a copy by another tool that was killed rather than for part of one in flight.
const orphanAge = 24 * time.Hour

// Prune removes the images that have no name and no container, with all also
// those that have names and no container, as far as filters (label, until,
// …) allow. It also removes what killed copies of other tools have left.
func (s *Store) Prune(ctx context.Context, all bool, filters []string, users image.Users) ([]image.RemoveReport, error) {
	const op = "prune images"
	return soon(ctx, op, "", func() ([]image.RemoveReport, error) { return s.prune(ctx, op, all, filters, users) })
}

func (s *Store) prune(ctx context.Context, op string, all bool, filters []string, users image.Users) ([]image.RemoveReport, error) {
	r, release, err := s.remover(ctx, image.RemoveOptions{Force: true}, users)
	if err != nil {
		return nil, err
	}
	r.sizes = true
	fs := append([]string{"readonly=false"}, filters...)
	if !all {
		fs = append(fs, "dangling=true")
	}
	var errs []error
	images, err := r.lib.runtime.ListImages(ctx, &libimage.ListImagesOptions{Filters: fs})
	errs = append(errs, fail(op, "", err))
	for _, img := range images {
		if !r.lib.imageExists(img.ID()) {
			continue // went as the parent of another
		}
		if err := r.delete(ctx, img); !cove.Is(fail(op, img.ID(), err), cove.InUse) {
			errs = append(errs, fail(op, img.ID(), err))
		}
	}
	errs = append(errs, fail(op, "", r.lib.sweepOrphans()), release())
	return r.reports, errors.Join(errs...)
}

// sweepOrphans deletes old layers that belong to nothing.
func (l *library) sweepOrphans() error {
	layers, err := l.store.Layers()
	if err != nil {
		return err
	}
	used, err := l.used(layers)
	if err != nil {
		return err
	}
	var errs []error
	for _, lay := range layers {
		if !used[lay.ID] && !lay.ReadOnly && time.Since(lay.Created) >= orphanAge {
			errs = append(errs, l.deleteUnused(lay.ID)) // with those below that no other needs
		}
	}
	return errors.Join(errs...)
}
