package library_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/imagetest"
	"github.com/cove-engine/cove/internal/image/registrytest"
)

func no() *bool  { b := false; return &b }
func yes() *bool { b := true; return &b }

func noRetry() image.Transfer { n := uint(0); return image.Transfer{Retries: &n, TLSVerify: no()} }

func TestPullPush(t *testing.T) {
	for _, c := range []struct {
		name string
		reg  registrytest.Options
		ok   func(*registrytest.Registry) image.Transfer
		bad  map[string]func(*registrytest.Registry) image.Transfer
		kind cove.Kind
	}{
		{"plain", registrytest.Options{},
			func(r *registrytest.Registry) image.Transfer { return image.Transfer{TLSVerify: no()} },
			map[string]func(*registrytest.Registry) image.Transfer{
				"tls wanted": func(r *registrytest.Registry) image.Transfer { return image.Transfer{TLSVerify: yes()} },
			}, cove.Unavailable},
		{"tls", registrytest.Options{TLS: true},
			func(r *registrytest.Registry) image.Transfer { return image.Transfer{CertDir: r.CertDir} },
			map[string]func(*registrytest.Registry) image.Transfer{
				"ca unknown": func(r *registrytest.Registry) image.Transfer { return image.Transfer{} },
			}, cove.Unavailable},
		{"htpasswd", registrytest.Options{TLS: true, User: "joe", Password: "secret"},
			func(r *registrytest.Registry) image.Transfer {
				return image.Transfer{CertDir: r.CertDir, Creds: "joe:secret"}
			},
			map[string]func(*registrytest.Registry) image.Transfer{
				"no password": func(r *registrytest.Registry) image.Transfer { return image.Transfer{CertDir: r.CertDir} },
				"wrong password": func(r *registrytest.Registry) image.Transfer {
					return image.Transfer{CertDir: r.CertDir, Creds: "joe:x"}
				},
			}, cove.Denied},
	} {
		t.Run(c.name, func(t *testing.T) {
			reg := registrytest.Start(t, c.reg)
			ctx := context.Background()
			p := newPlace(t)
			img := small(t, "localhost/app:1")
			p.mustLoad(t, img)
			remote := reg.Addr + "/team/app:2"
			zero := uint(0)
			with := func(f func(*registrytest.Registry) image.Transfer) image.Transfer {
				tr := f(reg)
				tr.Retries = &zero
				return tr
			}
			digest, err := p.Push(ctx, "localhost/app:1", remote, image.PushOptions{Transfer: with(c.ok)})
			must(t, err)
			q := newPlace(t)
			for name, bad := range c.bad {
				_, err := q.Pull(ctx, remote, image.PullOptions{Transfer: with(bad)})
				wantKind(t, err, c.kind)
				t.Logf("%s: %v", name, err)
				_, err = p.Push(ctx, "localhost/app:1", remote, image.PushOptions{Transfer: with(bad)})
				wantKind(t, err, c.kind)
			}
			var progress bytes.Buffer
			good := with(c.ok)
			good.Progress = &progress
			ids, err := q.Pull(ctx, remote, image.PullOptions{Transfer: good})
			must(t, err)
			if len(ids) != 1 || ids[0] != img.ID(t) {
				t.Errorf("pulled %v", ids)
			}
			if !strings.Contains(progress.String(), "Copying blob") {
				t.Errorf("progress %q", progress.String())
			}
			got, err := q.Resolve(ctx, remote, "")
			must(t, err)
			if got.ID != img.ID(t) || got.Digest != digest {
				t.Errorf("resolved %s %s, pushed %s", got.ID, got.Digest, digest)
			}
			if _, err := q.Resolve(ctx, reg.Addr+"/team/app@"+digest, ""); err != nil {
				t.Error(err)
			}
			_, err = q.Pull(ctx, reg.Addr+"/team/none:1", image.PullOptions{Transfer: with(c.ok)})
			wantKind(t, err, cove.NotFound)
			reg.Stop()
			for policy, kind := range map[string]cove.Kind{"always": cove.Unavailable, "missing": cove.Internal, "never": cove.Internal, "newer": cove.Internal} {
				_, err := q.Pull(ctx, remote, image.PullOptions{Transfer: with(c.ok), Policy: policy})
				if kind == cove.Internal && err != nil {
					t.Errorf("%s with a local image: %v", policy, err)
				} else if kind != cove.Internal {
					wantKind(t, err, kind)
				}
			}
			_, err = newPlace(t).Pull(ctx, remote, image.PullOptions{Transfer: with(c.ok), Policy: "never"})
			wantKind(t, err, cove.NotFound)
		})
	}
}

