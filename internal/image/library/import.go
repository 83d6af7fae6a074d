package library

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"

	"go.podman.io/common/libimage"

	"github.com/cove-engine/cove"
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
		var remove func()
		if path, remove, err = download(ctx, tmp, source); err != nil {
			return "", fail(op, source, err)
		}
		defer remove()
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

// download fetches a file into dir. The libraries' own takes a server's refusal for the
// file, and all that it sends.
func download(ctx context.Context, dir, source string) (path string, remove func(), err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, source, nil)
	if err != nil {
		return "", nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return "", nil, cove.E("", "", statusKind(res.StatusCode), fmt.Errorf("the server says %s", res.Status))
	}
	return spool(ctx, dir, &placed{Reader: res.Body, dir: dir, size: res.ContentLength})
}
