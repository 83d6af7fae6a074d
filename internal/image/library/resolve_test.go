package library_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/library"
)

func TestResolve(t *testing.T) {
	p := newPlace(t)
	img := small(t, "example.org/team/app:1")
	p.mustLoad(t, img)
	ctx := context.Background()
	got, err := p.Resolve(ctx, "example.org/team/app:1", "")
	must(t, err)
	if len(got.Layers) != 2 || !strings.HasPrefix(got.Layers[0], "overlay/l/") {
		t.Fatalf("layers %q", got.Layers)
	}
	for n, file := range []string{"top", "etc/base"} {
		if _, err := os.Stat(filepath.Join(p.opts.GraphRoot, got.Layers[n], file)); err != nil {
			t.Errorf("layer %d: %v", n, err)
		}
	}
	want := cove.ImageConfig{
		ID: img.ID(t), Name: img.Name, Digest: got.Digest, Layers: got.Layers, Env: img.Env, Entrypoint: img.Entrypoint, Cmd: img.Cmd,
		User: "1:2", WorkDir: "/w", Volumes: []string{"/v"}, ExposedPorts: []string{"80/tcp"}, Labels: img.Labels, StopSignal: "SIGINT",
		Health: &cove.HealthCheck{Test: []string{"CMD", "true"}, Interval: time.Second, Retries: 3},
		OS:     "linux", Architecture: got.Architecture,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, name := range []string{"app:1", "team/app:1", img.ID(t), img.ID(t)[:12], "sha256:" + img.ID(t), "example.org/team/app@" + got.Digest} {
		r, err := p.Resolve(ctx, name, "")
		if err != nil || r.ID != img.ID(t) || !strings.HasPrefix(r.Name, "example.org/team/app") {
			t.Errorf("resolve %s: %q %q %v", name, r.ID, r.Name, err)
		}
	}
	_, err = p.Resolve(ctx, "example.org/team/app:1", "linux/s390x")
	wantKind(t, err, cove.NotFound)
	_, err = p.Resolve(ctx, "example.org/team/app:1", "a/b/c/d")
	wantKind(t, err, cove.Invalid)
	_, err = p.Resolve(ctx, "UPPER CASE", "")
	wantKind(t, err, cove.Invalid)
}

// The index answers while the store stands still, and only then.
func TestResolveIndex(t *testing.T) {
	p := newPlace(t)
	ctx := context.Background()
	const name = "example.org/app:1"
	p.mustLoad(t, small(t, name))
	first, err := p.Resolve(ctx, name, "")
	must(t, err)

	fast := func(name string) (cove.ImageConfig, bool) {
		t.Helper()
		s := p.again()
		opens := s.CountOpens()
		got, err := s.Resolve(ctx, name, "")
		must(t, err)
		return got, *opens == 0
	}
	if got, indexed := fast(name); !indexed || !reflect.DeepEqual(got, first) {
		t.Fatalf("indexed %v: %+v", indexed, got)
	}
	if out, err := p.podman(t, "create", name); err != nil {
		t.Fatalf("podman create: %v\n%s", err, out)
	}
	if _, indexed := fast(name); !indexed {
		t.Error("a container of podman's made the index stale")
	}

	// Another tool moves the name to another image.
	other := small(t, name)
	other.Cmd = []string{"other"}
	p.mustLoad(t, other)
	got, indexed := fast(name)
	if indexed || got.ID != other.ID(t) {
		t.Fatalf("after the name moved: indexed %v, %s", indexed, got.ID)
	}

	// registries.conf says otherwise what a short name is.
	if _, err := p.again().Resolve(ctx, "app:1", ""); err != nil {
		t.Fatal(err)
	}
	for _, damage := range []struct {
		name string
		do   func() error
	}{
		{"registries.conf written", func() error {
			return os.WriteFile(p.opts.RegistriesConf, []byte("unqualified-search-registries = ['example.net']\n"), 0o600)
		}},
		{"drop-in file added", func() error {
			return os.WriteFile(filepath.Join(p.opts.RegistriesConfDir, "x.conf"), []byte("[aliases]\nx='example.net/x'\n"), 0o600)
		}},
		{"index file torn", func() error {
			files, _ := filepath.Glob(filepath.Join(p.opts.GraphRoot, "cove/images/*.json"))
			for _, f := range files {
				os.Truncate(f, 100)
			}
			return nil
		}},
		{"pin's layer gone", func() error {
			out, err := p.podman(t, "rm", "--force", "--all")
			t.Log(out)
			if err != nil {
				return err
			}
			out, err = p.podman(t, "rm", "--storage", "cove-pin-"+other.ID(t))
			t.Log(out)
			return err
		}},
	} {
		must(t, damage.do())
		if got, indexed := fast("app:1"); indexed || got.ID != other.ID(t) {
			t.Errorf("%s: indexed %v, %s", damage.name, indexed, got.ID)
		}
		if _, indexed := fast("app:1"); !indexed {
			t.Errorf("%s: no new index", damage.name)
		}
	}
}

func TestResolveVFS(t *testing.T) {
	p := newPlace(t, func(o *image.Options) { o.Driver = "vfs" })
	p.mustLoad(t, small(t, "example.org/app:1"))
	got, err := p.Resolve(context.Background(), "example.org/app:1", "")
	must(t, err)
	// Each of its directories has all that is below it as well.
	if len(got.Layers) != 1 {
		t.Errorf("layers %v", got.Layers)
	}
}

func TestResolveDamagedImage(t *testing.T) {
	p := newPlace(t)
	ctx := context.Background()
	p.mustLoad(t, small(t, "example.org/app:1"))
	got, err := p.Resolve(ctx, "example.org/app:1", "")
	must(t, err)
	link, err := filepath.EvalSymlinks(filepath.Join(p.opts.GraphRoot, got.Layers[1]))
	must(t, err)
	must(t, os.RemoveAll(filepath.Dir(link)))
	_, err = p.again().Resolve(ctx, "example.org/app:1", "")
	wantKind(t, err, cove.Invalid)
}

func TestBrokenStorageConf(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "storage.conf")
	must(t, os.WriteFile(conf, []byte("[storage]\ndriver = overlay\n"), 0o600))
	t.Setenv("CONTAINERS_STORAGE_CONF", conf)
	_, err := library.Open(image.Options{}).Resolve(context.Background(), "x", "")
	wantKind(t, err, cove.Invalid)
	if !strings.Contains(err.Error(), conf) || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("error does not name file and line: %v", err)
	}
}

