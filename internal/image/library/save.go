package library

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"go.podman.io/common/libimage"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
)

// Save writes images to an archive or directory. An archive appears whole or
// not at all.
func (s *Store) Save(ctx context.Context, names []string, o image.SaveOptions) (err error) {
	const op = "save image"
	if len(names) == 0 {
		return cove.E(op, "", cove.Invalid, errors.New("no image named"))
	}
	object := strings.Join(names, ", ")
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
		SignaturePolicyPath: o.SignaturePolicy, Writer: o.Progress, PolicyAllowStorage: true,
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
	f, publish, err := unnamed(parent, format)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if strings.HasPrefix(filepath.Base(f.Name()), ".cove-save-") {
			_ = os.Remove(f.Name()) // unless it has been renamed
		}
	}()
	path := procPath(f)
	if format == "oci-archive" {
		path = f.Name()
	}
	if err := lib.runtime.Save(ctx, names, format, path, opts); err != nil {
		return err
	}
	if o.Output != "" {
		return publish(o.Output)
	}
	_, err = io.Copy(o.Writer, f) // the library has written by a descriptor of its own
	return err
}

// unnamed makes a file without a name, so that nothing is left of what is
// killed in the middle; with one for the time being where the file system
// cannot, or the library wants one. publish gives it its name, in place of
// whatever has that.
func unnamed(dir, format string) (f *os.File, publish func(string) error, err error) {
	if dir == "" {
		dir = os.TempDir()
	}
	err = unix.EOPNOTSUPP
	if format != "oci-archive" {
		f, err = os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o644)
	}
	if err != nil {
		name := filepath.Join(dir, fmt.Sprintf(".cove-save-%x", rand.Uint64()))
		if f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
			return nil, nil, err
		}
		return f, func(path string) error { return os.Rename(name, path) }, nil
	}
	link := func(path string) error {
		return unix.Linkat(unix.AT_FDCWD, procPath(f), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	}
	return f, func(path string) error {
		err := link(path)
		if err == unix.EEXIST {
			next := fmt.Sprintf("%s.%d", path, os.Getpid())
			if err = link(next); err == nil {
				err = os.Rename(next, path)
			}
		}
		return err
	}, nil
}
