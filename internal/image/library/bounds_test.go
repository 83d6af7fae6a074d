package library_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/imagetest"
)

// endless sends without end, from one moment to the next.
func endless(w http.ResponseWriter, pause time.Duration) {
	some := bytes.Repeat([]byte("a"), 4<<20)
	for err := error(nil); err == nil; time.Sleep(pause) {
		_, err = w.Write(some)
	}
}

// The answers that the libraries read to their end, whatever the registry sends.
func TestRegistryFloods(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v2/" && r.Header.Get("Authorization") != "":
			w.WriteHeader(http.StatusBadRequest)
		case r.URL.Path == "/v2/":
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		case strings.HasSuffix(r.URL.Path, "/tags/list"):
			fmt.Fprint(w, `{"tags":["`)
		default:
			w.WriteHeader(http.StatusBadRequest)
		}
		endless(w, 0)
	}))
	defer server.Close()
	addr := strings.TrimPrefix(server.URL, "http://")
	for name, f := range map[string]func(context.Context, place) error{
		"manifest": func(ctx context.Context, p place) error {
			_, err := p.Pull(ctx, addr+"/x", image.PullOptions{Transfer: noRetry()})
			return err
		},
		"tags": func(ctx context.Context, p place) error {
			_, err := p.Pull(ctx, addr+"/x", image.PullOptions{Transfer: noRetry(), AllTags: true})
			return err
		},
		"login": func(ctx context.Context, p place) error {
			return p.Login(ctx, addr, image.LoginOptions{TLSVerify: no(), User: "u", Password: "p", Stdout: io.Discard})
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, func(o *image.Options) { o.MaxHeap = 64 << 20 })
			ctx, end := context.WithTimeout(context.Background(), time.Minute)
			defer end()
			err := f(ctx, p)
			t.Log(err)
			wantKind(t, err, cove.Invalid)
			if err == nil || !strings.Contains(err.Error(), addr) {
				t.Errorf("it does not say who: %v", err)
			}
		})
	}
}

// A registry that has more for a blob than there is room for leaves some to others.
func TestRegistryFillsDisk(t *testing.T) {
	layer := digest.FromString("layer")
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, layer)
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
		"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":%d,"digest":%q},
		"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","size":5,"digest":%q}]}`, len(config), digest.FromString(config), layer)
	for _, size := range []string{"", "1099511627776"} {
		t.Run("size "+size, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case strings.Contains(r.URL.Path, "/manifests/"):
					w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
					fmt.Fprint(w, manifest)
				case strings.HasSuffix(r.URL.Path, layer.String()):
					if size != "" {
						w.Header().Set("Content-Length", size)
					}
					endless(w, 400*time.Millisecond)
				case strings.Contains(r.URL.Path, "/blobs/"):
					fmt.Fprint(w, config)
				}
			}))
			defer server.Close()
			tmp := smallDir(t)
			p := newPlace(t, func(o *image.Options) { o.TmpDir = tmp })
			most := int64(0)
			ctx, end := context.WithTimeout(context.Background(), time.Minute)
			defer end()
			watched := make(chan struct{})
			go func() {
				defer close(watched)
				for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
					files, _ := filepath.Glob(tmp + "/*/*/*")
					for _, f := range files {
						if info, err := os.Stat(f); err == nil {
							most = max(most, info.Size())
						}
					}
				}
			}()
			_, err := p.Pull(ctx, strings.TrimPrefix(server.URL, "http://")+"/x", image.PullOptions{Transfer: noRetry()})
			end()
			<-watched
			t.Logf("%d MiB: %v", most>>20, err)
			wantKind(t, err, cove.Unavailable)
			if !errors.Is(err, syscall.ENOSPC) || most == 0 && size == "" || most > 70<<20 {
				t.Errorf("%d bytes were kept: %v", most, err)
			}
			p.empty(t)
		})
	}
}

// smallDir has room for 80 MiB.
func smallDir(t *testing.T) string {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=80m"); err != nil {
		t.Skip("cannot mount a small tmpfs: ", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// A server's refusal is no image, and neither is what has no end.
func TestImportFromHostileServer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good":
			_, _ = w.Write(imagetest.Layer(t, imagetest.Files{"ok": "ok"}))
		case "/endless":
			endless(w, 0)
		case "/big":
			w.Header().Set("Content-Length", "1099511627776")
			endless(w, 0)
		default: // with a body that would do
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write(imagetest.Layer(t, imagetest.Files{"ok": "ok"}))
		}
	}))
	defer server.Close()
	for path, want := range map[string]string{"good": "", "none": "404 Not Found", "endless": "does not say its size", "big": "bytes more"} {
		t.Run(path, func(t *testing.T) {
			tmp := smallDir(t)
			p := newPlace(t, func(o *image.Options) { o.TmpDir = tmp })
			ctx, end := context.WithTimeout(context.Background(), time.Minute)
			defer end()
			_, err := p.Import(ctx, server.URL+"/"+path, image.ImportOptions{Reference: "x"})
			t.Log(err)
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("want %q", want)
			}
			var fs syscall.Statfs_t
			must(t, syscall.Statfs(tmp, &fs))
			if fs.Bfree < fs.Blocks*9/10 {
				t.Errorf("%d of %d blocks are left", fs.Bfree, fs.Blocks)
			}
		})
	}
}
