package library_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/imagetest"
	"github.com/cove-engine/cove/internal/image/library"
	"github.com/cove-engine/cove/internal/image/registrytest"
)

// Bad images are refused with one clear line, and the store is as it was.
func TestBadLayouts(t *testing.T) {
	good := imagetest.Layer(t, imagetest.Files{"ok": "ok"})
	for name, damage := range map[string]func(path string) error{
		"truncated layer": func(path string) error { return os.Truncate(path, 60) },
		"other content": func(path string) error {
			return os.WriteFile(path, imagetest.Gzip(t, imagetest.Layer(t, imagetest.Files{"x": "evil"})), 0o600)
		},
		"not gzip":      func(path string) error { return os.WriteFile(path, []byte("garbage"), 0o600) },
		"layer missing": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			dir := t.TempDir()
			blobs := imagetest.OCILayout(t, dir, imagetest.Image{Name: "x:1", Layers: [][]byte{good, imagetest.Layer(t, imagetest.Files{"second": strings.Repeat("second ", 1000)})}})
			must(t, damage(blobs[1]))
			refused(t, p, dir)
		})
	}
	t.Run("diff ID wrong", func(t *testing.T) {
		p := newPlace(t)
		archive := imagetest.DockerArchive(t, imagetest.Image{Name: "x:1", Layers: [][]byte{good, imagetest.Layer(t, imagetest.Files{"q": "aaaa"})}})
		archive = bytes.ReplaceAll(archive, []byte("aaaa"), []byte("bbbb"))
		file := filepath.Join(t.TempDir(), "a.tar")
		must(t, os.WriteFile(file, archive, 0o600))
		refused(t, p, file)
	})
	t.Run("no image", func(t *testing.T) {
		p := newPlace(t)
		file := filepath.Join(t.TempDir(), "a.tar")
		must(t, os.WriteFile(file, []byte("this is no archive"), 0o600))
		refused(t, p, file)
		must(t, os.WriteFile(file, good, 0o600))
		refused(t, p, file)
		_, err := p.Load(context.Background(), file+".none", image.LoadOptions{})
		wantKind(t, err, cove.NoFile)
	})
}

func refused(t *testing.T, p place, source string) {
	t.Helper()
	_, err := p.Load(context.Background(), source, image.LoadOptions{})
	if err == nil {
		t.Fatal("loaded")
	}
	t.Log(err)
	if k := cove.KindOf(err); k != cove.Invalid && k != cove.NoFile {
		t.Errorf("kind %d: %v", k, err)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line")
	}
	p.LayerIDs() // opens the store if the refusal came before
	p.empty(t)
}

