// Package imagetest makes small images for tests out of maps of files: as
// docker archives and OCI layouts, well-formed or deliberately broken.
package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// Files are the contents of a layer: path to text. A path that ends in "/"
// is a directory; a text that begins with "-> " makes a symbolic link; every
// file below bin/, sbin/ or usr/bin/ is executable.
type Files map[string]string

// Image describes an image to be made.
type Image struct {
	Name         string // reference for RepoTags, or the OCI layout's ref name; may be empty
	Layers       [][]byte
	Env          []string
	Entrypoint   []string
	Cmd          []string
	User         string
	WorkDir      string
	Volumes      []string
	Ports        []string
	Labels       map[string]string
	StopSignal   string
	OS           string // "" is linux
	Architecture string // "" is this machine's
	// Healthcheck is the docker form, as raw JSON.
	Healthcheck json.RawMessage
}

// Layer makes an uncompressed layer from files; the result depends only on
// them.
func Layer(t testing.TB, files Files) []byte {
	t.Helper()
	var entries []*tar.Header
	var bodies [][]byte
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := files[name]
		h := &tar.Header{Name: name, Mode: 0o644, Typeflag: tar.TypeReg}
		switch link, isLink := strings.CutPrefix(text, "-> "); {
		case strings.HasSuffix(name, "/"):
			h.Typeflag, h.Mode, text = tar.TypeDir, 0o755, ""
		case isLink:
			h.Typeflag, h.Linkname, text = tar.TypeSymlink, link, ""
		case strings.HasPrefix(name, "bin/"), strings.HasPrefix(name, "sbin/"), strings.HasPrefix(name, "usr/bin/"):
			h.Mode = 0o755
		}
		h.Size = int64(len(text))
		entries, bodies = append(entries, h), append(bodies, []byte(text))
	}
	return Tar(t, entries, bodies)
}

// Tar makes an archive of the given entries as they are; bodies may be
// shorter than entries.
func Tar(t testing.TB, entries []*tar.Header, bodies [][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, h := range entries {
		h.ModTime = time.Unix(1700000000, 0)
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if i < len(bodies) {
			if _, err := w.Write(bodies[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Busybox gives the files of a minimal system around the static
// /bin/busybox; the test is skipped where that is missing.
func Busybox(t testing.TB) Files {
	t.Helper()
	bin, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs the static /bin/busybox (Debian: busybox-static): ", err)
	}
	files := Files{
		"bin/": "", "etc/": "", "tmp/": "", "root/": "", "proc/": "", "sys/": "", "dev/": "",
		"bin/busybox": string(bin),
		"etc/passwd":  "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
		"etc/group":   "root:x:0:\nnogroup:x:65534:\n",
	}
	for _, applet := range strings.Fields("sh true false sleep echo cat ls id ps kill env pwd hostname mount umount " +
		"touch mkdir rm wc grep head tail sort date uname test stat dd nc wget ip ping printf seq sync trap su chmod chown df tty stty") {
		files["bin/"+applet] = "-> busybox"
	}
	return files
}

type configFile struct {
	Created      time.Time      `json:"created"`
	OS           string         `json:"os"`
	Architecture string         `json:"architecture"`
	Config       map[string]any `json:"config"`
	RootFS       struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	History []map[string]any `json:"history"`
}

func (i Image) config(t testing.TB) []byte {
	t.Helper()
	c := configFile{Created: time.Unix(1700000000, 0).UTC(), OS: i.OS, Architecture: i.Architecture, Config: map[string]any{}}
	if c.OS == "" {
		c.OS = "linux"
	}
	if c.Architecture == "" {
		c.Architecture = runtime.GOARCH
	}
	put := func(key string, v any, set bool) {
		if set {
			c.Config[key] = v
		}
	}
	put("Env", i.Env, i.Env != nil)
	put("Entrypoint", i.Entrypoint, i.Entrypoint != nil)
	put("Cmd", i.Cmd, i.Cmd != nil)
	put("User", i.User, i.User != "")
	put("WorkingDir", i.WorkDir, i.WorkDir != "")
	put("Labels", i.Labels, i.Labels != nil)
	put("StopSignal", i.StopSignal, i.StopSignal != "")
	put("Healthcheck", i.Healthcheck, i.Healthcheck != nil)
	put("Volumes", set(i.Volumes), i.Volumes != nil)
	put("ExposedPorts", set(i.Ports), i.Ports != nil)
	c.RootFS.Type = "layers"
	c.RootFS.DiffIDs = []string{}
	for n, l := range i.Layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest(l))
		c.History = append(c.History, map[string]any{"created": c.Created, "created_by": fmt.Sprintf("layer %d", n)})
	}
	return marshal(t, c)
}

func set(names []string) map[string]struct{} {
	m := map[string]struct{}{}
	for _, n := range names {
		m[n] = struct{}{}
	}
	return m
}

// ID gives the image's ID in a store: the digest of its configuration.
func (i Image) ID(t testing.TB) string {
	return strings.TrimPrefix(digest(i.config(t)), "sha256:")
}

// DockerArchive makes the archive that `docker save` would write.
func DockerArchive(t testing.TB, images ...Image) []byte {
	t.Helper()
	var entries []*tar.Header
	var bodies [][]byte
	seen := map[string]bool{}
	add := func(name string, body []byte) {
		if !seen[name] {
			seen[name] = true
			entries = append(entries, &tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), Typeflag: tar.TypeReg})
			bodies = append(bodies, body)
		}
	}
	type item struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var items []item
	for _, i := range images {
		config := i.config(t)
		it := item{Config: strings.TrimPrefix(digest(config), "sha256:") + ".json"}
		if i.Name != "" {
			it.RepoTags = []string{i.Name}
		}
		add(it.Config, config)
		for _, l := range i.Layers {
			name := strings.TrimPrefix(digest(l), "sha256:") + ".tar"
			add(name, l)
			it.Layers = append(it.Layers, name)
		}
		items = append(items, it)
	}
	add("manifest.json", marshal(t, items))
	return Tar(t, entries, bodies)
}

// OCILayout writes an OCI layout with gzipped layers into dir and gives the
// paths of the layers' blobs, lowest first, so that a test can damage them.
func OCILayout(t testing.TB, dir string, i Image) (blobs []string) {
	t.Helper()
	type descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int               `json:"size"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	blobDir := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobDir, 0o755); err != nil {
		t.Fatal(err)
	}
	put := func(kind string, body []byte) (descriptor, string) {
		d := digest(body)
		path := filepath.Join(blobDir, strings.TrimPrefix(d, "sha256:"))
		write(t, path, body)
		return descriptor{MediaType: kind, Digest: d, Size: len(body)}, path
	}
	config, _ := put("application/vnd.oci.image.config.v1+json", i.config(t))
	manifest := struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        descriptor   `json:"config"`
		Layers        []descriptor `json:"layers"`
	}{2, "application/vnd.oci.image.manifest.v1+json", config, []descriptor{}}
	for _, l := range i.Layers {
		d, path := put("application/vnd.oci.image.layer.v1.tar+gzip", Gzip(t, l))
		manifest.Layers = append(manifest.Layers, d)
		blobs = append(blobs, path)
	}
	m, _ := put(manifest.MediaType, marshal(t, manifest))
	if i.Name != "" {
		m.Annotations = map[string]string{"org.opencontainers.image.ref.name": i.Name}
	}
	write(t, filepath.Join(dir, "index.json"), marshal(t, map[string]any{"schemaVersion": 2, "manifests": []descriptor{m}}))
	write(t, filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`))
	return blobs
}

// Gzip compresses data.
func Gzip(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
