package library

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.podman.io/common/libimage"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/unnamed"
)

// Save writes images to an archive or directory. An archive appears whole or
// not at all.
func (s *Store) Save(ctx context.Context, names []string, o image.SaveOptions) (err error) {
	const op = "save image"
	if len(names) == 0 {
		return cove.E(op, "", cove.Invalid, errors.New("no image named"))
	}
	object := strings.Join(names, ", ")
	_, err = soon(ctx, op, object, func() (struct{}, error) { return struct{}{}, s.save(ctx, op, object, names, o) })
	return err
}

func (s *Store) save(ctx context.Context, op, object string, names []string, o image.SaveOptions) error {
	format := "docker-archive"
	set(&format, o.Format)
	archive := false
	switch format {
	case "docker-archive", "oci-archive":
		archive = true
	case "docker-dir", "oci-dir":
		if o.Output == "" {
			return cove.E(op, object, cove.Invalid, errors.New("a directory needs a path to be written to"))
		}
	default:
		return cove.E(op, o.Format, cove.Invalid, errors.New("unknown format: want docker-archive, oci-archive, docker-dir or oci-dir"))
	}
	if o.MultiImageArchive && format != "docker-archive" {
		return cove.E(op, format, cove.Invalid, errors.New("several images can be saved to a docker-archive only"))
	}
	if o.Compress && format != "docker-dir" {
		return cove.E(op, format, cove.Invalid, errors.New("layers can be compressed in docker-dir only"))
	}
	lib, err := s.library()
	if err != nil {
		return err
	}
	opts := &libimage.SaveOptions{CopyOptions: libimage.CopyOptions{
		DirForceCompress: o.Compress, OciAcceptUncompressedLayers: o.AcceptUncompressed,
		SignaturePolicyPath: o.SignaturePolicy, Writer: o.Progress,
	}}
	if !o.MultiImageArchive {
		opts.AdditionalTags, names = names[1:], names[:1]
	}
	if !archive {
		_, statErr := os.Lstat(o.Output)
		err := lib.runtime.Save(ctx, names, format, o.Output, opts)
		if err != nil && errors.Is(statErr, os.ErrNotExist) {
			err = errors.Join(err, os.RemoveAll(o.Output))
		}
		return fail(op, object, err)
	}
	return fail(op, object, saveArchive(ctx, lib, names, format, o, opts))
}

// saveArchive writes beside the output, or to a temporary file for a stream,
// then renames or copies.
func saveArchive(ctx context.Context, lib *library, names []string, format string, o image.SaveOptions, opts *libimage.SaveOptions) (err error) {
	parent := lib.runtime.SystemContext().BigFilesTemporaryDir
	if o.Output != "" {
		if fi, err := os.Stat(o.Output); err == nil && !fi.Mode().IsRegular() {
			f, err := os.OpenFile(o.Output, os.O_WRONLY, 0) // a pipe or device
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, f.Close()) }()
			o.Output, o.Writer = "", f
		} else {
			parent = filepath.Dir(o.Output)
		}
	}
	if parent == "" {
		parent = os.TempDir()
	}
	// The library resolves this format's path, and finds no name there.
	resolved := format == "oci-archive"
	f, err := unnamed.Create(parent, 0o644, resolved)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	path := f.Path()
	if resolved {
		path = f.Name()
	}
	if err := lib.runtime.Save(ctx, names, format, path, opts); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err // whoever asked for it may have been told so
	}
	if o.Output != "" {
		return f.Publish(o.Output)
	}
	_, err = io.Copy(o.Writer, f) // the library has written by a descriptor of its own
	return err
}
