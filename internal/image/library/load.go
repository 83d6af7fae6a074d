package library

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.podman.io/common/libimage"
	"go.podman.io/image/v5/pkg/compression"
	"go.podman.io/image/v5/transports/alltransports"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
)

// Load brings the images of an archive or directory into the store: a docker
// archive or OCI archive (compressed or not), an OCI layout or a directory of
// the dir transport. It gives their names, or "sha256:" and the ID of those
// that have none. On failure the store is as it was.
func (s *Store) Load(ctx context.Context, source string, o image.LoadOptions) ([]string, error) {
	const op = "load image"
	return bounded(ctx, s.opts.MaxHeap, op, source, func(ctx context.Context, _ refuse) ([]string, error) {
		ref, err := detect(source)
		if err != nil {
			return nil, failContent(op, source, err)
		}
		return s.load(ctx, op, source, ref, o)
	})
}

// LoadFrom is Load of an archive from a stream, which is kept in a temporary
// file meanwhile.
func (s *Store) LoadFrom(ctx context.Context, r io.Reader, o image.LoadOptions) ([]string, error) {
	const op = "load image"
	return bounded(ctx, s.opts.MaxHeap, op, "from standard input", func(ctx context.Context, _ refuse) ([]string, error) {
		return s.loadFrom(ctx, op, r, o)
	})
}

func (s *Store) loadFrom(ctx context.Context, op string, r io.Reader, o image.LoadOptions) ([]string, error) {
	lib, err := s.writable()
	if err != nil {
		return nil, err
	}
	path, remove, err := spool(ctx, lib.runtime.SystemContext().BigFilesTemporaryDir, r)
	if err != nil {
		return nil, fail(op, "", err)
	}
	defer remove()
	ref, err := detect(path)
	if err != nil {
		return nil, failContent(op, "from standard input", err)
	}
	return s.load(ctx, op, "from standard input", ref, o)
}

// LoadBuiltin loads a docker archive that travels inside the program and
// gives its image the name, whatever the signature policy says about
// archives: the program is trusted already.
func (s *Store) LoadBuiltin(ctx context.Context, name string, archive []byte) error {
	const op = "load built-in image"
	data, err := memory("image", archive)
	if err != nil {
		return fail(op, name, err)
	}
	defer data.Close()
	policy, err := acceptAnything()
	if err != nil {
		return fail(op, name, err)
	}
	defer policy.Close()
	names, err := s.load(ctx, op, name, "docker-archive:"+procPath(data), image.LoadOptions{SignaturePolicy: procPath(policy)})
	if err != nil {
		return err
	}
	if len(names) != 1 {
		return cove.E(op, name, cove.Invalid, fmt.Errorf("the archive holds %d images, want 1", len(names)))
	}
	if slices.Contains(names, name) {
		return nil
	}
	return s.Tag(names[0], name)
}

func (s *Store) load(ctx context.Context, op, object, reference string, o image.LoadOptions) ([]string, error) {
	ref, err := alltransports.ParseImageName(reference)
	if err != nil {
		return nil, cove.E(op, object, cove.Invalid, err)
	}
	lib, err := s.writable()
	if err != nil {
		return nil, err
	}
	opts := &libimage.LoadOptions{CopyOptions: libimage.CopyOptions{SignaturePolicyPath: o.SignaturePolicy, Writer: o.Progress}}
	var names []string
	err = s.orClean(ctx, lib, nil, func(rt *libimage.Runtime) (err error) {
		names, err = rt.LoadReference(ctx, ref, opts)
		return err
	})
	return names, failContent(op, object, err)
}

// detect tells by its files what a directory or archive is, and gives the
// reference that reads it. podman tries four readers in turn and reports four
// errors; this gives the error of the right one.
func detect(source string) (string, error) {
	fi, err := os.Stat(source)
	if err != nil {
		return "", err
	}
	abs, err := filepath.Abs(source)
	if err != nil {
		return "", err
	}
	if strings.ContainsRune(abs, ':') {
		return "", fmt.Errorf("a path with a colon cannot be loaded")
	}
	look := members
	if fi.IsDir() {
		look = files
	}
	found, err := look(abs, "manifest.json", "oci-layout")
	if err != nil {
		return "", err
	}
	has := func(name string) bool { return slices.Contains(found, name) }
	kind := ""
	switch {
	case fi.IsDir() && has("oci-layout"):
		kind = "oci:"
	case fi.IsDir() && has("manifest.json"):
		kind = "dir:"
	case has("manifest.json"): // docker 25 and later write both kinds at once; this one names all images
		kind = "docker-archive:"
	case has("oci-layout"):
		kind = "oci-archive:"
	default:
		return "", cove.E("", "", cove.Invalid, errors.New("neither a docker archive, an OCI archive, an OCI layout nor an image directory"))
	}
	return kind + abs, nil
}

// files lists those of the names wanted that are in a directory.
func files(dir string, wanted ...string) ([]string, error) {
	var names []string
	for _, n := range wanted {
		_, err := os.Lstat(filepath.Join(dir, n))
		if err == nil {
			names = append(names, n)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return names, nil
}

// members lists those of the names wanted that are at the top of a tar archive.
func members(path_ string, wanted ...string) ([]string, error) {
	f, err := os.Open(path_)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	if plain, compressed, err := compression.AutoDecompress(f); err != nil {
		return nil, err
	} else if compressed {
		defer plain.Close()
		r = plain
	} else if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	var names []string
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return names, nil
		}
		if err != nil {
			return nil, cove.E("", "", cove.Invalid, fmt.Errorf("not an image archive: %w", err))
		}
		if n := path.Clean(h.Name); slices.Contains(wanted, n) && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
}

// spool copies a stream to a temporary file. A reader that does not answer any
// more is left behind when ctx ends.
func spool(ctx context.Context, dir string, r io.Reader) (path string, remove func(), err error) {
	f, err := os.CreateTemp(dir, "cove-image-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { os.Remove(f.Name()) }
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(f, r)
		copied <- err
	}()
	select {
	case err = <-copied:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		remove()
		return "", nil, err
	}
	return f.Name(), remove, nil
}

// acceptAnything gives the signature policy for what we have made ourselves.
func acceptAnything() (*os.File, error) {
	return memory("policy", []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`))
}

// memory gives a file in memory.
func memory(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("cove-"+name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, &fs.PathError{Op: "memfd_create", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(data); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func procPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
