package engine

import (
	"context"
	"io"

	"github.com/cove-engine/cove"
)

// CreateVolume makes a named volume; "" names it by a random ID. ignore makes
// an existing one no error.
func (e *Engine) CreateVolume(ctx context.Context, v cove.Volume, ignore bool) (cove.Volume, error) {
	return e.now().CreateVolume(ctx, v, ignore)
}

// Volumes gives the volumes that the filters choose, by name.
func (e *Engine) Volumes(ctx context.Context, filters map[string][]string) ([]VolumeData, error) {
	return e.now().Volumes(ctx, filters)
}

// Volume describes a volume.
func (e *Engine) Volume(ctx context.Context, name string) (VolumeData, error) {
	return e.now().Volume(ctx, name)
}

// RemoveVolume removes a volume with its content and gives its full name. Of o
// only Force (with the containers that use it), Timeout and Warn count.
func (e *Engine) RemoveVolume(ctx context.Context, name string, o RemoveOptions) (string, error) {
	return e.now().RemoveVolume(ctx, name, o)
}

// PruneVolumes removes the volumes that the filters choose and that no
// container has, and gives their names and, at the same places, the bytes
// that each gave back.
func (e *Engine) PruneVolumes(ctx context.Context, filters map[string][]string) (names []string, sizes []int64, err error) {
	return e.now().PruneVolumes(ctx, filters)
}

// ExportVolume writes a volume's content as a tar stream. No lock is held while
// w is written to.
func (e *Engine) ExportVolume(ctx context.Context, name string, w io.Writer) error {
	return e.now().ExportVolume(ctx, name, w)
}

// ImportVolume unpacks a tar stream, which may be compressed, into a volume: over
// what it has already. The stream is read to its end first, so that the volume
// is not locked while its sender is waited for.
func (e *Engine) ImportVolume(ctx context.Context, name string, r io.Reader) error {
	return e.now().ImportVolume(ctx, name, r)
}