// Layers that try to leave their root: refused, or, where the library (and so
// podman) takes the path as one inside the layer's root, harmless.
func TestHostileLayers(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.Mkdir(outside, 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "victim"), []byte("untouched"), 0o644))
	up := "../../../../../../../../.." + outside
	file := func(name string) *tar.Header {
		return &tar.Header{Name: name, Mode: 0o644, Size: 4, Typeflag: tar.TypeReg}
	}
	mark := func(name string) *tar.Header { return &tar.Header{Name: name, Mode: 0o644, Typeflag: tar.TypeReg} }
	link := func(name, to string) *tar.Header {
		return &tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
	}
	hard := func(name, to string) *tar.Header {
		return &tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to}
	}
	with := func(h *tar.Header, records ...string) *tar.Header {
		h.Format, h.PAXRecords = tar.FormatPAX, map[string]string{}
		for i := 0; i < len(records); i += 2 {
			h.PAXRecords[records[i]] = records[i+1]
		}
		return h
	}
	for _, c := range []struct {
		name    string
		entries []*tar.Header
		refuse  bool
	}{
		{"dot dot", []*tar.Header{file(up + "/victim")}, false},
		{"through a symlink", []*tar.Header{link("link", outside), file("link/victim")}, true},
		{"through a relative symlink", []*tar.Header{link("link", up), file("link/victim")}, true},
		{"hard link out", []*tar.Header{hard("hard", up+"/victim")}, true},
		{"hard link through a symlink", []*tar.Header{link("link", outside), hard("hard", "link/victim")}, true},
		{"hard link to a symlink", []*tar.Header{link("link", outside+"/victim"), hard("hard", "link")}, false},
		{"a file twice", []*tar.Header{link("link", outside+"/victim"), file("link")}, true},
		{"through a hard link to a symlink", []*tar.Header{link("link", outside), hard("hard", "link"), file("hard/victim")}, true},
		{"root as a symlink", []*tar.Header{link("./", outside), file("victim")}, false},
		{"root as a file", []*tar.Header{file(".")}, false},
		{"whiteout of everything", []*tar.Header{mark(".wh..")}, true},
		{"whiteout of the parent", []*tar.Header{mark(".wh...")}, true},
		{"whiteout above", []*tar.Header{mark("a/../../../../.wh." + filepath.Base(outside))}, false},
		{"whiteout through a symlink", []*tar.Header{link("link", outside), mark("link/.wh.victim")}, true},
		{"opaque root", []*tar.Header{mark(".wh..wh..opq")}, false},
		{"opaque through a symlink", []*tar.Header{link("link", outside), mark("link/.wh..wh..opq")}, true},
		{"opaque as a symlink", []*tar.Header{link(".wh..wh..opq", outside)}, false},
		{"opaque as a hard link", []*tar.Header{hard(".wh..wh..opq", up+"/victim")}, false},
		{"device node", []*tar.Header{{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666}}, false},
		{"whiteout by its device", []*tar.Header{{Name: "base", Typeflag: tar.TypeChar, Mode: 0o666}}, false},
		{"PAX dot dot", []*tar.Header{with(file("x"), "htap", up+"/victim")}, false},
		{"PAX link out", []*tar.Header{with(hard("hard", "y"), "htapknil", up+"/victim")}, true},
		{"NUL in a name", []*tar.Header{with(file("x"), "htap", "a\x00b")}, true},
		{"NUL in a link", []*tar.Header{with(link("x", "y"), "htapknil", "a\x00b")}, true},
		{"a long name", []*tar.Header{file(strings.Repeat("a", 300))}, true},
		{"a long path", []*tar.Header{file(strings.Repeat("a/", 3000) + "f")}, true},
		{"no name for an attribute", []*tar.Header{with(file("x"), "SCHILY.xattr.", "v")}, true},
		{"an attribute of nobody's", []*tar.Header{with(file("x"), "SCHILY.xattr.nobodys.a", "v")}, false},
		{"a type of nobody's", []*tar.Header{{Name: "x", Typeflag: 'Z'}}, true},
	} {
		drivers := []string{"overlay"}
		if strings.Contains(c.name, "whiteout") || strings.Contains(c.name, "opaque") {
			drivers = append(drivers, "vfs") // deletes where overlay notes what is deleted
		}
		for _, driver := range drivers {
			t.Run(c.name+" "+driver, func(t *testing.T) {
				p := newPlace(t, func(o *image.Options) { o.Driver = driver })
				bodies := make([][]byte, len(c.entries))
				for i, h := range c.entries {
					bodies[i] = []byte("evil")[:h.Size]
				}
				layer := imagetest.Tar(t, c.entries, bodies)
				// The library that writes it refuses these keys.
				layer = bytes.ReplaceAll(layer, []byte("htapknil"), []byte("linkpath"))
				layer = bytes.ReplaceAll(layer, []byte("htap"), []byte("path"))
				archive := filepath.Join(t.TempDir(), "a.tar")
				must(t, os.WriteFile(archive, imagetest.DockerArchive(t, imagetest.Image{Name: "x:1",
					Layers: [][]byte{imagetest.Layer(t, imagetest.Files{"base": "base"}), layer}}), 0o600))
				_, err := p.Load(context.Background(), archive, image.LoadOptions{})
				t.Logf("%v", err)
				if err != nil {
					wantKind(t, err, cove.Invalid)
					if strings.Contains(err.Error(), "\n") {
						t.Error("more than one line")
					}
					if driver == "overlay" {
						p.empty(t)
					}
				} else if _, err := p.Resolve(context.Background(), "x:1", ""); err != nil {
					t.Error(err)
				}
				if driver == "overlay" && (err != nil) != c.refuse {
					t.Errorf("refused: %v, want %v", err, c.refuse)
				}
				if got, err := os.ReadFile(filepath.Join(outside, "victim")); err != nil || string(got) != "untouched" {
					t.Fatalf("outside the layer: %q %v", got, err)
				}
			})
		}
	}
}

