package library_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/imagetest"
	"github.com/cove-engine/cove/internal/image/registrytest"
)

// configured is a store that containers.conf has something to say about.
func configured(t *testing.T, text string, change ...func(*image.Options)) place {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "containers.conf")
	must(t, os.WriteFile(conf, []byte("[engine]\n"+text), 0o600))
	t.Setenv("CONTAINERS_CONF", conf)
	return newPlace(t, change...)
}

// TestConfiguredCompression pushes by containers.conf's compression_format and
// compression_level.
func TestConfiguredCompression(t *testing.T) {
	words := imagetest.Layer(t, imagetest.Files{"words": strings.Repeat("one two three four five six seven eight nine ten ", 20000) + strings.Repeat("abcdefghijklmnopqrstuvwxyz", 999)})
	layer := func(text string) []byte {
		p := configured(t, text)
		p.mustLoad(t, imagetest.Image{Name: "localhost/words:1", Layers: [][]byte{words}, Cmd: []string{"true"}})
		dir := filepath.Join(t.TempDir(), "oci")
		_, err := p.Push(context.Background(), "localhost/words:1", "oci:"+dir, image.PushOptions{})
		must(t, err)
		blobs, err := filepath.Glob(dir + "/blobs/sha256/*")
		must(t, err)
		for _, name := range blobs {
			blob, err := os.ReadFile(name)
			must(t, err)
			if len(blob) > 0 && blob[0] != '{' {
				return blob
			}
		}
		t.Fatal("no layer")
		return nil
	}
	gzip, zstd := []byte{0x1f, 0x8b}, []byte{0x28, 0xb5, 0x2f, 0xfd}
	if got := layer(""); !bytes.HasPrefix(got, gzip) {
		t.Errorf("by default % x", got[:4])
	}
	if got := layer(`compression_format = "zstd"`); !bytes.HasPrefix(got, zstd) {
		t.Errorf("compression_format zstd: % x", got[:4])
	}
	least, most := layer("compression_level = 1"), layer("compression_level = 9")
	if len(least) <= len(most) {
		t.Errorf("compression_level 1 gives %d bytes, 9 gives %d", len(least), len(most))
	}
}

// TestConfiguredRetries counts how often a registry that fails is asked, with
// retry, and how long that takes, with retry_delay: without, the first retry comes
// after a second.
func TestConfiguredRetries(t *testing.T) {
	for _, test := range []struct {
		text  string
		asked int
		at    time.Duration // at least
	}{
		{"retry = 0\n", 1, 0},
		{"retry = 1\nretry_delay = \"2s\"\n", 2, 2 * time.Second},
		{"retry = 5\nretry_delay = \"1ms\"\n", 6, 0},
	} {
		asked := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/manifests/") {
				asked++
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
		defer server.Close()
		p := configured(t, test.text)
		began := time.Now()
		_, err := p.Pull(context.Background(), strings.TrimPrefix(server.URL, "http://")+"/app:1", image.PullOptions{Transfer: image.Transfer{TLSVerify: no()}})
		took := time.Since(began)
		if err == nil || asked != test.asked {
			t.Errorf("%q: asked %d times, %v", test.text, asked, err)
		}
		// Five retries with the default's delays would take 31 seconds.
		if took < test.at || took > 30*time.Second {
			t.Errorf("%q: after %s", test.text, took)
		}
	}
}

// TestConfiguredParallel counts how many layers are fetched at a time.
func TestConfiguredParallel(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	img := imagetest.Image{Name: "localhost/many:1", Cmd: []string{"true"}}
	for i := range 5 {
		img.Layers = append(img.Layers, imagetest.Layer(t, imagetest.Files{fmt.Sprint("file", i): "text"}))
	}
	from := newPlace(t)
	from.mustLoad(t, img)
	_, err := from.Push(context.Background(), "localhost/many:1", reg.Addr+"/many:1", image.PushOptions{Transfer: noRetry()})
	must(t, err)
	// Each layer is kept until another is asked for, or for as long as that.
	most := func(text string, long time.Duration) int {
		var mu sync.Mutex
		now, most := 0, 0
		two := make(chan struct{})
		proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: reg.Addr})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/blobs/") && !strings.HasSuffix(r.URL.Path, img.ID(t)) { // not the configuration
				mu.Lock()
				if now++; now == 2 && most < 2 {
					close(two)
				}
				most = max(most, now)
				mu.Unlock()
				select {
				case <-two:
				case <-time.After(long):
				}
				defer func() { mu.Lock(); now--; mu.Unlock() }()
			}
			proxy.ServeHTTP(w, r)
		}))
		defer server.Close()
		p := configured(t, text)
		_, err := p.Pull(context.Background(), strings.TrimPrefix(server.URL, "http://")+"/many:1", image.PullOptions{Transfer: noRetry()})
		must(t, err)
		return most
	}
	if got := most("image_parallel_copies = 1", 100*time.Millisecond); got != 1 {
		t.Errorf("image_parallel_copies = 1: %d at a time", got)
	}
	if got := most("", time.Minute); got < 2 {
		t.Errorf("by default %d at a time", got)
	}
}
