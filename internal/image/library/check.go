package library

import (
	"context"
	"errors"
	"maps"
	"slices"

	"go.podman.io/storage"

	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/index"
)

// Check has the library look at every layer and image, except that it mounts none,
// and looks for what killed copies by cove have left, and for pins of nothing.
func (s *Store) Check(ctx context.Context, users func() image.Users) ([]image.Damage, error) {
	const op = "check images"
	return soon(ctx, op, "", func() ([]image.Damage, error) {
		lib, err := s.library()
		if err != nil {
			return nil, err
		}
		if lib.readOnly {
			return nil, nil // the library's check changes what it looks at
		}
		found, err := s.check(lib, users)
		return found, fail(op, "", err)
	})
}

func (s *Store) check(lib *library, users func() image.Users) ([]image.Damage, error) {
	found, err := s.checkPins(lib, users)
	if err != nil {
		return nil, err
	}
	mine, err := s.openCopies()
	if err != nil {
		return nil, err
	}
	left := map[string]bool{}
	if mine.alone() {
		notes, err := mine.left()
		var remains []string
		if err == nil {
			remains, err = lib.remains(notes)
		}
		if err != nil {
			return nil, errors.Join(err, mine.file.Close())
		}
		for _, id := range remains {
			left[id] = true
			found = append(found, image.Damage{Kind: "layer", Object: id, Problem: "a copy or a removal that was killed has left it", Repair: func() error { return s.cleanCopies(lib) }})
		}
	}
	if err := mine.file.Close(); err != nil { // others are not to wait for a long look
		return nil, err
	}
	stray, err := lib.strayMarkers()
	if err != nil {
		return nil, err
	}
	for _, path := range stray {
		found = append(found, image.Damage{Kind: "directory", Object: path, Problem: "it is for a layer that is not there", Repair: lib.sweepMarkers})
	}
	report, err := lib.store.Check(&storage.CheckOptions{LayerDigests: true, LayerData: true, ImageData: true, ContainerData: true})
	if err != nil {
		return nil, err
	}
	for _, id := range slices.Sorted(maps.Keys(report.Layers)) {
		for _, problem := range report.Layers[id] {
			if left[id] {
				continue // told already, and perhaps half made
			}
			d := image.Damage{Kind: "layer", Object: id, Problem: "damaged: " + plain(problem).Error() + "; remove its image and pull it again"}
			switch {
			case errors.Is(problem, storage.ErrLayerUnreferenced):
				if lib.named(id) {
					continue // a pin
				}
				d.Problem, d.Repair = "it belongs to no image or container, and no copy takes this long", func() error { return lib.deleteRemains(id) }
			case errors.Is(problem, storage.ErrLayerUnaccounted) && isTrial(id):
				continue // somebody opens the store just now
			case errors.Is(problem, storage.ErrLayerUnaccounted):
				only := report
				only.Layers, only.Images, only.Containers = map[string][]error{id: {problem}}, nil, nil
				d.Problem, d.Repair = "a directory that the store has no record of", func() error {
					return errors.Join(lib.store.Repair(only, &storage.RepairOptions{})...)
				}
			}
			found = append(found, d)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(report.Images)) {
		for _, problem := range report.Images[id] {
			// Those of its layers are told.
			for _, own := range []error{storage.ErrImageLayerMissing, storage.ErrImageDataMissing, storage.ErrImageDataIncorrectSize} {
				if errors.Is(problem, own) {
					found = append(found, image.Damage{Kind: "image", Object: id, Problem: "damaged: " + plain(problem).Error() + "; remove it and pull it again"})
				}
			}
		}
	}
	return found, nil
}

// checkPins looks for pins that no image and no container needs, unless somebody
// makes a container just now.
func (s *Store) checkPins(lib *library, users func() image.Users) (found []image.Damage, err error) {
	dir, err := s.indexDir()
	if err != nil {
		return nil, err
	}
	release, err := index.TryOwn(dir)
	if err != nil || release == nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	surplus, err := lib.surplusPins(users())
	for _, p := range surplus {
		found = append(found, image.Damage{Kind: "pin", Object: p.id, Problem: "its image is gone and no container uses it",
			Repair: func() error { return s.sweep(users()) }})
	}
	return found, err
}

// sweep removes what a removal would besides its images.
func (s *Store) sweep(users image.Users) error {
	_, release, err := s.remover(context.Background(), image.RemoveOptions{}, users)
	if err != nil {
		return err
	}
	return release()
}

// named tells whether a layer has a name, as pins do.
func (l *library) named(id string) bool {
	lay, err := l.store.Layer(id)
	return err == nil && len(lay.Names) > 0
}

// cleanCopies deletes what killed copies and removals have left, unless one runs.
func (s *Store) cleanCopies(lib *library) error {
	mine, err := s.openCopies()
	if err != nil {
		return err
	}
	defer mine.file.Close()
	return lib.cleanAlone(mine)
}
