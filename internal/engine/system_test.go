package engine

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
)

func TestInfo(t *testing.T) {
	needRoot(t)
	e, r := engineWith(t)
	conf := filepath.Join(t.TempDir(), "registries.conf")
	mustWrite(t, conf, "unqualified-search-registries = [\"a.example\", \"b.example\"]\n[[registry]]\nlocation = \"a.example\"\ninsecure = true\n")
	t.Setenv("CONTAINERS_REGISTRIES_CONF", conf)
	stored(t, e, "a", nil)
	r.images.all = []image.Summary{
		{ID: oneID}}
	info, err := e.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h, s := info.Host, info.Store
	if h.CPUs == 0 || h.Kernel == "" || h.MemTotal == 0 || h.Uptime == "" || len(h.CgroupControllers) == 0 || h.CPUUtilization == nil || h.Distribution.Distribution == "" {
		t.Errorf("host %+v", h)
	}
	if s.ContainerStore.Number != 1 || s.ContainerStore.Stopped != 1 || s.ImageStore.Number != 1 || s.GraphRoot != e.conf.GraphRoot || s.GraphRootAllocated <= s.GraphRootUsed {
		t.Errorf("store %+v", s)
	}
	if got, _ := info.Registries["a.example"].(registry); len(info.Registries["search"].([]string)) != 2 || !got.Insecure || got.Prefix != "a.example" {
		t.Errorf("registries %+v", info.Registries)
	}
	mustWrite(t, conf, "[[registry")
	_, err = e.Info(t.Context())
	wantKind(t, err, cove.Invalid, conf)
	if got := uptimeText(49*time.Hour + 3*time.Minute + 12*time.Second + 300*time.Millisecond); got != "49h 3m 12.00s (Approximately 2.04 days)" {
		t.Errorf("uptime %q", got)
	}
}

func TestDiskUsage(t *testing.T) {
	needRoot(t)
	e, r := engineWith(t)
	r.images.all = []image.Summary{{ID: oneID, RepoTags: []string{"localhost:5000/one:v1"}, Size: 100, Layers: []image.Layer{{ID: "own", Size: 50}, {ID: "base", Size: 40}}},
		{ID: twoID, Size: 70, Layers: []image.Layer{{ID: "base", Size: 40}}},
	}
	c := stored(t, e, "a", func(c *cove.Container) { c.Image.ID = oneID; withVolume("v")(c) })
	if _, err := e.CreateVolume(t.Context(), cove.Volume{Name: "v"}, true); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, filepath.Join(e.volumeData("v"), "f"), "12345")
	mustWrite(t, filepath.Join(e.dir(c.ID), "diff", "f"), "123")
	u, err := e.DiskUsage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if i := u.Images[0]; i.Repository != "localhost:5000/one" || i.Tag != "v1" || i.UniqueSize != 60 || i.Containers != 1 || u.Images[1].Repository != "<none>" || u.ImagesSize != 130 {
		t.Errorf("images %+v, %d", u.Images, u.ImagesSize)
	}
	if got := u.Containers[0]; got.RWSize != 3 || got.LocalVolumes != 1 || got.Status != "created" || got.Names != "a" {
		t.Errorf("container %+v", got)
	}
	if got := u.Volumes[0]; got.Size != 5 || got.Links != 1 || got.ReclaimableSize != 0 {
		t.Errorf("volume %+v", got)
	}
}
