package library

import (
	"context"
	"encoding/json"

	"go.podman.io/common/libimage"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
)

// Inspect describes the local image called nameOrID.
func (s *Store) Inspect(ctx context.Context, nameOrID string) (*image.ImageData, error) {
	const op = "inspect image"
	return soon(ctx, op, nameOrID, func() (*image.ImageData, error) { return s.inspect(ctx, op, nameOrID) })
}

func (s *Store) inspect(ctx context.Context, op, nameOrID string) (*image.ImageData, error) {
	img, err := s.find(op, nameOrID)
	if err != nil {
		return nil, err
	}
	data, err := img.Inspect(ctx, &libimage.InspectOptions{WithSize: true, WithParent: true})
	if err != nil {
		return nil, failContent(op, nameOrID, err)
	}
	// Both have the same JSON; the library's types stay on this side.
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, cove.E(op, nameOrID, cove.Internal, err)
	}
	out := new(image.ImageData)
	if err := json.Unmarshal(raw, out); err != nil {
		return nil, cove.E(op, nameOrID, cove.Internal, err)
	}
	return out, nil
}

// Exists reports whether nameOrID is a local image.
func (s *Store) Exists(nameOrID string) (bool, error) {
	_, err := s.find("look up image", nameOrID)
	if cove.Is(err, cove.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// History tells how the local image called nameOrID was made.
func (s *Store) History(ctx context.Context, nameOrID string) ([]image.HistoryEntry, error) {
	const op = "read history of image"
	img, err := s.find(op, nameOrID)
	if err != nil {
		return nil, err
	}
	steps, err := img.History(ctx)
	if err != nil {
		return nil, failContent(op, nameOrID, err)
	}
	out := make([]image.HistoryEntry, 0, len(steps))
	for _, h := range steps {
		out = append(out, image.HistoryEntry(h))
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
