package cli

import (
	"context"
	"io"

	"github.com/cove-engine/cove/internal/image"
)

// ImageEngine is the image verbs. A nameOrID is a name, with or without
// registry, tag or digest, a full ID or an unambiguous beginning of one. The
// options are the image room's; where they hold the containers that use an
// image, the engine fills them in.
type ImageEngine interface {
	// NeedImages must be called before a command reads input or asks
	// questions that an image verb will need: the program may be replaced
	// by the full one here, and the command begun anew.
	NeedImages() error

	Images(ctx context.Context, o image.ListOptions) ([]image.Summary, error)
	ImageExists(ctx context.Context, nameOrID string) (bool, error)
	InspectImage(ctx context.Context, nameOrID string) (*image.ImageData, error)
	// ImageHistory gives the steps, the newest first.
	ImageHistory(ctx context.Context, nameOrID string) ([]image.HistoryEntry, error)

	// PullImage gives the IDs of what it pulled.
	PullImage(ctx context.Context, name string, o image.PullOptions) ([]string, error)
	// PushImage gives the digest of the manifest that it wrote. An empty
	// destination is the image's own name.
	PushImage(ctx context.Context, nameOrID, destination string, o image.PushOptions) (string, error)
	// LoadImages reads an archive or directory, or in when path is empty,
	// and gives names, or "sha256:" and the ID where there is none.
	LoadImages(ctx context.Context, path string, in io.Reader, o image.LoadOptions) ([]string, error)
	SaveImages(ctx context.Context, nameOrIDs []string, o image.SaveOptions) error
	// ImportImage gives the new image's ID. The source is a path, a URL or
	// "-", which reads o.Stdin.
	ImportImage(ctx context.Context, source string, o image.ImportOptions) (string, error)

	TagImage(ctx context.Context, nameOrID string, names []string) error
	// UntagImage takes names away, all of them when none is given.
	UntagImage(ctx context.Context, nameOrID string, names []string) error
	// RemoveImages says what it did also when some could not be removed;
	// those errors are joined. With Force it removes, before, the
	// containers that use an image.
	RemoveImages(ctx context.Context, nameOrIDs []string, o image.RemoveOptions) ([]image.RemoveReport, error)
	// PruneImages removes unnamed images that no container uses, with all
	// also named ones. Filters are key=value or key!=value.
	PruneImages(ctx context.Context, all bool, filters []string) ([]image.RemoveReport, error)
}

// imageEngine opens the engine for a command about images.
func (a *app) imageEngine() (Engine, error) {
	eng, err := a.engine()
	if err != nil {
		return nil, err
	}
	return eng, eng.NeedImages()
}
