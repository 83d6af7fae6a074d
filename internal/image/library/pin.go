package library

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.podman.io/storage"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
)

// A pin keeps the layers of an image that cove's containers may use from
// being deleted by other tools. It consists of
//
//   - a container record of containers/storage, which makes `podman rmi` and
//     the prunes of other tools refuse, and
//   - an empty child layer of the image's top layer, which belongs to nothing,
//     so that the layers stay even when `rmi --force` deletes the record.
//
// Both are named after the image and have IDs made from the image's, so that
// pinning again is harmless and a half-made pin is completed by the next one.

// The names differ, for the libraries look a name up among layers and
// containers alike.
const (
	pinPrefix      = "cove-pin-"
	pinLayerPrefix = "cove-pin-layer-"
)

// pinMetadata is the metadata of the container record; the field's names are
// those that podman and buildah look for, so that `podman ps --external` shows
// what the record is.
type pinMetadata struct {
	ContainerName string `json:"container-name"`
	ImageID       string `json:"image-id"`
	Owner         string `json:"owner"`
}

// pin makes sure that img is pinned and gives the directories that exist as
// long as it is. It writes only what is missing.
func (l *library) pin(img *storage.Image) ([]string, error) {
	if img.TopLayer == "" {
		return nil, nil // nothing to keep
	}
	name, child, ctr := pinPrefix+img.ID, image.PinID("layer", img.ID), image.PinID("container", img.ID)
	lay, err := l.store.Layer(child)
	if err == nil && lay.Parent != img.TopLayer {
		// left of an image with the same ID and other layers
		err = errors.Join(l.store.DeleteLayer(child), storage.ErrLayerUnknown)
	} else if _, serr := os.Lstat(l.layerDir(child)); err == nil && errors.Is(serr, os.ErrNotExist) {
		// removed by hand
		err = errors.Join(l.store.DeleteLayer(child), storage.ErrLayerUnknown)
	}
	if errors.Is(err, storage.ErrLayerUnknown) {
		_, err = l.store.CreateLayer(child, img.TopLayer, []string{pinLayerPrefix + img.ID}, "", false, nil)
	}
	if err != nil && !errors.Is(err, storage.ErrDuplicateID) {
		return nil, fmt.Errorf("pin image %s: %w", img.ID, err)
	}
	if _, err = l.store.Container(ctr); errors.Is(err, storage.ErrContainerUnknown) {
		if err := l.dropContainerLayer(img.ID); err != nil {
			return nil, fmt.Errorf("pin image %s: %w", img.ID, err)
		}
		meta, _ := json.Marshal(pinMetadata{ContainerName: name, ImageID: img.ID, Owner: "cove"})
		_, err = l.store.CreateContainer(ctr, []string{name}, img.ID, image.PinID("container layer", img.ID), string(meta),
			&storage.ContainerOptions{})
	}
	if err != nil && !errors.Is(err, storage.ErrDuplicateID) {
		return nil, fmt.Errorf("pin image %s: %w", img.ID, err)
	}
	// The record's own directory comes late, its layer goes with it.
	return []string{l.layerDir(child), l.layerDir(image.PinID("container layer", img.ID))}, nil
}

// layerDir is the directory of a layer that cove made.
func (l *library) layerDir(id string) string {
	place := image.LayerDir(l.store.GraphDriverName(), id)
	if st := l.store.ImageStore(); st != "" {
		dir := filepath.Join(st, place)
		if _, err := os.Lstat(dir); err == nil {
			return dir
		}
	}
	return filepath.Join(l.store.GraphRoot(), place)
}

// unpin removes what pin made for the image, in the order in which a kill in
// between leaves the least: the child layer is what protects the layers, so
// it goes last.
func (l *library) unpin(imageID string) error {
	err := l.store.DeleteContainer(image.PinID("container", imageID))
	if err != nil && !errors.Is(err, storage.ErrContainerUnknown) && !errors.Is(err, storage.ErrNotAContainer) {
		return fmt.Errorf("unpin image %s: %w", imageID, err)
	}
	if err := l.dropContainerLayer(imageID); err != nil {
		return fmt.Errorf("unpin image %s: %w", imageID, err)
	}
	err = l.store.DeleteLayer(image.PinID("layer", imageID))
	if err != nil && !errors.Is(err, storage.ErrLayerUnknown) && !errors.Is(err, storage.ErrNotALayer) {
		return fmt.Errorf("unpin image %s: %w", imageID, err)
	}
	return nil
}

