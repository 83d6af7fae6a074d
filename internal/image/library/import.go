package library

import (
	"context"
	"net/url"
	"os"

	"go.podman.io/common/libimage"
	"go.podman.io/common/pkg/download"

	"github.com/cove-engine/cove/internal/image"
)

// Import makes an image of one layer from a tarball at a path, a URL or "-"
// and gives its ID.
func (s *Store) Import(ctx context.Context, source string, o image.ImportOptions) (string, error) {
	const op = "import image"
	return bounded(ctx, s.opts.MaxHeap, op, source, func(ctx context.Context, _ refuse) (string, error) {
		return s.importFrom(ctx, op, source, o)
	})
}

func (s *Store) importFrom(ctx context.Context, op, source string, o image.ImportOptions) (string, error) {
	lib, err := s.writable()
	if err != nil {
		return "", err
	}
	tmp := lib.runtime.SystemContext().BigFilesTemporaryDir
	path := source
	if u, err := url.ParseRequestURI(source); err == nil && u.Scheme != "" {
		if path, err = download.FromURL(ctx, tmp, source, download.Options{}); err != nil {
			return "", fail(op, source, err)
		}
		defer os.Remove(path)
	} else if source == "-" {
		var remove func()
		if path, remove, err = spool(ctx, tmp, o.Stdin); err != nil {
			return "", fail(op, "from standard input", err)
		}
		defer remove()
	} else if _, err := os.Stat(source); err != nil {
		return "", fail(op, source, err)
	}
	opts := &libimage.ImportOptions{Changes: o.Changes, CommitMessage: o.Message, Tag: o.Reference, OS: o.OS, Arch: o.Arch}
	opts.Variant = o.Variant
	opts.SignaturePolicyPath, opts.Writer = o.SignaturePolicy, o.Progress
	var id string
	err = s.orClean(ctx, lib, nil, func(rt *libimage.Runtime) (err error) {
		id, err = rt.Import(ctx, path, opts)
		return err
	})
	if err != nil {
		return "", failContent(op, source, err)
	}
	return id[len("sha256:"):], nil
}
