// Package hello makes the image cove.local/hello out of a program that cove
// carries inside, so that a first container needs no registry.
package hello

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"io"
	"runtime"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/companion"
)

//go:embed files
var files embed.FS

// Name is the image's name.
const Name = "cove.local/hello:latest"

// Archive gives the image as a docker archive.
func Archive() ([]byte, error) {
	in, err := companion.Carried{Name: "hello", Files: files}.Open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	program, err := io.ReadAll(in)
	if err != nil {
		return nil, cove.E("make image", Name, cove.Internal, err)
	}
	return archive(program)
}

type file struct {
	name string
	mode int64
	data []byte
}

func archive(program []byte) ([]byte, error) {
	layer, err := pack([]file{{"hello", 0o755, program}})
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": time.Unix(0, 0).UTC(),
		"config":  map[string]any{"Cmd": []string{"/hello"}, "Env": []string{"PATH=/"}},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(layer)}},
		"history": []any{map[string]any{"created": time.Unix(0, 0).UTC(), "created_by": "cove"}},
	})
	if err != nil {
		return nil, err
	}
	configName, layerName := digest(config)+".json", digest(layer)+"/layer.tar"
	manifest, err := json.Marshal([]any{map[string]any{"Config": configName, "RepoTags": []string{Name}, "Layers": []string{layerName}}})
	if err != nil {
		return nil, err
	}
	return pack([]file{{configName, 0o644, config}, {layerName, 0o644, layer}, {"manifest.json", 0o644, manifest}})
}

func pack(files []file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: time.Unix(0, 0)}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
