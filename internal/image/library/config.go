package library

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.podman.io/common/libimage"
	"go.podman.io/storage"

	"github.com/cove-engine/cove"
)

// configFile is the part of an image's configuration that a container takes,
// as in the OCI image specification; Healthcheck is docker's addition.
type configFile struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Config       struct {
		Env          []string
		Entrypoint   []string
		Cmd          []string
		User         string
		WorkingDir   string
		Volumes      map[string]struct{}
		ExposedPorts map[string]struct{}
		Labels       map[string]string
		StopSignal   string
		Healthcheck  *struct {
			Test                                          []string
			Interval, Timeout, StartPeriod, StartInterval int64 // nanoseconds
			Retries                                       int
		}
	} `json:"config"`
}

// config reads what containers take from img. Name and Layers are the
// caller's.
func (l *library) config(ctx context.Context, img *libimage.Image) (cove.ImageConfig, error) {
	var c configFile
	blob, annotations, err := l.configBlob(img)
	if err != nil {
		return cove.ImageConfig{}, err
	}
	if blob != nil {
		err = json.Unmarshal(blob, &c)
	} else {
		err = l.oldConfig(ctx, img, &c)
	}
	if err != nil {
		return cove.ImageConfig{}, fmt.Errorf("configuration of image %s: %w", img.ID(), err)
	}
	out := cove.ImageConfig{
		ID:           img.ID(),
		Digest:       img.Digest().String(),
		Layers:       []string{},
		Env:          c.Config.Env,
		Entrypoint:   c.Config.Entrypoint,
		Cmd:          c.Config.Cmd,
		User:         c.Config.User,
		WorkDir:      c.Config.WorkingDir,
		Volumes:      slices.Sorted(maps.Keys(c.Config.Volumes)),
		ExposedPorts: slices.Sorted(maps.Keys(c.Config.ExposedPorts)),
		Labels:       c.Config.Labels,
		Annotations:  annotations,
		StopSignal:   c.Config.StopSignal,
		OS:           c.OS,
		Architecture: c.Architecture,
	}
	if h := c.Config.Healthcheck; h != nil {
		out.Health = &cove.HealthCheck{
			Test: h.Test, Interval: time.Duration(h.Interval), Timeout: time.Duration(h.Timeout),
			StartPeriod: time.Duration(h.StartPeriod), Retries: h.Retries,
		}
	}
	return out, nil
}

// configBlob reads the configuration that the image's manifest names, nil
// when the manifest names none (docker's schema 1), and the manifest's
// annotations.
func (l *library) configBlob(img *libimage.Image) (blob []byte, annotations map[string]string, err error) {
	raw, err := l.store.ImageBigData(img.ID(), storage.ImageDigestBigDataKey)
	if err != nil {
		return nil, nil, err
	}
	var m struct {
		Config      struct{ Digest string }
		Annotations map[string]string
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, nil, fmt.Errorf("manifest of image %s: %w", img.ID(), err)
	}
	if m.Config.Digest != "" {
		blob, err = l.store.ImageBigData(img.ID(), m.Config.Digest)
	}
	return blob, m.Annotations, err
}

// oldConfig lets the library translate a schema 1 image.
func (l *library) oldConfig(ctx context.Context, img *libimage.Image, c *configFile) error {
	d, err := img.Inspect(ctx, nil)
	if err != nil {
		return err
	}
	c.OS, c.Architecture = d.Os, d.Architecture
	if d.Config == nil {
		return nil
	}
	to := &c.Config
	to.Env, to.Entrypoint, to.Cmd, to.User = d.Config.Env, d.Config.Entrypoint, d.Config.Cmd, d.Config.User
	to.WorkingDir, to.Volumes, to.ExposedPorts = d.Config.WorkingDir, d.Config.Volumes, d.Config.ExposedPorts
	to.Labels, to.StopSignal = d.Config.Labels, d.Config.StopSignal
	return nil
}
