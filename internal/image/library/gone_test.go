package library_test

import (
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/imagetest"
	"github.com/cove-engine/cove/internal/image/registrytest"
)

// A registry that goes away in the middle of a layer: one line that names the
// image, nothing left, and all is well when it is there again.
func TestRegistryGone(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	p, ctx := newPlace(t), context.Background()
	big := small(t, "localhost/app:1")
	noise := make([]byte, 8<<20)
	_, _ = rand.Read(noise)
	big.Layers = append(big.Layers, imagetest.Layer(t, imagetest.Files{"noise": string(noise)}))
	p.mustLoad(t, big)
	_, err := p.Push(ctx, "localhost/app:1", reg.Addr+"/app:1", image.PushOptions{Transfer: noRetry()})
	must(t, err)

	// What stands between passes everything on, until the large layer is
	// half through.
	var mu sync.Mutex
	gone := false
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		dead := gone
		mu.Unlock()
		if dead {
			panic(http.ErrAbortHandler)
		}
		req, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+reg.Addr+r.URL.RequestURI(), nil)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		req.Header = r.Header.Clone()
		answer, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer answer.Body.Close()
		for k, v := range answer.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(answer.StatusCode)
		if r.Method == http.MethodGet && answer.ContentLength > 4<<20 {
			_, _ = io.CopyN(w, answer.Body, 3<<20)
			mu.Lock()
			gone = true
			mu.Unlock()
			panic(http.ErrAbortHandler)
		}
		_, _ = io.Copy(w, answer.Body)
	}))
	defer between.Close()

	q := newPlace(t)
	name := strings.TrimPrefix(between.URL, "http://") + "/app:1"
	_, err = q.Pull(ctx, name, image.PullOptions{Transfer: noRetry()})
	if err == nil {
		t.Fatal("pulled all the same")
	}
	if !gone {
		t.Error("the layer was not asked for")
	}
	if text := err.Error(); strings.Contains(text, "\n") || !strings.Contains(text, name) {
		t.Errorf("the message does not help: %v", err)
	}
	q.empty(t)
	_, err = q.Pull(ctx, reg.Addr+"/app:1", image.PullOptions{Transfer: noRetry()})
	must(t, err)
}
