package library_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/imagetest"
	"github.com/cove-engine/cove/internal/image/registrytest"
)

// Another tool's pull has found a layer that a killed copy has left, and counts on it,
// when that is removed: the pull fails, as beside that tool's own removals, the store
// is whole, and the next pull succeeds.
func TestRemovedWhileReused(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	p, ctx := newPlace(t), context.Background()
	base := small(t, "localhost/base:1")
	app := base
	app.Name, app.Layers = "localhost/app:1", append(base.Layers[:2:2], imagetest.Layer(t, imagetest.Files{"own": "own"}))
	p.mustLoad(t, base, app)
	for _, name := range []string{"base:1", "app:1"} {
		_, err := p.Push(ctx, "localhost/"+name, reg.Addr+"/"+name, image.PushOptions{Transfer: noRetry()})
		must(t, err)
	}

	q := newPlace(t)
	_, err := q.Pull(ctx, reg.Addr+"/base:1", image.PullOptions{Transfer: noRetry()})
	must(t, err)
	must(t, q.BeginRemoval(base.ID(t)))
	q.forgetImages(t)

	var blobs atomic.Int32
	asked, goOn := make(chan struct{}), make(chan struct{})
	between := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: reg.Addr}) },
		ModifyResponse: func(r *http.Response) error {
			// The configuration comes first, then of the layers the one that is not there.
			if strings.Contains(r.Request.URL.Path, "/blobs/") && blobs.Add(1) == 2 {
				close(asked)
				<-goOn
			}
			return nil
		},
	})
	defer between.Close()
	auth := filepath.Join(t.TempDir(), "auth.json")
	must(t, os.WriteFile(auth, []byte("{}"), 0o600))
	pull := func() (string, error) {
		return q.podman(t, "pull", "--tls-verify=false", "--authfile", auth, strings.TrimPrefix(between.URL, "http://")+"/app:1")
	}
	type answer struct {
		out string
		err error
	}
	pulled := make(chan answer, 1)
	go func() {
		out, err := pull()
		pulled <- answer{out, err}
	}()
	select {
	case <-asked:
	case a := <-pulled:
		t.Fatalf("podman did not ask for the layer: %s %v", a.out, a.err)
	}
	_, err = q.again().Prune(ctx, false, nil, nil)
	must(t, err)
	if ids, err := q.again().LayerIDs(); err != nil || len(ids) > 0 {
		t.Errorf("layers %s are left: %v", ids, err)
	}
	close(goOn)
	if a := <-pulled; a.err == nil || !strings.Contains(a.out, "layer not known") {
		t.Errorf("podman says %s %v", a.out, a.err)
	}
	if got := q.problems(t, false); got != "" {
		t.Errorf("left: %q", got)
	}
	if out, err := pull(); err != nil {
		t.Errorf("the next pull: %s %v", out, err)
	}
	if got := q.problems(t, false); got != "" {
		t.Errorf("after the next pull: %q", got)
	}
}
