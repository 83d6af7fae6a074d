package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// busybox is Debian's busybox-static.
const busybox = "/bin/busybox"

// config is what engines read of an image's configuration.
func config(diffIDs []string) ([]byte, error) {
	return json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": "2020-01-01T00:00:00Z",
		"config": map[string]any{"Cmd": []string{"sh"}, "Env": []string{"PATH=/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
}

// writeArchive writes the image that every row uses as a docker archive.
func writeArchive(path string) error {
	program, err := os.ReadFile(busybox)
	if err != nil {
		return fmt.Errorf("needs busybox-static: %w", err)
	}
	var layer bytes.Buffer
	t := tar.NewWriter(&layer)
	for _, dir := range []string{"bin/", "etc/", "proc/", "sys/", "dev/", "tmp/"} {
		if err := t.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
			return err
		}
	}
	if err := add(t, "bin/busybox", program); err != nil {
		return err
	}
	for _, name := range []string{"sh", "true", "sleep"} {
		if err := t.WriteHeader(&tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox"}); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	conf, err := config([]string{digest(layer.Bytes())})
	if err != nil {
		return err
	}
	name := digest(conf)[len("sha256:"):] + ".json"
	index, err := json.Marshal([]map[string]any{{"Config": name, "RepoTags": []string{imageName}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	t = tar.NewWriter(f)
	for _, file := range []struct {
		name string
		data []byte
	}{{"manifest.json", index}, {name, conf}, {"layer.tar", layer.Bytes()}} {
		if err := add(t, file.name, file.data); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return f.Close()
}

func add(t *tar.Writer, name string, data []byte) error {
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := t.Write(data)
	return err
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// registryAddr is the registry's address in each house.
const (
	registryAddr = "127.0.0.1:5000"
	pulledName   = registryAddr + "/bench:latest"
)

const manifestType = "application/vnd.docker.distribution.manifest.v2+json"

// writeRegistry writes, in a registry's storage format, an image of layers
// that no compression makes smaller.
func writeRegistry(root string, layers, bytesPerLayer int) error {
	base := filepath.Join(root, "docker/registry/v2")
	repo := filepath.Join(base, "repositories/bench")
	put := func(path string, data []byte) error {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return os.WriteFile(path, data, 0o644)
	}
	blob := func(data []byte, link string) (string, error) {
		d := digest(data)
		hash := d[len("sha256:"):]
		if err := put(filepath.Join(base, "blobs/sha256", hash[:2], hash, "data"), data); err != nil {
			return "", err
		}
		return d, put(filepath.Join(repo, link, "sha256", hash, "link"), []byte(d))
	}
	type descriptor struct {
		MediaType string `json:"mediaType"`
		Size      int    `json:"size"`
		Digest    string `json:"digest"`
	}
	var diffIDs []string
	var list []descriptor
	source := rand.NewChaCha8([32]byte{'b', 'e', 'n', 'c', 'h'})
	for i := range layers {
		var plain, packed bytes.Buffer
		t := tar.NewWriter(&plain)
		const files = 16
		for j := range files {
			data := make([]byte, bytesPerLayer/files)
			_, _ = source.Read(data) // never fails
			if err := add(t, fmt.Sprintf("data/%d/%d", i, j), data); err != nil {
				return err
			}
		}
		if err := t.Close(); err != nil {
			return err
		}
		diffIDs = append(diffIDs, digest(plain.Bytes()))
		z := gzip.NewWriter(&packed)
		if _, err := io.Copy(z, &plain); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		d, err := blob(packed.Bytes(), "_layers")
		if err != nil {
			return err
		}
		list = append(list, descriptor{"application/vnd.docker.image.rootfs.diff.tar.gzip", packed.Len(), d})
	}
	conf, err := config(diffIDs)
	if err != nil {
		return err
	}
	d, err := blob(conf, "_layers")
	if err != nil {
		return err
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": manifestType,
		"config": descriptor{"application/vnd.docker.container.image.v1+json", len(conf), d}, "layers": list,
	})
	if err != nil {
		return err
	}
	if d, err = blob(manifest, "_manifests/revisions"); err != nil {
		return err
	}
	tag := filepath.Join(repo, "_manifests/tags/latest")
	if err := put(filepath.Join(tag, "index/sha256", d[len("sha256:"):], "link"), []byte(d)); err != nil {
		return err
	}
	return put(filepath.Join(tag, "current/link"), []byte(d))
}

// serve runs a registry on the loopback of h's network: outside of its
// cgroups, so that its work is not counted.
func (b *bench) serve(h *house, storage string) error {
	conf := filepath.Join(b.work, "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n", storage, registryAddr)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return err
	}
	cmd := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", h.pid), "docker-registry", "serve", conf)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	b.serving = append(b.serving, cmd)
	_, err := h.ask(request{Dial: [2]string{"tcp", registryAddr}, Limit: 20 * time.Second})
	return err
}

func (b *bench) stopServing() error {
	for _, cmd := range b.serving {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}
	b.serving = nil
	return nil
}
