package engine

import (
	"context"
	"io"
)

// PullImage brings an image into the store and gives the IDs of what name
// then stands for.
func (e *Engine) PullImage(ctx context.Context, name string, o PullOptions) ([]string, error) {
	return e.now().PullImage(ctx, name, o)
}

// PushImage copies an image to a registry or elsewhere and gives the digest of
// the manifest that it wrote. An empty destination is the image's own name.
func (e *Engine) PushImage(ctx context.Context, nameOrID, destination string, o PushOptions) (string, error) {
	return e.now().PushImage(ctx, nameOrID, destination, o)
}

// LoadImages reads an archive or directory, or in when path is empty, and
// gives names, or "sha256:" and the ID where there is none.
func (e *Engine) LoadImages(ctx context.Context, path string, in io.Reader, o LoadOptions) (names []string, err error) {
	return e.now().LoadImages(ctx, path, in, o)
}

// SaveImages writes images to an archive or directory.
func (e *Engine) SaveImages(ctx context.Context, nameOrIDs []string, o SaveOptions) error {
	return e.now().SaveImages(ctx, nameOrIDs, o)
}

// ImportImage makes an image of a tarball's files and gives its ID. The source
// is a path, a URL or "-", which reads o.Stdin.
func (e *Engine) ImportImage(ctx context.Context, source string, o ImportOptions) (string, error) {
	return e.now().ImportImage(ctx, source, o)
}

// Images lists images, with the number of containers of each.
func (e *Engine) Images(ctx context.Context, o ListImagesOptions) ([]ImageSummary, error) {
	g, err := e.opened()
	if err == nil && g.images == nil {
		err = errNoImages
	}
	if err != nil {
		return nil, err
	}
	return g.Images(ctx, o)
}

// ImageExists reports whether there is such a local image.
func (e *Engine) ImageExists(ctx context.Context, nameOrID string) (bool, error) {
	return e.now().ImageExists(ctx, nameOrID)
}

// InspectImage describes a local image.
func (e *Engine) InspectImage(ctx context.Context, nameOrID string) (*ImageData, error) {
	return e.now().InspectImage(ctx, nameOrID)
}

// ImageHistory tells how a local image was made, the newest step first.
func (e *Engine) ImageHistory(ctx context.Context, nameOrID string) ([]HistoryEntry, error) {
	return e.now().ImageHistory(ctx, nameOrID)
}

// TagImage gives an image further names.
func (e *Engine) TagImage(ctx context.Context, nameOrID string, names []string) error {
	return e.now().TagImage(ctx, nameOrID, names)
}

// UntagImage takes names away from an image, all of them when none is given.
func (e *Engine) UntagImage(ctx context.Context, nameOrID string, names []string) error {
	return e.now().UntagImage(ctx, nameOrID, names)
}

// RemoveImages removes images by name or ID. It says what it did also when
// some could not be removed; those errors are joined. With Force it removes,
// before, the containers that use an image which would be deleted.
func (e *Engine) RemoveImages(ctx context.Context, nameOrIDs []string, o RemoveImageOptions) ([]RemovedImage, error) {
	return e.now().RemoveImages(ctx, nameOrIDs, o)
}

// PruneImages removes unnamed images that no container uses, with all also
// named ones. Filters are key=value or key!=value.
func (e *Engine) PruneImages(ctx context.Context, all bool, filters []string) ([]RemovedImage, error) {
	return e.now().PruneImages(ctx, all, filters)
}

// Login checks credentials with a registry and keeps them.
func (e *Engine) Login(ctx context.Context, registry string, o LoginOptions) error {
	return e.now().Login(ctx, registry, o)
}

// Logout forgets a registry's credentials.
func (e *Engine) Logout(ctx context.Context, registry string, o LogoutOptions) error {
	return e.now().Logout(ctx, registry, o)
}
