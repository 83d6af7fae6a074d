package library_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/imagetest"
	"github.com/cove-engine/cove/internal/image/registrytest"
)

func TestSaveLoad(t *testing.T) {
	p, ctx := newPlace(t), context.Background()
	a, b := small(t, "example.org/a:1"), small(t, "example.org/b:1")
	p.mustLoad(t, a, b)
	must(t, p.Tag(a.Name, "example.org/more:2"))
	for _, c := range []struct {
		format string
		names  []string
		multi  bool
		want   []string
	}{
		{"docker-archive", []string{a.Name}, false, []string{a.Name}},
		{"docker-archive", []string{a.Name, "example.org/more:2"}, false, []string{a.Name, "example.org/more:2"}},
		{"docker-archive", []string{a.Name, b.Name}, true, []string{a.Name, b.Name}},
		{"oci-archive", []string{a.Name}, false, []string{a.Name}},
		{"oci-dir", []string{a.Name}, false, nil},
		{"docker-dir", []string{a.Name}, false, nil},
	} {
		t.Run(c.format, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			must(t, p.Save(ctx, c.names, image.SaveOptions{Format: c.format, Output: out, MultiImageArchive: c.multi}))
			q := newPlace(t)
			names, err := q.Load(ctx, out, image.LoadOptions{})
			must(t, err)
			slices.Sort(names)
			want := c.want
			if want == nil {
				if len(names) != 1 || !strings.HasPrefix(names[0], "sha256:") {
					t.Errorf("names %v", names)
				}
				return
			}
			slices.Sort(want)
			if !slices.Equal(names, want) {
				t.Errorf("names %v, want %v", names, want)
			}
			got, err := q.Resolve(ctx, names[0], "")
			must(t, err)
			if len(got.Layers) != 2 || got.User != "1:2" {
				t.Errorf("%+v", got)
			}
		})
	}
	var stream bytes.Buffer
	must(t, p.Save(ctx, []string{b.Name}, image.SaveOptions{Writer: &stream}))
	q := newPlace(t)
	names, err := q.LoadFrom(ctx, bytes.NewReader(imagetest.Gzip(t, stream.Bytes())), image.LoadOptions{})
	must(t, err)
	if !slices.Equal(names, []string{b.Name}) {
		t.Errorf("%v", names)
	}
	out := filepath.Join(t.TempDir(), "none")
	wantKind(t, p.Save(ctx, []string{"nosuch"}, image.SaveOptions{Output: out}), cove.NotFound)
	wantKind(t, p.Save(ctx, []string{a.Name}, image.SaveOptions{Output: out, Format: "zip"}), cove.Invalid)
	wantKind(t, p.Save(ctx, []string{"nosuch"}, image.SaveOptions{Output: out, Format: "oci-dir"}), cove.NotFound)
	if left, _ := os.ReadDir(filepath.Dir(out)); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestImport(t *testing.T) {
	p, ctx := newPlace(t), context.Background()
	layer := imagetest.Layer(t, imagetest.Files{"hello": "world"})
	file := filepath.Join(t.TempDir(), "root.tar")
	must(t, os.WriteFile(file, layer, 0o600))
	id, err := p.Import(ctx, file, image.ImportOptions{Changes: []string{"CMD /hello", "ENV A=b", "USER joe"}, Message: "by hand", Reference: "imported:1"})
	must(t, err)
	got, err := p.Resolve(ctx, "imported:1", "")
	must(t, err)
	if got.ID != id || got.User != "joe" || !slices.Equal(got.Env, []string{"A=b"}) || got.Name != "localhost/imported:1" {
		t.Errorf("%+v", got)
	}
	history, err := p.History(ctx, id)
	must(t, err)
	if len(history) != 1 || history[0].Comment != "by hand" {
		t.Errorf("%+v", history)
	}
	id2, err := p.Import(ctx, "-", image.ImportOptions{Stdin: bytes.NewReader(imagetest.Gzip(t, layer)), OS: "linux", Arch: "arm64"})
	must(t, err)
	got, err = p.Resolve(ctx, id2, "")
	if err != nil || got.Architecture != "arm64" {
		t.Errorf("%+v %v", got, err)
	}
	_, err = p.Import(ctx, file+".none", image.ImportOptions{})
	wantKind(t, err, cove.NoFile)
	_, err = p.Import(ctx, file, image.ImportOptions{Changes: []string{"NONSENSE x"}})
	wantKind(t, err, cove.Invalid)
}

