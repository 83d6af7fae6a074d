package library_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/imagetest"
	"github.com/cove-engine/cove/internal/image/library"
)

// The storage library unpacks layers in a child that is this test program.
func TestMain(m *testing.M) {
	if library.Reexec() {
		return
	}
	os.Exit(m.Run())
}

// place is a store of its own for one test.
type place struct {
	*library.Store
	opts image.Options
}

// newPlace makes a store with the overlay driver below a temporary directory,
// with no registry to search and everything accepted.
func newPlace(t *testing.T, change ...func(*image.Options)) place {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the overlay driver needs root")
	}
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.json")
	registries := filepath.Join(dir, "registries.conf")
	must(t, os.WriteFile(policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o600))
	must(t, os.WriteFile(registries, []byte("unqualified-search-registries = []\n"), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "registries.conf.d"), 0o700))
	storageConf(t, dir)
	t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(dir, "auth.json"))
	o := image.Options{
		GraphRoot: filepath.Join(dir, "root"), RunRoot: filepath.Join(dir, "run"), Driver: "overlay",
		SignaturePolicy: policy, RegistriesConf: registries, RegistriesConfDir: filepath.Join(dir, "registries.conf.d"),
		TmpDir: dir,
	}
	for _, c := range change {
		c(&o)
	}
	return place{library.Open(o), o}
}

// storageConf makes every tool use a store below dir unless told otherwise.
func storageConf(t testing.TB, dir string) {
	t.Helper()
	conf := filepath.Join(dir, "storage.conf")
	must(t, os.WriteFile(conf, fmt.Appendf(nil, "[storage]\ndriver = 'overlay'\ngraphroot = '%[1]s/root'\nrunroot = '%[1]s/run'\n", dir), 0o600))
	t.Setenv("CONTAINERS_STORAGE_CONF", conf)
}

// again is the same store as a next command sees it.
func (p place) again() *library.Store { return library.Open(p.opts) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t testing.TB, err error, kind cove.Kind) {
	t.Helper()
	if !cove.Is(err, kind) {
		t.Errorf("error kind %d, want %d: %v", cove.KindOf(err), kind, err)
	}
}

func (p place) mustLoad(t testing.TB, images ...imagetest.Image) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	must(t, os.WriteFile(file, imagetest.DockerArchive(t, images...), 0o600))
	_, err := p.Load(context.Background(), file, image.LoadOptions{})
	must(t, err)
}

func small(t testing.TB, name string) imagetest.Image {
	return imagetest.Image{
		Name:   name,
		Layers: [][]byte{imagetest.Layer(t, imagetest.Files{"etc/": "", "etc/base": "base of " + name}), imagetest.Layer(t, imagetest.Files{"top": "top"})},
		Env:    []string{"A=b"}, Cmd: []string{"/bin/true"}, Entrypoint: []string{"/bin/env"}, User: "1:2", WorkDir: "/w",
		Volumes: []string{"/v"}, Ports: []string{"80/tcp"}, Labels: map[string]string{"l": "m"}, StopSignal: "SIGINT",
		Healthcheck: []byte(`{"Test":["CMD","true"],"Interval":1000000000,"Retries":3}`),
	}
}
