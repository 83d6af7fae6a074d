package image

import (
	"context"
	"time"

	"go.podman.io/common/libimage"

	"github.com/cove-engine/cove"
)

// ImageData is an image in the shape of podman's `image inspect`: plain data,
// made for encoding/json.
type ImageData = libimage.ImageData

// Inspect describes the local image called nameOrID.
func (s *Store) Inspect(ctx context.Context, nameOrID string) (*ImageData, error) {
	const op = "inspect image"
	img, err := s.find(op, nameOrID)
	if err != nil {
		return nil, err
	}
	data, err := img.Inspect(ctx, &libimage.InspectOptions{WithSize: true, WithParent: true})
	return data, failContent(op, nameOrID, err)
}

// Exists reports whether nameOrID is a local image.
func (s *Store) Exists(nameOrID string) (bool, error) {
	_, err := s.find("look up image", nameOrID)
	if cove.Is(err, cove.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// HistoryEntry is one step of an image's making, newest first.
type HistoryEntry struct {
	ID        string // "<missing>" for steps that no local image stands for
	Created   *time.Time
	CreatedBy string
	Size      int64 // bytes
	Comment   string
	Tags      []string
}

// History tells how the local image called nameOrID was made.
func (s *Store) History(ctx context.Context, nameOrID string) ([]HistoryEntry, error) {
	const op = "read history of image"
	img, err := s.find(op, nameOrID)
	if err != nil {
		return nil, err
	}
	steps, err := img.History(ctx)
	if err != nil {
		return nil, failContent(op, nameOrID, err)
	}
	out := make([]HistoryEntry, 0, len(steps))
	for _, h := range steps {
		out = append(out, HistoryEntry(h))
	}
	return out, nil
}

func (s *Store) find(op, nameOrID string) (*libimage.Image, error) {
	lib, err := s.library()
	if err != nil {
		return nil, err
	}
	img, _, err := lib.lookup(nameOrID, "")
	return img, fail(op, nameOrID, err)
}
