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
	"runtime"
	"time"

	"github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/common/libimage"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
)

// NormalizeName gives the whole name that a new image gets.
func (s *Store) NormalizeName(name string) (string, error) {
	ref, err := libimage.NormalizeName(name)
	if err != nil {
		return "", cove.E("name image", name, cove.Invalid, err)
	}
	return ref.String(), nil
}

// FromLayer makes an image of one layer, a tar stream, by way of an OCI layout
// in a temporary directory.
func (s *Store) FromLayer(ctx context.Context, name string, layer io.Reader, annotations map[string]string) error {
	const op = "make image"
	name, err := s.NormalizeName(name)
	if err != nil {
		return err
	}
	lib, err := s.library()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(lib.runtime.SystemContext().BigFilesTemporaryDir, "cove-image-")
	if err != nil {
		return fail(op, name, err)
	}
	defer os.RemoveAll(dir)
	if err := writeLayout(dir, name, layer, annotations); err != nil {
		return fail(op, name, err)
	}
	policy, err := acceptAnything()
	if err != nil {
		return fail(op, name, err)
	}
	defer policy.Close()
	_, err = s.load(ctx, op, name, "oci:"+dir+":"+name, image.LoadOptions{SignaturePolicy: procPath(policy)})
	return err
}

func writeLayout(dir, name string, layer io.Reader, annotations map[string]string) error {
	blobs := filepath.Join(dir, v1.ImageBlobsDir, "sha256")
	if err := os.MkdirAll(blobs, 0o700); err != nil {
		return err
	}
	type object = map[string]any
	blob := func(mediaType string, content io.Reader) (object, error) {
		f, err := os.CreateTemp(blobs, "")
		if err != nil {
			return nil, err
		}
		sum := sha256.New()
		size, err := io.Copy(io.MultiWriter(f, sum), content)
		text := hex.EncodeToString(sum.Sum(nil))
		err = errors.Join(err, f.Close(), os.Rename(f.Name(), filepath.Join(blobs, text)))
		return object{"mediaType": mediaType, "digest": "sha256:" + text, "size": size}, err
	}
	encoded := func(mediaType string, v any) (object, error) {
		data, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		return blob(mediaType, bytes.NewReader(data))
	}
	content, err := blob(v1.MediaTypeImageLayer, layer)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	config, err := encoded(v1.MediaTypeImageConfig, object{
		"created": now, "architecture": runtime.GOARCH, "os": "linux", "config": object{},
		"rootfs":  object{"type": "layers", "diff_ids": []any{content["digest"]}},
		"history": []object{{"created": now}},
	})
	if err != nil {
		return err
	}
	manifest, err := encoded(v1.MediaTypeImageManifest, object{
		"schemaVersion": 2, "mediaType": v1.MediaTypeImageManifest, "config": config, "layers": []object{content}, "annotations": annotations,
	})
	if err != nil {
		return err
	}
	manifest["annotations"] = object{v1.AnnotationRefName: name}
	for file, v := range map[string]object{
		v1.ImageLayoutFile: {"imageLayoutVersion": v1.ImageLayoutVersion},
		v1.ImageIndexFile:  {"schemaVersion": 2, "mediaType": v1.MediaTypeImageIndex, "manifests": []object{manifest}},
	} {
		data, err := json.Marshal(v)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Layer gives the layer of an image that has no other, as a tar stream.
func (s *Store) Layer(nameOrID string) (io.ReadCloser, error) {
	const op = "read layer of image"
	lib, err := s.library()
	if err != nil {
		return nil, err
	}
	img, err := s.find(op, nameOrID)
	if err != nil {
		return nil, err
	}
	layer, err := lib.store.Layer(img.TopLayer())
	if err != nil {
		return nil, fail(op, nameOrID, err)
	}
	if layer.Parent != "" {
		return nil, cove.E(op, nameOrID, cove.Invalid, errors.New("it has several"))
	}
	plain := archive.Uncompressed
	r, err := lib.store.Diff("", layer.ID, &storage.DiffOptions{Compression: &plain})
	return r, fail(op, nameOrID, err)
}
