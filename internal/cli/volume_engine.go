package cli

import (
	"context"
	"io"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
	"github.com/cove-engine/cove/internal/inspect"
)

// VolumeEngine is the volume verbs. A nameOrID is a name or an unambiguous
// beginning of one.
type VolumeEngine interface {
	// CreateVolume makes v, under a random name when it has none, and gives
	// its record. With ignore a volume of that name is given as it is.
	CreateVolume(ctx context.Context, v cove.Volume, ignore bool) (cove.Volume, error)
	// Volumes gives those that the filters choose, by name.
	Volumes(ctx context.Context, filters map[string][]string) ([]inspect.Volume, error)
	Volume(ctx context.Context, nameOrID string) (inspect.Volume, error)
	// ExportVolume writes a volume's content as a tar stream; ImportVolume
	// unpacks one, that may be compressed, into a volume.
	ExportVolume(ctx context.Context, nameOrID string, w io.Writer) error
	ImportVolume(ctx context.Context, nameOrID string, r io.Reader) error
	// RemoveVolume gives the full name of what it removed. Of o only Force
	// (with the containers that use it) and Timeout count.
	RemoveVolume(ctx context.Context, nameOrID string, o engine.RemoveOptions) (string, error)
	// PruneVolumes removes what no container uses and gives names and, at
	// the same places, the bytes that each gave back.
	PruneVolumes(ctx context.Context, filters map[string][]string) (names []string, sizes []int64, err error)
}