// dropContainerLayer removes the layer of a pin's container that was never recorded:
// the library makes the layer first, and whoever pinned may have been killed between.
func (l *library) dropContainerLayer(imageID string) error {
	return ignore(l.store.DeleteLayer(image.PinID("container layer", imageID)), storage.ErrLayerUsedByContainer, storage.ErrLayerUnknown, storage.ErrNotALayer)
}

// a pinned image, which may be gone, and the layer that its pin keeps, "" when
// that is not known any more.
type pinnedImage struct{ id, top string }

// pins lists the images that have a pin, or a part of one, in the order of the
// store's layers.
func (l *library) pins() ([]pinnedImage, error) {
	layers, err := l.store.Layers()
	if err != nil {
		return nil, err
	}
	containers, err := l.store.Containers()
	if err != nil {
		return nil, err
	}
	var all []pinnedImage
	parent := map[string]string{}
	for _, lay := range layers {
		parent[lay.ID] = lay.Parent
		if id, ok := pinned(lay.Names, pinLayerPrefix); ok && lay.ID == image.PinID("layer", id) {
			all = append(all, pinnedImage{id, lay.Parent})
		}
	}
	for _, ctr := range containers {
		id, ok := pinned(ctr.Names, pinPrefix)
		if ok && ctr.ID == image.PinID("container", id) && !slices.ContainsFunc(all, func(p pinnedImage) bool { return p.id == id }) {
			all = append(all, pinnedImage{id, parent[ctr.LayerID]}) // another tool has taken the layer for waste
		}
	}
	return all, nil
}

// surplusPins lists the pins whose image another tool has force-removed and that no
// container of cove's uses. No container is being made meanwhile.
func (l *library) surplusPins(users image.Users) ([]pinnedImage, error) {
	all, err := l.pins()
	return slices.DeleteFunc(all, func(p pinnedImage) bool { return l.imageExists(p.id) || len(of(users, p.id)) > 0 }), err
}

// sweepPins removes the surplus pins, with the layers that only they kept.
func (l *library) sweepPins(c *copies, users image.Users) error {
	surplus, err := l.surplusPins(users)
	errs := []error{err}
	for _, p := range surplus {
		errs = append(errs, l.retire(c, p))
	}
	return errors.Join(errs...)
}

// retire removes the pin of an image that is gone, with the layers that only it
// kept.
func (l *library) retire(c *copies, p pinnedImage) error {
	if err := c.leave(l, p.top); err != nil {
		return err
	}
	if err := l.unpin(p.id); err != nil {
		return err
	}
	return l.deleteUnused(p.top)
}

// Retire removes the pins of images without users, and the directory for blobs in
// flight. An image that another tool has force-removed goes with its last pin.
func (s *Store) Retire(ctx context.Context, users image.Users) error {
	const op = "unpin images"
	lib, err := s.writable()
	if err != nil {
		return err
	}
	mine, err := s.shareCopies(ctx)
	if err != nil {
		return fail(op, "", err)
	}
	all, err := lib.pins()
	errs := []error{err}
	for _, p := range all {
		switch {
		case len(of(users, p.id)) > 0:
		case lib.imageExists(p.id):
			errs = append(errs, lib.unpin(p.id))
		default:
			errs = append(errs, lib.retire(mine, p))
		}
	}
	errs = append(errs, lib.cleanAlone(mine), mine.file.Close())
	if dir := lib.runtime.SystemContext().BigFilesTemporaryDir; strings.HasPrefix(filepath.Base(dir), transferPrefix) {
		_ = os.Remove(dir)
	}
	return fail(op, "", errors.Join(errs...))
}

// pinned gives the image that a part of a pin is named after.
func pinned(names []string, prefix string) (imageID string, ok bool) {
	for _, n := range names {
		if id, ok := strings.CutPrefix(n, prefix); ok && len(id) == cove.IDLength {
			return id, true
		}
	}
	return "", false
}

func (l *library) imageExists(id string) bool {
	_, err := l.store.Image(id)
	return err == nil
}

// deleteUnused deletes a layer and its parents up to the first that
// something uses.
func (l *library) deleteUnused(id string) error {
	for id != "" {
		rec, err := l.store.Layer(id)
		if err != nil {
			return ignore(err, storage.ErrLayerUnknown)
		}
		if err := l.store.DeleteLayer(id); err != nil {
			return ignore(err, storage.ErrLayerHasChildren, storage.ErrLayerUsedByImage, storage.ErrLayerUsedByContainer, storage.ErrLayerUnknown, storage.ErrNotALayer)
		}
		id = rec.Parent
	}
	return nil
}

// ignore gives err unless it is one of those expected.
func ignore(err error, expected ...error) error {
	for _, e := range expected {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}
