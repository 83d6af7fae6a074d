package library_test

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/imagetest"
)

// entries makes a layer: paths with a slash at the end are directories.
func entries(t *testing.T, names ...string) []byte {
	var all []*tar.Header
	var bodies [][]byte
	for _, name := range names {
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o640, Uid: 7, Gid: 8, Size: 2}
		if strings.HasSuffix(name, "/") {
			h.Typeflag, h.Mode, h.Size = tar.TypeDir, 0o3751, 0
			h.PAXRecords = map[string]string{"SCHILY.xattr.user.kept": name}
		}
		if strings.HasPrefix(filepath.Base(name), ".wh.") {
			h.Size = 0
		}
		all, bodies = append(all, h), append(bodies, []byte("hi")[:h.Size])
	}
	return imagetest.Tar(t, all, bodies)
}

// marked is an image whose layers delete in every way there is.
func marked(t *testing.T) imagetest.Image {
	return imagetest.Image{Name: "localhost/marked:1", Layers: [][]byte{
		entries(t, "a/", "a/one", "a/two", "b/", "b/x", "b/deep/", "b/deep/y", "c/", "c/deep/", "c/deep/z", "keep/", "keep/k", "file", "odd\xff/", "odd\xff/gone"),
		entries(t, "a/", "a/.wh.one", "b/", "b/.wh..wh..opq", "b/new", "b/deep/", "b/deep/.wh.y", "odd\xff/", "odd\xff/.wh.gone", "keep/", "keep/.wh.never"),
		entries(t, ".wh.c", ".wh.file", "file/", "file/in", "only/", "only/.wh.nothing"),
		entries(t, "c/", "c/again", "a/", "a/three"),
	}}
}

// What a container sees of layers that were unpacked for a mount program is what
// it sees of the same layers unpacked for the kernel.
func TestMarkers(t *testing.T) {
	ctx, img := context.Background(), marked(t)
	want := newPlace(t)
	want.mustLoad(t, img)
	native, err := want.Resolve(ctx, img.Name, "")
	must(t, err)

	p := newPlace(t, func(o *image.Options) { o.DriverOptions = []string{"overlay.mount_program=/bin/true"} })
	p.mustLoad(t, img)
	got, err := p.Resolve(ctx, img.Name, "")
	must(t, err)
	if len(got.Layers) != 8 { // two layers have markers
		t.Fatalf("%q", got.Layers)
	}
	if n := image.Uppermost(got.Layers); n != 1 {
		t.Errorf("%d directories are the uppermost layer", n)
	}
	if n := image.Uppermost(got.Layers[1:]); n != 3 {
		t.Errorf("%d directories are the next layer", n)
	}
	a, b := seen(t, want, native.Layers), seen(t, p, got.Layers)
	if !maps.Equal(a, b) {
		for _, name := range slices.Sorted(maps.Keys(b)) {
			if a[name] != b[name] {
				t.Errorf("%q: %q, want %q", name, b[name], a[name])
			}
		}
		for name := range a {
			if _, there := b[name]; !there {
				t.Errorf("%q is not there", name)
			}
		}
	}
	if len(a) < 10 {
		t.Errorf("too little to compare: %v", a)
	}

	// The store stays as it was made, when storage.conf says nothing any more.
	plain := p.opts
	plain.DriverOptions = nil
	again, err := place{opts: plain}.again().Resolve(ctx, img.Name, "")
	must(t, err)
	if !slices.Equal(again.Layers, got.Layers) {
		t.Errorf("without the option: %q", again.Layers)
	}

	// They go with the image, and those of killed makers with them.
	dir := filepath.Join(p.opts.GraphRoot, image.MarkersDir)
	must(t, os.MkdirAll(filepath.Join(dir, ".new-1", "above"), 0o700))
	found, err := p.Check(ctx, noUsers)
	must(t, err)
	if len(found) != 1 || !strings.HasSuffix(found[0].Object, ".new-1") {
		t.Errorf("check: %+v", found)
	}
	_, err = p.Remove(ctx, []string{img.Name}, image.RemoveOptions{}, nil)
	must(t, err)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// seen lists what an overlay of the layers shows.
func seen(t *testing.T, p place, layers []string) map[string]string {
	t.Helper()
	var lower []string
	for _, l := range layers {
		lower = append(lower, filepath.Join(p.opts.GraphRoot, l))
	}
	at := t.TempDir()
	if err := syscall.Mount("overlay", at, "overlay", syscall.MS_RDONLY, "lowerdir="+strings.Join(lower, ":")); err != nil {
		t.Fatal(lower, err)
	}
	defer syscall.Unmount(at, syscall.MNT_DETACH)
	all := map[string]string{}
	must(t, filepath.WalkDir(at, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return ignoring(err, unix.ENOENT) // the kernel lists deletions of what never was
		}
		if path == at {
			st.Mtim = unix.Timespec{} // when it was made
		}
		value := make([]byte, 100)
		n, err := unix.Lgetxattr(path, "user.kept", value)
		if err != nil && !errors.Is(err, unix.ENODATA) {
			return err
		}
		all[strings.TrimPrefix(path, at)] = fmt.Sprintf("%o %d:%d %v %q", st.Mode, st.Uid, st.Gid, st.Mtim, value[:max(n, 0)])
		return nil
	}))
	return all
}