// A layer whose files lie elsewhere than its archive's names say, on the host or
// inside: to save it is to get the same layer again, and never the host's files.
func TestSaveConfined(t *testing.T) {
	file := func(name, body string) *tar.Header {
		return &tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), Typeflag: tar.TypeReg}
	}
	link := func(name, to string) *tar.Header {
		return &tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
	}
	etc := &tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755}
	for name, c := range map[string]struct {
		entries []*tar.Header
		refuse  bool
	}{
		"through a link": {[]*tar.Header{etc, link("l", "/etc"), file("l/passwd", "evil")}, false},
		"dot dot":        {[]*tar.Header{file("../../../../../../../../../../../etc/passwd", "evil")}, false},
		"a FIFO":         {[]*tar.Header{etc, {Name: "etc/f", Typeflag: tar.TypeFifo}, file("x/f", ""), link("x", "etc")}, false},
		"a FIFO's bytes": {[]*tar.Header{file("x/f", "evil"), etc, {Name: "etc/f", Typeflag: tar.TypeFifo}, link("x", "etc")}, true},
	} {
		for _, driver := range []string{"overlay", "vfs"} {
			t.Run(name+" "+driver, func(t *testing.T) { saveConfined(t, driver, c.entries, c.refuse) })
		}
	}
}

func saveConfined(t *testing.T, driver string, entries []*tar.Header, refuse bool) {
	bodies := make([][]byte, len(entries))
	for i, h := range entries {
		if h.Size > 0 {
			bodies[i] = []byte("evil")
		}
	}
	p, q, ctx := newPlace(t, func(o *image.Options) { o.Driver = driver }), newPlace(t), context.Background()
	img := imagetest.Image{Name: "localhost/odd:1", Layers: [][]byte{imagetest.Tar(t, entries, bodies)}}
	p.mustLoad(t, img)
	saved := filepath.Join(t.TempDir(), "saved.tar")
	err := p.Save(ctx, []string{img.Name}, image.SaveOptions{Output: saved})
	t.Log(err)
	if (err != nil) != refuse {
		t.Fatalf("refused: %v, want %v", err, refuse)
	}
	if refuse {
		return
	}
	_, err = q.Load(ctx, saved, image.LoadOptions{})
	must(t, err)
	if got, err := q.Resolve(ctx, img.Name, ""); err != nil || got.ID != img.ID(t) {
		t.Errorf("saved and loaded: %v %v", got.ID, err)
	}
}

// An image that the library refuses when it has stored it.
func TestRefusedAfterwards(t *testing.T) {
	p := newPlace(t)
	dir := t.TempDir()
	imagetest.OCILayout(t, dir, imagetest.Image{Name: "x:1", OS: "../odd", Layers: [][]byte{imagetest.Layer(t, imagetest.Files{"ok": "ok"})}})
	_, err := p.Pull(context.Background(), "oci:"+dir, image.PullOptions{})
	t.Log(err)
	if err == nil {
		t.Error("pulled")
	}
	p.empty(t)
}

// A registry that serves other bytes than the digest promises.
func TestRegistryLies(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	p, ctx := newPlace(t), context.Background()
	p.mustLoad(t, small(t, "localhost/app:1"))
	_, err := p.Push(ctx, "localhost/app:1", reg.Addr+"/app:1", image.PushOptions{Transfer: noRetry()})
	must(t, err)
	blobs, err := filepath.Glob(filepath.Join(reg.Storage, "docker/registry/v2/blobs/sha256/*/*/data"))
	must(t, err)
	changed := 0
	for _, b := range blobs {
		data, err := os.ReadFile(b)
		must(t, err)
		if bytes.HasPrefix(data, []byte("{")) {
			continue // manifest or configuration
		}
		data[len(data)/2] ^= 1
		must(t, os.WriteFile(b, data, 0o600))
		changed++
	}
	if changed == 0 {
		t.Fatal("no layers found")
	}
	q := newPlace(t)
	_, err = q.Pull(ctx, reg.Addr+"/app:1", image.PullOptions{Transfer: noRetry()})
	wantKind(t, err, cove.Invalid)
	t.Log(err)
	q.empty(t)
}

// A full disk: a clear error, and room again afterwards.
func TestFullDisk(t *testing.T) {
	noise := make([]byte, 8<<20)
	rand.Read(noise)
	tooBig(t, imagetest.Image{Layers: [][]byte{imagetest.Layer(t, imagetest.Files{"noise": string(noise)})}})
}

