package library

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/common/libimage"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/storage"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
)

// Commit makes an image of a container and gives its ID.
func (s *Store) Commit(ctx context.Context, o image.CommitOptions, layer func(io.Writer) error) (string, error) {
	const op = "commit container to image"
	if o.Name != "" {
		var err error
		if o.Name, err = s.NormalizeName(o.Name); err != nil {
			return "", err
		}
	}
	changes, err := libimage.ImageConfigFromChanges(o.Changes)
	if err != nil {
		return "", cove.E(op, o.Name, cove.Invalid, err)
	}
	base, err := s.base(ctx, o.Config.ID)
	if err != nil {
		return "", fail(op, o.Name, err)
	}
	name, err := s.fromLayout(ctx, op, o.Name, o.Progress, func(l layout) (object, error) { return base.commit(l, &o, changes, layer) })
	if err != nil {
		return "", err
	}
	img, err := s.find(op, name)
	if err != nil {
		return "", err
	}
	return img.ID(), nil
}

// committed is the image that a container was made from: what its configuration
// says, whatever that is, and its layers, the lowest first.
type committed struct {
	about  object
	config manifest.Schema2Config
	layers []*storage.Layer
}

func (s *Store) base(ctx context.Context, id string) (*committed, error) {
	lib, err := s.library()
	if err != nil {
		return nil, err
	}
	img, _, err := lib.lookup(id, "")
	if err != nil {
		return nil, err
	}
	ref, err := img.StorageReference()
	if err != nil {
		return nil, err
	}
	of, err := ref.NewImage(ctx, lib.runtime.SystemContext())
	if err != nil {
		return nil, err
	}
	defer of.Close()
	data, err := of.ConfigBlob(ctx)
	if err != nil {
		return nil, err
	}
	b := &committed{}
	run := struct{ Config *manifest.Schema2Config }{&b.config}
	if err := errors.Join(json.Unmarshal(data, &b.about), json.Unmarshal(data, &run)); err != nil {
		return nil, err
	}
	for id := img.TopLayer(); id != ""; {
		layer, err := lib.store.Layer(id)
		if err != nil {
			return nil, err
		}
		if layer.UncompressedDigest == "" {
			return nil, cove.E("", "", cove.Unsupported, fmt.Errorf("the store does not tell the digest of the layer %s, which was pulled in parts: pull the image %s anew", id, img.ID()))
		}
		b.layers, id = append(b.layers, layer), layer.Parent
	}
	slices.Reverse(b.layers)
	return b, nil
}

// commit writes the new image to l and gives its manifest.
func (b *committed) commit(l layout, o *image.CommitOptions, changes *libimage.ImageConfig, layer func(io.Writer) error) (object, error) {
	ofManifest, ofConfig, ofLayer := v1.MediaTypeImageManifest, v1.MediaTypeImageConfig, v1.MediaTypeImageLayer
	if o.Docker {
		ofManifest, ofConfig, ofLayer = manifest.DockerV2Schema2MediaType, manifest.DockerV2Schema2ConfigMediaType, manifest.DockerV2SchemaLayerMediaTypeUncompressed
	}
	top, err := l.blob(ofLayer, layer)
	if err != nil {
		return nil, err
	}
	if o.Squash {
		b.layers = nil
		delete(b.about, "history")
	}
	var layers []object
	var ids []any
	for _, lower := range b.layers {
		layers = append(layers, descriptor(ofLayer, lower.UncompressedDigest.String(), lower.UncompressedSize))
		ids = append(ids, lower.UncompressedDigest)
	}
	b.about["rootfs"] = object{"type": "layers", "diff_ids": append(ids, top["digest"])}
	b.describe(o)
	ofContainer(&b.config, &o.Config)
	if err := merge(&b.config, o.Merge); err != nil {
		return nil, err
	}
	change(&b.config, changes)
	b.about["config"] = b.config
	if !o.Docker {
		b.about["config"] = inOCI(&b.config)
	}
	config, err := l.encoded(ofConfig, b.about)
	return object{"schemaVersion": 2, "mediaType": ofManifest, "config": config, "layers": append(layers, top)}, err
}