func ignoring(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

// To hide all that is below the root is beyond the kernel's overlay, and so is it
// here.
func TestMarkerOfAll(t *testing.T) {
	img := imagetest.Image{Name: "localhost/all:1", Layers: [][]byte{entries(t, "old", "a/", "a/b"), entries(t, ".wh..wh..opq", "new")}}
	var shown []string
	for _, options := range [][]string{nil, {"overlay.mount_program=/bin/true"}} {
		p := newPlace(t, func(o *image.Options) { o.DriverOptions = options })
		p.mustLoad(t, img)
		got, err := p.Resolve(context.Background(), img.Name, "")
		must(t, err)
		shown = append(shown, fmt.Sprint(slices.Sorted(maps.Keys(seen(t, p, got.Layers)))))
	}
	if shown[0] != shown[1] {
		t.Errorf("%s, want %s", shown[1], shown[0])
	}
}

// Where the markers of a layer cannot be told to the kernel the image is not shown
// without its deletions.
func TestMarkersWithoutRoom(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount")
	}
	p := newPlace(t, func(o *image.Options) { o.DriverOptions = []string{"overlay.mount_program=/bin/true"} })
	img := marked(t)
	p.mustLoad(t, img)
	dir := filepath.Join(p.opts.GraphRoot, image.MarkersDir)
	must(t, os.MkdirAll(dir, 0o700))
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "nr_inodes=2")) // itself and a lock
	_, err := p.Resolve(context.Background(), img.Name, "")
	must(t, unix.Unmount(dir, unix.MNT_DETACH))
	if err == nil || !strings.Contains(err.Error(), "deletions of layer") {
		t.Errorf("got %v", err)
	}
	_, err = p.Resolve(context.Background(), img.Name, "")
	must(t, err)
}

// Files whose owners and modes are a mount program's to show are not shown as they
// lie there.
func TestForceMaskLayers(t *testing.T) {
	img, ctx := small(t, "localhost/masked:1"), context.Background()
	p := newPlace(t, func(o *image.Options) {
		o.DriverOptions = []string{"overlay.mount_program=/bin/true", "overlay.force_mask=shared"}
	})
	p.mustLoad(t, img)
	_, err := p.Resolve(ctx, img.Name, "")
	wantKind(t, err, cove.Unsupported)
	p.opts.DriverOptions = nil
	_, err = p.again().Resolve(ctx, img.Name, "")
	wantKind(t, err, cove.Unsupported)
	if err == nil || !strings.Contains(err.Error(), "force_mask") {
		t.Error(err)
	}
}

// Where containers could not write, a mount program is not done without.
func TestMountProgramNeeded(t *testing.T) {
	p := newPlace(t, func(o *image.Options) { o.DriverOptions = []string{"overlay.mount_program=/bin/true"} })
	lower := t.TempDir()
	must(t, os.MkdirAll(p.opts.GraphRoot, 0o700))
	upper, work := t.TempDir(), t.TempDir()
	if err := syscall.Mount("overlay", p.opts.GraphRoot, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work)); err != nil {
		t.Skip("no overlay can be mounted here: ", err)
	}
	t.Cleanup(func() { syscall.Unmount(p.opts.GraphRoot, syscall.MNT_DETACH) })
	p.mustLoad(t, small(t, "localhost/app:1"))
	_, err := p.Resolve(context.Background(), "localhost/app:1", "")
	wantKind(t, err, cove.Unsupported)
	if err == nil || !strings.Contains(err.Error(), "mount_program=/bin/true") {
		t.Error(err)
	}
}
