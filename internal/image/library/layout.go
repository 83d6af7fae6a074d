package library

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/cove-engine/cove/internal/image"
)

// object is a JSON object.
type object = map[string]any

// layout is the directory of an OCI image layout that is being written. Layers
// that the store has need not be in it.
type layout string

// fromLayout brings the image into the store whose manifest make gives, under
// the name or none, by way of an OCI layout in a temporary directory. It gives
// the name, or "sha256:" and the ID.
func (s *Store) fromLayout(ctx context.Context, op, name string, progress io.Writer, make func(layout) (manifest object, err error)) (string, error) {
	lib, err := s.library()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(lib.runtime.SystemContext().BigFilesTemporaryDir, "cove-image-")
	if err != nil {
		return "", fail(op, name, err)
	}
	defer os.RemoveAll(dir)
	l := layout(dir)
	err = os.MkdirAll(l.blobs(), 0o700)
	var manifest object
	if err == nil {
		manifest, err = make(l)
	}
	if err == nil {
		err = l.index(name, manifest)
	}
	if err != nil {
		return "", fail(op, name, err)
	}
	policy, err := acceptAnything()
	if err != nil {
		return "", fail(op, name, err)
	}
	defer policy.Close()
	reference := "oci:" + dir
	if name != "" {
		reference += ":" + name
	}
	names, err := s.load(ctx, op, name, reference, image.LoadOptions{SignaturePolicy: procPath(policy), Progress: progress})
	if err != nil {
		return "", err
	}
	return names[0], nil
}

func (l layout) blobs() string { return filepath.Join(string(l), v1.ImageBlobsDir, "sha256") }

// blob keeps what write writes and gives its descriptor.
func (l layout) blob(mediaType string, write func(io.Writer) error) (object, error) {
	f, err := os.CreateTemp(l.blobs(), "")
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	err = write(io.MultiWriter(f, sum))
	size, seekErr := f.Seek(0, io.SeekCurrent)
	text := hex.EncodeToString(sum.Sum(nil))
	err = errors.Join(err, seekErr, f.Close(), os.Rename(f.Name(), filepath.Join(l.blobs(), text)))
	return descriptor(mediaType, "sha256:"+text, size), err
}

func (l layout) encoded(mediaType string, v any) (object, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return l.blob(mediaType, func(w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(data))
		return err
	})
}

func descriptor(mediaType, digest string, size int64) object {
	return object{"mediaType": mediaType, "digest": digest, "size": size}
}

// index makes the manifest the layout's only one.
func (l layout) index(name string, manifest object) error {
	d, err := l.encoded(manifest["mediaType"].(string), manifest)
	if err != nil {
		return err
	}
	if name != "" {
		d["annotations"] = object{v1.AnnotationRefName: name}
	}
	for file, v := range map[string]object{
		v1.ImageLayoutFile: {"imageLayoutVersion": v1.ImageLayoutVersion},
		v1.ImageIndexFile:  {"schemaVersion": 2, "mediaType": v1.MediaTypeImageIndex, "manifests": []object{d}},
	} {
		data, err := json.Marshal(v)
		if err == nil {
			err = os.WriteFile(filepath.Join(string(l), file), data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