// describe says how the image came about.
func (b *committed) describe(o *image.CommitOptions) {
	now := time.Now().UTC()
	step := object{"created": now, "created_by": "/bin/sh"}
	if o.Config.Name != "" {
		step["comment"] = "FROM " + o.Config.Name
	}
	// Docker writes these into images about the container that they were of.
	for _, key := range []string{"id", "parent", "container", "container_config", "docker_version", "comment"} {
		delete(b.about, key)
	}
	if o.Author != "" {
		step["author"], b.about["author"] = o.Author, o.Author
	}
	if o.Message != "" {
		b.about["comment"] = o.Message
	}
	history, _ := b.about["history"].([]any)
	b.about["history"], b.about["created"] = append(history, step), now
}

// ofContainer has the configuration say what the container was made with. What it
// has of lists is added to the image's.
func ofContainer(run *manifest.Schema2Config, c *cove.ImageConfig) {
	run.User, run.WorkingDir, run.Entrypoint, run.Cmd = c.User, c.WorkDir, c.Entrypoint, c.Cmd
	run.Env = override(run.Env, c.Env)
	into(&run.Labels, c.Labels)
	for _, v := range c.Volumes {
		into(&run.Volumes, map[string]struct{}{v: {}})
	}
	for _, p := range c.ExposedPorts {
		into(&run.ExposedPorts, manifest.Schema2PortSet{manifest.Schema2Port(p): {}})
	}
}

// merge lays the container configuration that data is, in docker's format, over run.
func merge(run *manifest.Schema2Config, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	env := run.Env
	run.Env = nil
	if err := json.Unmarshal(data, run); err != nil {
		return cove.E("", "", cove.Invalid, fmt.Errorf("the configuration to merge: %w", err))
	}
	run.Env = override(env, run.Env)
	return nil
}

// into adds entries to a map that may be nil.
func into[M ~map[K]V, K comparable, V any](m *M, entries map[K]V) {
	if *m == nil {
		*m = M{}
	}
	maps.Copy(*m, entries)
}

// change carries out the instructions of --change.
func change(run *manifest.Schema2Config, c *libimage.ImageConfig) {
	run.User = cmp.Or(c.User, run.User)
	run.StopSignal = cmp.Or(c.StopSignal, run.StopSignal)
	if c.WorkingDir != "" {
		run.WorkingDir = path.Join("/", c.WorkingDir)
	}
	if c.Entrypoint != nil {
		run.Entrypoint, run.Cmd = c.Entrypoint, nil // which was for another
	}
	if c.Cmd != nil {
		run.Cmd = c.Cmd
	}
	run.Env = override(run.Env, c.Env)
	run.OnBuild = append(run.OnBuild, c.OnBuild...)
	into(&run.Labels, c.Labels)
	into(&run.Volumes, c.Volumes)
	for p := range c.ExposedPorts {
		into(&run.ExposedPorts, manifest.Schema2PortSet{manifest.Schema2Port(p): {}})
	}
}

// override gives the environment with other values for some of its variables.
func override(env, with []string) []string {
	env = slices.Clone(env)
	for _, w := range with {
		name, _, _ := strings.Cut(w, "=")
		i := slices.IndexFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		if i < 0 {
			env = append(env, w)
		} else {
			env[i] = w
		}
	}
	return env
}

// inOCI gives what the format of OCI has of it.
func inOCI(run *manifest.Schema2Config) v1.ImageConfig {
	c := v1.ImageConfig{
		User: run.User, Env: run.Env, Entrypoint: run.Entrypoint, Cmd: run.Cmd, Volumes: run.Volumes, WorkingDir: run.WorkingDir,
		Labels: run.Labels, StopSignal: run.StopSignal,
	}
	for p := range run.ExposedPorts {
		if c.ExposedPorts == nil {
			c.ExposedPorts = map[string]struct{}{}
		}
		c.ExposedPorts[string(p)] = struct{}{}
	}
	return c
}
