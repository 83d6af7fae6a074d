package library

import (
	"io"

	"go.podman.io/image/v5/pkg/compression"

	"github.com/cove-engine/cove"
)

// Compress gives a stream that is written to w by algorithm.
func (s *Store) Compress(w io.Writer, algorithm string) (io.WriteCloser, error) {
	if algorithm == "none" {
		return unchanged{w}, nil
	}
	a, err := compression.AlgorithmByName(algorithm)
	if err != nil {
		return nil, cove.E("compress", algorithm, cove.Invalid, err)
	}
	z, err := compression.CompressStream(w, a, nil)
	if err != nil {
		return nil, cove.E("compress", algorithm, cove.Internal, err)
	}
	return z, nil
}

// Decompress reads a stream that may be compressed.
func (s *Store) Decompress(r io.Reader) (io.ReadCloser, error) {
	plain, _, err := compression.AutoDecompress(r)
	if err != nil {
		return nil, cove.E("decompress", "", cove.Invalid, err)
	}
	return plain, nil
}

type unchanged struct{ io.Writer }

func (unchanged) Close() error { return nil }