func TestPullErrors(t *testing.T) {
	p := newPlace(t)
	ctx := context.Background()
	_, err := p.Pull(ctx, "nosuch", image.PullOptions{})
	wantKind(t, err, cove.Invalid)
	if !strings.Contains(err.Error(), `short-name "nosuch" did not resolve to an alias and no unqualified-search registries are defined in`) {
		t.Errorf("%v", err)
	}
	_, err = p.Pull(ctx, "Bad Name", image.PullOptions{})
	wantKind(t, err, cove.Invalid)
	_, err = p.Pull(ctx, "example.org/x", image.PullOptions{Policy: "sometimes"})
	wantKind(t, err, cove.Invalid)
	must(t, os.WriteFile(p.opts.SignaturePolicy, []byte(`{"default":[{"type":"reject"}]}`), 0o600))
	file := filepath.Join(t.TempDir(), "i.tar")
	must(t, os.WriteFile(file, imagetest.DockerArchive(t, small(t, "localhost/x:1")), 0o600))
	_, err = p.Load(ctx, file, image.LoadOptions{})
	wantKind(t, err, cove.Denied)
	must(t, p.LoadBuiltin(ctx, "cove.local/hello:latest", imagetest.DockerArchive(t, small(t, "cove.local/hello:latest"))))
	if _, err := p.Resolve(ctx, "cove.local/hello", ""); err != nil {
		t.Error(err)
	}
	for _, e := range []error{err} {
		if strings.Contains(e.Error(), "\n") {
			t.Errorf("more than one line: %q", e)
		}
	}
}

func TestPullAllTags(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	p, ctx := newPlace(t), context.Background()
	for _, tag := range []string{"1", "2"} {
		p.mustLoad(t, small(t, "localhost/app:"+tag))
		_, err := p.Push(ctx, "localhost/app:"+tag, reg.Addr+"/app:"+tag, image.PushOptions{Transfer: noRetry()})
		must(t, err)
	}
	q := newPlace(t)
	ids, err := q.Pull(ctx, reg.Addr+"/app", image.PullOptions{Transfer: noRetry(), AllTags: true})
	must(t, err)
	if len(ids) != 2 || ids[0] == ids[1] {
		t.Errorf("pulled %v", ids)
	}
}

// Images that skopeo and podman put there, cove runs.
func TestOthersImages(t *testing.T) {
	p, ctx := newPlace(t), context.Background()
	dir := t.TempDir()
	imagetest.OCILayout(t, dir, small(t, "latest"))
	if out, err := exec.Command("skopeo", "copy", "-q", "oci:"+dir+":latest", "containers-storage:[overlay@"+p.opts.GraphRoot+"+"+p.opts.RunRoot+"]example.org/skopeo:1").CombinedOutput(); err != nil {
		t.Skipf("needs skopeo: %v %s", err, out)
	}
	got, err := p.Resolve(ctx, "example.org/skopeo:1", "")
	must(t, err)
	if got.ID != small(t, "latest").ID(t) || len(got.Layers) != 2 {
		t.Errorf("%+v", got)
	}
	p.mustLoad(t, small(t, "example.org/cove:1"))
	out, err := p.podman(t, "images", "--format", "{{.Repository}}:{{.Tag}}")
	if err != nil || !slices.Contains(strings.Fields(out), "example.org/cove:1") {
		t.Errorf("podman images: %v %s", err, out)
	}
}