func TestListInspect(t *testing.T) {
	p, ctx := newPlace(t), context.Background()
	a, b := small(t, "example.org/a:1"), small(t, "example.org/b:1")
	p.mustLoad(t, a, b)
	must(t, p.Untag(b.Name))
	names := func(o image.ListOptions) string {
		t.Helper()
		list, err := p.List(ctx, o)
		must(t, err)
		var out []string
		for _, s := range list {
			if s.Size == 0 || s.Digest == "" || s.Labels["l"] != "m" {
				t.Errorf("%+v", s)
			}
			out = append(out, map[string]string{a.ID(t): "a", b.ID(t): "b"}[s.ID])
		}
		slices.Sort(out)
		return strings.Join(out, "")
	}
	users := func(id string) []string {
		if id == a.ID(t) {
			return []string{"c"}
		}
		return nil
	}
	for _, c := range []struct {
		filters []string
		want    string
	}{
		{nil, "ab"},
		{[]string{"dangling=true"}, "b"},
		{[]string{"reference=example.org/a"}, "a"},
		{[]string{"label=l=m"}, "ab"},
		{[]string{"label=nosuch"}, ""},
		{[]string{"containers=true"}, "a"},
		{[]string{"containers=false"}, "b"},
	} {
		if got := names(image.ListOptions{Filters: c.filters, Users: users}); got != c.want {
			t.Errorf("%v: %q, want %q", c.filters, got, c.want)
		}
	}
	_, err := p.List(ctx, image.ListOptions{Filters: []string{"nonsense=1"}})
	wantKind(t, err, cove.Invalid)
	data, err := p.Inspect(ctx, "a:1")
	must(t, err)
	if data.ID != a.ID(t) || data.RepoTags[0] != a.Name || data.HealthCheck == nil || data.Size == 0 {
		t.Errorf("%+v", data)
	}
	_, err = p.Inspect(ctx, "nosuch")
	wantKind(t, err, cove.NotFound)
	for name, want := range map[string]bool{"a:1": true, "nosuch": false} {
		if ok, err := p.Exists(name); ok != want || err != nil {
			t.Errorf("exists %s: %v %v", name, ok, err)
		}
	}
	wantKind(t, p.Untag("a:1", "other:2"), cove.NotFound)
	wantKind(t, p.Tag("a:1", "BAD NAME"), cove.Invalid)
}

func TestLogin(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{TLS: true, User: "joe", Password: "secret"})
	p, ctx := newPlace(t), context.Background()
	var out bytes.Buffer
	o := image.LoginOptions{User: "joe", PasswordStdin: true, Stdin: strings.NewReader("wrong\n"), Stdout: &out, CertDir: reg.CertDir}
	err := p.Login(ctx, reg.Addr, o)
	wantKind(t, err, cove.Denied)
	o.Stdin = strings.NewReader("secret\n")
	must(t, p.Login(ctx, reg.Addr, o))
	if !strings.Contains(out.String(), "Login Succeeded!") {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	must(t, p.Login(ctx, reg.Addr, image.LoginOptions{GetLogin: true, Stdout: &out}))
	if out.String() != "joe\n" {
		t.Errorf("%q", out.String())
	}
	p.mustLoad(t, small(t, "localhost/app:1"))
	zero := uint(0)
	tr := image.Transfer{CertDir: reg.CertDir, Retries: &zero}
	_, err = p.Push(ctx, "localhost/app:1", reg.Addr+"/app:1", image.PushOptions{Transfer: tr})
	must(t, err)
	must(t, p.Logout(reg.Addr, image.LogoutOptions{Stdout: &out}))
	if err := p.Logout(reg.Addr, image.LogoutOptions{Stdout: &out}); err == nil {
		t.Error("logged out twice")
	}
	_, err = p.again().Push(ctx, "localhost/app:1", reg.Addr+"/app:1", image.PushOptions{Transfer: tr})
	wantKind(t, err, cove.Denied)
}
