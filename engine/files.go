package engine

import (
	"context"
	"io"
	"io/fs"
)

// StatPath looks at a path inside a container, stopped or not, without
// following a final symbolic link; its target is the second result. A
// relative path is the container's working directory's.
func (e *Engine) StatPath(ctx context.Context, nameOrID, name string) (fs.FileInfo, string, error) {
	return e.now().StatPath(ctx, nameOrID, name)
}

// CopyFrom gives path as a tar stream whose first entry is path's last
// element; a final link is followed, as podman does. The container's lock is
// not held while the stream is read. The caller closes it, which frees
// whatever was mounted.
func (e *Engine) CopyFrom(ctx context.Context, nameOrID, name string) (io.ReadCloser, error) {
	return e.now().CopyFrom(ctx, nameOrID, name)
}

// CopyTo unpacks a tar stream into the directory dir. With keepOwner the
// stream's owners stay, else the container's user owns all; with overwrite a
// directory may replace a file and the reverse. The stream is read to its end
// first, so that the container is not locked while its sender is waited for.
func (e *Engine) CopyTo(ctx context.Context, nameOrID, dir string, stream io.Reader, keepOwner, overwrite bool) error {
	return e.now().CopyTo(ctx, nameOrID, dir, stream, keepOwner, overwrite)
}

// Export writes the container's root file system as a tar stream: its image
// and what it has changed, without what is mounted in it. The container's
// lock is not held while w is written to.
func (e *Engine) Export(ctx context.Context, nameOrID string, w io.Writer) error {
	return e.now().Export(ctx, nameOrID, w)
}