// Layers of a few kilobytes that fill any disk: podman has no limit for them
// either, so what counts is that a full disk stays as it was.
func TestBombs(t *testing.T) {
	zeros := imagetest.Layer(t, imagetest.Files{"zeros": string(make([]byte, 64<<20))})
	// A header for a file of 64 MiB, or of a pebibyte, without a byte in it. The
	// library that writes it knows no sparse files; their records are not in its
	// checksum.
	sparse := imagetest.Tar(t, []*tar.Header{{Name: "sparse", Typeflag: tar.TypeReg, Size: 513, Format: tar.FormatPAX, PAXRecords: map[string]string{
		"ABC.sparse.major": "1", "ABC.sparse.minor": "0", "ABC.sparse.name": "big", "ABC.sparse.realsize": "0000000067108864",
	}}}, [][]byte{append([]byte("1\n0\n1\n"), make([]byte, 507)...)})
	sparse = bytes.ReplaceAll(sparse, []byte("ABC.sparse"), []byte("GNU.sparse"))
	for name, layer := range map[string][]byte{
		"gzip": zeros, "sparse": sparse, "petabyte": bytes.ReplaceAll(sparse, []byte("0000000067108864"), []byte("1125899906842624")),
	} {
		t.Run(name, func(t *testing.T) { tooBig(t, imagetest.Image{Layers: [][]byte{layer}}) })
	}
	t.Run("zstd", func(t *testing.T) {
		tooBig(t, imagetest.Image{Layers: [][]byte{zeros}}, func(l layout, p place) {
			l.change(func(_, _, last object) {
				l.put(last, compressed(t, p, zeros))
				last["mediaType"] = ociLayer + "+zstd"
			})
		})
	})
}

// Whoever ends a load in the middle of a layer has the store as it was.
func TestEndedInLayer(t *testing.T) {
	dir := t.TempDir()
	imagetest.OCILayout(t, dir, imagetest.Image{Name: "x:1", Layers: [][]byte{imagetest.Layer(t, imagetest.Files{"ok": "ok"}),
		imagetest.Layer(t, imagetest.Files{"zeros": string(make([]byte, 128<<20))})}})
	for range 20 { // a load may be done before it is told to end
		if endedInLayer(t, dir) {
			return
		}
	}
	t.Error("no load was ended")
}

// endedInLayer loads an image from dir and ends that once its second layer is being
// unpacked, which may be too late.
func endedInLayer(t *testing.T, dir string) bool {
	p := newPlace(t)
	ctx, end := context.WithCancel(context.Background())
	defer end()
	ended := make(chan time.Time, 1)
	go func() {
		for found := false; !found; time.Sleep(time.Millisecond) {
			// It is unpacked elsewhere than it is in the end.
			_ = filepath.WalkDir(p.opts.GraphRoot, func(path string, _ fs.DirEntry, _ error) error {
				found = found || filepath.Base(path) == "zeros"
				return nil
			})
		}
		ended <- time.Now()
		end()
	}()
	_, err := p.Load(ctx, dir, image.LoadOptions{})
	if err == nil {
		<-ended
		return false
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	t.Logf("%v later: %v", time.Since(<-ended), err)
	awaitLeftBehind(t)
	p.empty(t)
	return true
}

// awaitLeftBehind waits for the end of what was left behind when its time was over.
func awaitLeftBehind(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 4<<20)
	for end := time.Now().Add(time.Minute); bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("library.soon")); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("what was left behind does not end")
		}
	}
}

// Whoever ends a load does not wait for what heeds nobody.
func TestEndedInVain(t *testing.T) {
	p := newPlace(t)
	dir := t.TempDir()
	blobs := imagetest.OCILayout(t, dir, imagetest.Image{Name: "x:1", Layers: [][]byte{imagetest.Layer(t, imagetest.Files{"ok": "ok"})}})
	must(t, os.Remove(blobs[0]))
	must(t, syscall.Mkfifo(blobs[0], 0o600))
	t.Cleanup(func() { // the load that was left behind is to end, too, before its directories go
		if f, err := os.OpenFile(blobs[0], os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
			_ = f.Close()
		}
		awaitLeftBehind(t)
	})
	ctx, end := context.WithTimeout(context.Background(), time.Second)
	defer end()
	ended := make(chan error, 1)
	go func() {
		_, err := p.Load(ctx, dir, image.LoadOptions{})
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it waits")
	}
}

// tooBig loads an image that does not fit into a store of 4 MiB, and then one
// that does.
func tooBig(t *testing.T, big imagetest.Image, change ...func(layout, place)) {
	t.Helper()
	p, ctx := newPlace(t), context.Background()
	must(t, os.Mkdir(p.opts.GraphRoot, 0o700))
	if err := syscall.Mount("tmpfs", p.opts.GraphRoot, "tmpfs", 0, "size=4m"); err != nil {
		t.Skip("cannot mount a small tmpfs: ", err)
	}
	t.Cleanup(func() { syscall.Unmount(p.opts.GraphRoot, syscall.MNT_DETACH) })
	dir := t.TempDir()
	big.Layers = append(small(t, "").Layers, big.Layers...)
	imagetest.OCILayout(t, dir, big)
	for _, c := range change {
		c(layout{t, dir}, p)
	}
	_, err := p.Load(ctx, dir, image.LoadOptions{})
	wantKind(t, err, cove.Unavailable)
	t.Log(err)
	p.empty(t)
	p.mustLoad(t, small(t, "example.org/small:1"))
	if _, err := p.Resolve(ctx, "example.org/small:1", ""); err != nil {
		t.Error(err)
	}
}