// podman with a store of the test.
func (p place) podman(t testing.TB, args ...string) (string, error) {
	t.Helper()
	bin, err := exec.LookPath("podman")
	if err != nil {
		t.Skip("needs podman: ", err)
	}
	cmd := exec.Command(bin, append([]string{"--root", p.opts.GraphRoot, "--runroot", p.opts.RunRoot, "--storage-driver", "overlay", "--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "none"}, args...)...)
	out, err := cmd.CombinedOutput()
	_ = unix.Unmount(filepath.Join(p.opts.GraphRoot, "overlay"), 0) // podman 4 leaves that
	return string(out), err
}

// Pinned images resist other tools; their layers survive even force.
func TestPinResistsPodman(t *testing.T) {
	p := newPlace(t)
	ctx := context.Background()
	const name = "example.org/app:1"
	img := small(t, name)
	p.mustLoad(t, img)
	got, err := p.Resolve(ctx, name, "")
	must(t, err)
	if out, err := p.podman(t, "rmi", name); err == nil {
		t.Errorf("podman rmi of a pinned image worked: %s", out)
	}
	layersStand := func(after string) {
		t.Helper()
		for _, l := range got.Layers {
			if fi, err := os.Stat(filepath.Join(p.opts.GraphRoot, l)); err != nil || !fi.IsDir() {
				t.Errorf("after %s: layer %s: %v", after, l, err)
			}
		}
	}
	out, err := p.podman(t, "system", "prune", "-af")
	t.Logf("podman system prune -af: %v\n%s", err, out)
	layersStand("podman system prune -af")
	if _, err := p.again().Resolve(ctx, name, ""); err != nil {
		t.Errorf("after podman system prune: %v", err)
	}
	out, err = p.podman(t, "rmi", "-f", name)
	t.Logf("podman rmi -f: %v\n%s", err, out)
	layersStand("podman rmi -f")
	for _, n := range []string{name, img.ID(t)} {
		_, err = p.again().Resolve(ctx, n, "")
		wantKind(t, err, cove.NotFound)
	}
	// Loaded again, it is pinned again.
	q := place{p.again(), p.opts}
	q.mustLoad(t, img)
	again, err := q.Resolve(ctx, name, "")
	must(t, err)
	if !reflect.DeepEqual(again, got) {
		t.Errorf("loaded again: %+v", again)
	}
	if out, err := p.podman(t, "rmi", name); err == nil {
		t.Errorf("podman rmi of a re-pinned image worked: %s", out)
	}
}

func BenchmarkResolveIndexed(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	dir := b.TempDir()
	storageConf(b, dir)
	o := image.Options{GraphRoot: filepath.Join(dir, "root"), RunRoot: filepath.Join(dir, "run"), Driver: "overlay"}
	p := place{library.Open(o), o}
	p.mustLoad(b, small(b, "example.org/app:1"))
	for b.Loop() {
		if _, err := library.Open(o).Resolve(context.Background(), "example.org/app:1", ""); err != nil {
			b.Fatal(err)
		}
	}
}
