package library_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/imagetest"
)

type object = map[string]any

// layout is an OCI layout that is changed by hand.
type layout struct {
	t   *testing.T
	dir string
}

func newLayout(t *testing.T) layout {
	dir := t.TempDir()
	imagetest.OCILayout(t, dir, imagetest.Image{Name: "x:1", Layers: [][]byte{
		imagetest.Layer(t, imagetest.Files{"ok": "ok"}), imagetest.Layer(t, imagetest.Files{"more": strings.Repeat("more ", 1000)})}})
	return layout{t, dir}
}

func (l layout) blob(digest string) string {
	return filepath.Join(l.dir, "blobs/sha256", strings.TrimPrefix(digest, "sha256:"))
}

// put writes a blob and gives the entries of its descriptor.
func (l layout) put(descriptor object, body []byte) {
	sum := sha256.Sum256(body)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	must(l.t, os.WriteFile(l.blob(digest), body, 0o600))
	descriptor["digest"], descriptor["size"] = digest, len(body)
}

func (l layout) read(path string) object {
	data, err := os.ReadFile(path)
	must(l.t, err)
	var o object
	must(l.t, json.Unmarshal(data, &o))
	return o
}

func (l layout) marshal(v any) []byte {
	data, err := json.Marshal(v)
	must(l.t, err)
	return data
}

// change changes the manifest and the configuration.
func (l layout) change(f func(manifest, config object, last object)) {
	index := l.read(filepath.Join(l.dir, "index.json"))
	entry := index["manifests"].([]any)[0].(object)
	manifest := l.read(l.blob(entry["digest"].(string)))
	place := manifest["config"].(object)
	config := l.read(l.blob(place["digest"].(string)))
	layers := manifest["layers"].([]any)
	f(manifest, config, layers[len(layers)-1].(object))
	l.put(place, l.marshal(config))
	l.put(entry, l.marshal(manifest))
	must(l.t, os.WriteFile(filepath.Join(l.dir, "index.json"), l.marshal(index), 0o600))
}

// compressed is a layer as zstd has it.
func compressed(t *testing.T, p place, layer []byte) []byte {
	var b bytes.Buffer
	w, err := p.Compress(&b, "zstd")
	must(t, err)
	_, err = w.Write(layer)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

const (
	ociLayer  = "application/vnd.oci.image.layer.v1.tar"
	ociRemote = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
)

// Manifests and configurations that lie, or have no end.
func TestHostileManifests(t *testing.T) {
	big := strings.Repeat("x", 5<<20)
	noise := make([]byte, 5000)
	rand.Read(noise)
	for name, c := range map[string]struct {
		change func(l layout, p place, manifest, config, last object)
		kind   cove.Kind // Internal for none
	}{
		"large manifest": {func(_ layout, _ place, manifest, _, _ object) { manifest["annotations"] = object{"a": big} }, cove.Invalid},
		"large configuration": {func(_ layout, _ place, _, config, _ object) {
			config["config"].(object)["Labels"] = object{"a": big}
		}, cove.Invalid},
		"command as a text": {func(_ layout, _ place, _, config, _ object) { config["config"].(object)["Cmd"] = "true" }, cove.Invalid},
		"diff ID as a path": {func(_ layout, _ place, _, config, _ object) {
			config["rootfs"].(object)["diff_ids"].([]any)[1] = "../../../x"
		}, cove.Invalid},
		"too few diff IDs": {func(_ layout, _ place, _, config, _ object) {
			config["rootfs"].(object)["diff_ids"] = config["rootfs"].(object)["diff_ids"].([]any)[:1]
		}, cove.Invalid},
		"digest as a path": {func(_ layout, _ place, _, _, last object) { last["digest"] = "sha256:../../../etc/passwd" }, cove.Invalid},
		// Of what has the right digest the library believes neither.
		"another size":      {func(_ layout, _ place, _, _, last object) { last["size"] = 5 }, cove.Internal},
		"a page as a layer": {func(_ layout, _ place, _, _, last object) { last["mediaType"] = "text/html" }, cove.Internal},
		"encrypted": {func(l layout, _ place, _, _, last object) {
			l.put(last, noise)
			last["mediaType"] = ociLayer + "+gzip+encrypted"
		}, cove.Invalid},
		"foreign, from nowhere": {func(l layout, _ place, _, _, last object) {
			must(l.t, os.Remove(l.blob(last["digest"].(string))))
			last["mediaType"], last["urls"] = ociRemote, []string{"file:///etc/passwd", "http://127.0.0.1:1/x"}
		}, cove.Invalid},
		"zstd": {func(l layout, p place, _, config, last object) {
			l.put(last, compressed(l.t, p, imagetest.Layer(l.t, imagetest.Files{"more": strings.Repeat("more ", 1000)})))
			last["mediaType"] = ociLayer + "+zstd"
		}, cove.Internal},
		"truncated zstd": {func(l layout, p place, _, _, last object) {
			whole := compressed(l.t, p, imagetest.Layer(l.t, imagetest.Files{"more": strings.Repeat("more ", 1000)}))
			l.put(last, whole[:len(whole)-20])
			last["mediaType"] = ociLayer + "+zstd"
		}, cove.Invalid},
		// Where a zstd:chunked layer's table of contents is said to be is looked
		// at where parts of layers are fetched alone; here it is a layer like any.
		"zstd:chunked beyond its end": {func(l layout, p place, _, _, last object) {
			l.put(last, compressed(l.t, p, imagetest.Layer(l.t, imagetest.Files{"more": strings.Repeat("more ", 1000)})))
			last["mediaType"], last["annotations"] = ociLayer+"+zstd", object{
				"io.github.containers.zstd-chunked.manifest-position": "99999999999:9999999999999:9999999999999:1",
				"io.github.containers.zstd-chunked.manifest-checksum": "sha256:" + strings.Repeat("0", 64),
			}
		}, cove.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			p, l := newPlace(t), newLayout(t)
			l.change(func(manifest, config, last object) { c.change(l, p, manifest, config, last) })
			_, err := p.Load(context.Background(), l.dir, image.LoadOptions{})
			t.Log(err)
			if c.kind == cove.Internal {
				must(t, err)
				return
			}
			refusedAs(t, p, err, c.kind)
		})
	}
}