// A registry that breaks off in the middle of a layer, each time it is asked.
func TestRegistryBreaksOff(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	p, ctx := newPlace(t), context.Background()
	big := small(t, "localhost/app:1")
	noise := make([]byte, 1<<20)
	rand.Read(noise)
	big.Layers = append(big.Layers, imagetest.Layer(t, imagetest.Files{"noise": string(noise)}))
	p.mustLoad(t, big)
	_, err := p.Push(ctx, "localhost/app:1", reg.Addr+"/app:1", image.PushOptions{Transfer: noRetry()})
	must(t, err)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: reg.Addr})
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	proxy.ModifyResponse = func(r *http.Response) error {
		if r.ContentLength > 1<<19 {
			r.Body = struct {
				io.Reader
				io.Closer
			}{io.LimitReader(r.Body, 1<<18), r.Body}
		}
		return nil
	}
	server := httptest.NewServer(proxy)
	defer server.Close()
	q := newPlace(t)
	_, err = q.Pull(ctx, strings.TrimPrefix(server.URL, "http://")+"/app:1", image.PullOptions{Transfer: noRetry()})
	wantKind(t, err, cove.Unavailable)
	t.Log(err)
	q.empty(t)
}

// A copy that fails takes its own layers back, and none of those that another
// tool's copy has made in the meantime.
func TestOthersLayersStay(t *testing.T) {
	p := newPlace(t)
	dir := t.TempDir()
	blobs := imagetest.OCILayout(t, dir, imagetest.Image{Name: "x:1", Layers: [][]byte{
		imagetest.Layer(t, imagetest.Files{"ok": "ok"}), imagetest.Layer(t, imagetest.Files{"q": "q"})}})
	must(t, os.WriteFile(blobs[1], []byte("garbage"), 0o600))
	other := p.again()
	var theirs string
	_, err := p.Load(context.Background(), dir, image.LoadOptions{Progress: writerFunc(func() {
		if theirs == "" {
			var err error
			theirs, err = other.MakeLayer("", "")
			must(t, err)
		}
	})})
	if err == nil || theirs == "" {
		t.Fatalf("the load did not fail (%v), or told of no progress", err)
	}
	ids, err := p.again().LayerIDs()
	must(t, err)
	if len(ids) != 1 || ids[0] != theirs {
		t.Errorf("left: %v, want %s", ids, theirs)
	}
}

// writerFunc is called for every write.
type writerFunc func()

func (f writerFunc) Write(p []byte) (int, error) { f(); return len(p), nil }

// A copy of an image that was there before fails when all but its names is written:
// the library takes the image back, which is not the copy's. Or it fails before.
func TestFailedCopyOfImageThatIsThere(t *testing.T) {
	p := newPlace(t)
	img := small(t, "example.org/app:1")
	p.mustLoad(t, img)
	var logged bytes.Buffer
	level := logrus.GetLevel()
	logrus.SetOutput(&logged)
	logrus.SetLevel(logrus.WarnLevel) // the program's own
	defer func() { logrus.SetOutput(os.Stderr); logrus.SetLevel(level) }()
	file := filepath.Join(t.TempDir(), "image.tar")
	must(t, os.WriteFile(file, imagetest.DockerArchive(t, img), 0o600))
	for _, fail := range []func(*library.Store){(*library.Store).FailNames, (*library.Store).FailData} {
		failing := p.again()
		fail(failing)
		if _, err := failing.Load(t.Context(), file, image.LoadOptions{}); !errors.Is(err, syscall.EIO) {
			t.Fatalf("the load has not failed: %v", err)
		}
		if got := p.problems(t, false); got != "" {
			t.Errorf("damaged: %s", got)
		}
	}
	if logged.Len() > 0 {
		t.Errorf("logged beside the error: %s", &logged)
	}
	if ok, err := p.again().Exists(img.Name); err != nil || !ok {
		t.Errorf("the image is gone: %v", err)
	}
}
