package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// writeLayout writes an image of several layers as an OCI image layout (the image
// specification's image-layout.md), and gives its ID: a copy of it can be killed
// between two.
func writeLayout(dir string) (image string, err error) {
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return "", err
	}
	type descriptor struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
		Size      int    `json:"size"`
	}
	const kind = "application/vnd.oci.image."
	blob := func(mediaType string, data []byte) (descriptor, error) {
		sum := fmt.Sprintf("%x", sha256.Sum256(data))
		return descriptor{kind + mediaType, "sha256:" + sum, len(data)}, os.WriteFile(filepath.Join(blobs, sum), data, 0o644)
	}
	var layers []descriptor
	var ids []string
	for n := range 4 {
		var layer bytes.Buffer
		w := tar.NewWriter(&layer)
		content := bytes.Repeat([]byte{byte('a' + n)}, 100_000)
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("file%d", n), Mode: 0o644, Size: int64(len(content))}); err != nil {
			return "", err
		}
		if _, err := w.Write(content); err != nil {
			return "", err
		}
		if err := w.Close(); err != nil {
			return "", err
		}
		d, err := blob("layer.v1.tar", layer.Bytes())
		if err != nil {
			return "", err
		}
		layers, ids = append(layers, d), append(ids, d.Digest)
	}
	config, err := json.Marshal(map[string]any{"architecture": runtime.GOARCH, "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": ids}})
	if err != nil {
		return "", err
	}
	c, err := blob("config.v1+json", config)
	if err != nil {
		return "", err
	}
	manifest, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": kind + "manifest.v1+json", "config": c, "layers": layers})
	if err != nil {
		return "", err
	}
	m, err := blob("manifest.v1+json", manifest)
	if err != nil {
		return "", err
	}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{m}})
	if err != nil {
		return "", err
	}
	for name, text := range map[string][]byte{"index.json": index, "oci-layout": []byte(`{"imageLayoutVersion": "1.0.0"}`)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return "", err
		}
	}
	return strings.TrimPrefix(c.Digest, "sha256:"), nil
}