// refusedAs is about an error of one line after which nothing is left.
func refusedAs(t *testing.T, p place, err error, kind cove.Kind) {
	t.Helper()
	wantKind(t, err, kind)
	if err != nil && strings.Contains(err.Error(), "\n") {
		t.Error("more than one line")
	}
	_, _ = p.LayerIDs() // opens the store if the refusal came before
	p.empty(t)
}

// What names files of docker's archives names those of the archive.
func TestHostileArchives(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	layer := imagetest.Layer(t, imagetest.Files{"ok": "ok"})
	must(t, os.WriteFile(secret, layer, 0o600)) // it would pass for the layer
	up := "../../../../../../../../.." + secret
	sum := sha256.Sum256(layer)
	config, err := json.Marshal(object{"architecture": "amd64", "os": "linux", "config": object{},
		"rootfs": object{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}}})
	must(t, err)
	link := func(kind byte, to string) *tar.Header { return &tar.Header{Name: "l", Typeflag: kind, Linkname: to} }
	for name, c := range map[string]struct {
		layer  string // its name in the manifest
		as     *tar.Header
		tag    string
		refuse bool
	}{
		"as it should be":             {"l", nil, "x:1", false},
		"above, and there it is":      {"../../l", &tar.Header{Name: "../../l", Typeflag: tar.TypeReg}, "x:1", false},
		"of the host's":               {secret, nil, "x:1", true},
		"above":                       {up, nil, "x:1", true},
		"a symlink to the host":       {"l", link(tar.TypeSymlink, secret), "x:1", true},
		"a symlink above":             {"l", link(tar.TypeSymlink, up), "x:1", true},
		"a hard link to the host":     {"l", link(tar.TypeLink, secret), "x:1", true},
		"a symlink to itself":         {"l", link(tar.TypeSymlink, "l"), "x:1", true},
		"a FIFO":                      {"l", link(tar.TypeFifo, ""), "x:1", true},
		"a tag that is a path":        {"l", nil, "../../etc:x", true},
		"a tag that clears terminals": {"l", nil, "a\x1b[2J\n:1", true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			manifest, err := json.Marshal([]object{{"Config": "c.json", "RepoTags": []string{c.tag}, "Layers": []string{c.layer}}})
			must(t, err)
			h := c.as
			if h == nil {
				h = &tar.Header{Name: "l", Typeflag: tar.TypeReg}
			}
			body := layer
			if h.Typeflag != tar.TypeReg {
				body = nil
			}
			h.Size = int64(len(body))
			file := filepath.Join(t.TempDir(), "a.tar")
			must(t, os.WriteFile(file, imagetest.Tar(t, []*tar.Header{
				{Name: "manifest.json", Typeflag: tar.TypeReg, Size: int64(len(manifest))},
				{Name: "c.json", Typeflag: tar.TypeReg, Size: int64(len(config))}, h,
			}, [][]byte{manifest, config, body}), 0o600))
			_, err = p.Load(context.Background(), file, image.LoadOptions{})
			t.Log(err)
			if !c.refuse {
				must(t, err)
				return
			}
			if err == nil {
				t.Error("loaded")
			}
			if k := cove.KindOf(err); k != cove.Invalid && k != cove.NoFile {
				t.Errorf("kind %d", k)
			}
			refusedAs(t, p, err, cove.KindOf(err))
			if err != nil && strings.Contains(err.Error(), "\x1b") {
				t.Errorf("%q", err)
			}
		})
	}
}
