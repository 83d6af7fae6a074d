package library

import (
	"context"
	"errors"
	"os"

	"go.podman.io/common/libimage"
	"go.podman.io/common/pkg/config"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/pkg/compression"

	ociv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
)

// formats are the manifest types behind the words of --format.
func manifestType(format string) (string, error) {
	switch format {
	case "":
		return "", nil
	case "oci":
		return ociv1.MediaTypeImageManifest, nil
	case "v2s2", "docker":
		return manifest.DockerV2Schema2MediaType, nil
	case "v2s1":
		return manifest.DockerV2Schema1SignedMediaType, nil
	}
	return "", cove.E("choose manifest format", format, cove.Invalid, errors.New("want oci, v2s2 or v2s1"))
}

// Push copies the image called source to destination, a reference with or
// without transport; "" is source. It gives the digest of the manifest
// pushed and writes it to DigestFile.
func (s *Store) Push(ctx context.Context, source, destination string, o image.PushOptions) (digest string, err error) {
	const op = "push image"
	if err := o.Complete(); err != nil {
		return "", cove.E(op, source, cove.Denied, err)
	}
	return bounded(ctx, s.opts.MaxHeap, op, source, func(ctx context.Context, _ refuse) (string, error) {
		return s.push(ctx, op, source, destination, o)
	})
}

func (s *Store) push(ctx context.Context, op, source, destination string, o image.PushOptions) (digest string, err error) {
	lib, err := s.library()
	if err != nil {
		return "", err
	}
	opts := &libimage.PushOptions{CopyOptions: copyOptions(o.Transfer)}
	// What is in the store has been let in, as podman sees it. (A save is policed.)
	opts.PolicyAllowStorage = true
	defer report(ctx, nil, o.Report, &opts.CopyOptions)()
	if opts.ManifestMIMEType, err = manifestType(o.Format); err != nil {
		return "", err
	}
	conf, err := config.Default()
	if err != nil {
		return "", cove.E(op, source, cove.Invalid, plain(err))
	}
	if o.Compression == "" {
		o.Compression = conf.Engine.CompressionFormat
	}
	if o.CompressionLevel == nil {
		o.CompressionLevel = conf.Engine.CompressionLevel
	}
	if o.Compression != "" {
		algo, err := compression.AlgorithmByName(o.Compression)
		if err != nil {
			return "", cove.E(op, source, cove.Invalid, err)
		}
		opts.CompressionFormat = &algo
	}
	opts.CompressionLevel, opts.ForceCompressionFormat = o.CompressionLevel, o.ForceCompression
	opts.RemoveSignatures, opts.SignBy, opts.SignPassphrase = o.RemoveSignatures, o.SignBy, o.SignPassphrase
	raw, err := lib.runtime.Push(ctx, source, destination, opts)
	if err != nil {
		return "", fail(op, source, err)
	}
	d, err := manifest.Digest(raw)
	if err != nil {
		return "", fail(op, source, err)
	}
	if o.DigestFile != "" {
		if err := os.WriteFile(o.DigestFile, []byte(d.String()), 0o644); err != nil {
			return d.String(), fail(op, source, err)
		}
	}
	return d.String(), nil
}
