package library

import (
	"context"
	"errors"
	"io"
	"runtime"
	"time"

	"github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/common/libimage"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"

	"github.com/cove-engine/cove"
)

// NormalizeName gives the whole name that a new image gets.
func (s *Store) NormalizeName(name string) (string, error) {
	ref, err := libimage.NormalizeName(name)
	if err != nil {
		return "", cove.E("name image", name, cove.Invalid, err)
	}
	return ref.String(), nil
}

// FromLayer makes an image of one layer, a tar stream.
func (s *Store) FromLayer(ctx context.Context, name string, layer io.Reader, annotations map[string]string) error {
	const op = "make image"
	name, err := s.NormalizeName(name)
	if err != nil {
		return err
	}
	_, err = s.fromLayout(ctx, op, name, nil, func(l layout) (object, error) {
		content, err := l.blob(v1.MediaTypeImageLayer, func(w io.Writer) error {
			_, err := io.Copy(w, layer)
			return err
		})
		if err != nil {
			return nil, err
		}
		now := time.Now().UTC()
		config, err := l.encoded(v1.MediaTypeImageConfig, object{
			"created": now, "architecture": runtime.GOARCH, "os": "linux", "config": object{},
			"rootfs":  object{"type": "layers", "diff_ids": []any{content["digest"]}},
			"history": []object{{"created": now}},
		})
		return object{
			"schemaVersion": 2, "mediaType": v1.MediaTypeImageManifest, "config": config, "layers": []object{content}, "annotations": annotations,
		}, err
	})
	return err
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
