package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	conf "go.podman.io/common/pkg/config"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/config"
	"github.com/cove-engine/cove/internal/event"
	"github.com/cove-engine/cove/internal/lock/file"
	"github.com/cove-engine/cove/internal/state"
	"github.com/cove-engine/cove/internal/state/memory"
)

// copyEngine is an engine that has no rooms but a store and locks, with one
// image of two layers.
func copyEngine(t *testing.T) *Engine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	c := &config.Config{File: &conf.Config{}, GraphRoot: t.TempDir(), RunRoot: t.TempDir()}
	e := New(c, Parts{Store: memory.Open(), Locks: file.New(c.Locks()), Events: event.None{}})
	okay(t, e.prepareHome())
	for name, content := range map[string]string{
		"bottom/etc/passwd": "root:x:0:0::/root:/bin/sh\napp:x:1234:2345::/:/bin/sh\n", "bottom/etc/group": "root:x:0:\nstaff:x:50:\n",
		"bottom/data/a": "from a", "bottom/data/sub/deep": "deep", "top/data/b": "from b", "bottom/etc/gone": "", "bottom/hidden/x": "x", "bottom/empty/.keep": "",
	} {
		put(t, filepath.Join(c.GraphRoot, name), content)
	}
	data := filepath.Join(c.GraphRoot, "top/data")
	okay(t, errors.Join(os.Chown(data, 1234, 2345), os.Chmod(data, 0o750), os.Link(data+"/b", data+"/hard"),
		os.Symlink("/etc/passwd", data+"/link"), unix.Setxattr(data+"/b", "user.key", []byte("value"), 0),
		os.Remove(filepath.Join(c.GraphRoot, "bottom/empty/.keep"))))
	return e
}

func okay(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, name, content string) {
	t.Helper()
	okay(t, os.MkdirAll(filepath.Dir(name), 0o755))
	okay(t, os.WriteFile(name, []byte(content), 0o644))
}

// record makes a container of the image, with its volumes.
func record(t *testing.T, e *Engine, name string, change func(*cove.Container)) *cove.Container {
	t.Helper()
	c := &cove.Container{Schema: cove.Schema, ID: newID(), Name: name, Created: time.Now(), Image: cove.ImageConfig{Layers: []string{"top", "bottom"}}}
	if change != nil {
		change(c)
	}
	okay(t, e.update(func(tx state.Tx) error {
		if err := tx.Claim(state.Containers, c.Name, c.ID); err != nil {
			return err
		}
		for _, m := range c.Mounts {
			if m.Type == "volume" {
				if _, err := ensureVolume(tx, &cove.Volume{Schema: cove.Schema, Name: m.Source, NeedsCopyUp: true}); err != nil {
					return err
				}
			}
		}
		return tx.Put(state.Containers, c.ID, c)
	}))
	okay(t, e.makeDir(c))
	return c
}

// unpacked reads a tar stream: names to content or link target.
func unpacked(t *testing.T, r io.Reader) (names []string, all map[string]string) {
	t.Helper()
	all = map[string]string{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return names, all
		}
		okay(t, err)
		data, err := io.ReadAll(tr)
		okay(t, err)
		names = append(names, h.Name)
		all[h.Name] = string(data) + h.Linkname
	}
}

func packed(t *testing.T, headers ...tar.Header) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		content := h.Linkname
		if h.Typeflag == tar.TypeReg {
			h.Linkname, h.Size = "", int64(len(content))
		}
		okay(t, w.WriteHeader(&h))
		if h.Typeflag == tar.TypeReg {
			_, err := io.WriteString(w, content)
			okay(t, err)
		}
	}
	okay(t, w.Close())
	return &b
}

func TestStatPath(t *testing.T) {
	e := copyEngine(t)
	record(t, e, "c", func(c *cove.Container) { c.Image.WorkDir = "/data" })
	ctx := context.Background()
	for _, test := range []struct {
		path, name, target string
		dir                bool
		kind               cove.Kind
	}{
		{path: "/data", name: "data", dir: true}, {path: "/data/", name: "data", dir: true}, {path: "/", name: "/", dir: true},
		{path: "a", name: "a"}, {path: "/data/link", name: "link", target: "/etc/passwd"}, {path: "/data/link/", kind: cove.NoFile},
		{path: "/nope", kind: cove.NoFile}, {path: "/data/a/b", kind: cove.NoFile}, {path: "/../../data/a", name: "a"},
	} {
		info, target, err := e.StatPath(ctx, "c", test.path)
		if err != nil {
			if test.name != "" || !cove.Is(err, test.kind) {
				t.Errorf("%s: %v", test.path, err)
			}
			continue
		}
		if info.Name() != test.name || target != test.target || info.IsDir() != test.dir || (target != "") != (info.Mode()&fs.ModeSymlink != 0) {
			t.Errorf("%s: %s %v -> %q", test.path, info.Name(), info.Mode(), target)
		}
	}
	if _, _, err := e.StatPath(ctx, "other", "/"); !cove.Is(err, cove.NotFound) {
		t.Errorf("no container: %v", err)
	}
}

func TestCopyStopped(t *testing.T) {
	e := copyEngine(t)
	host := t.TempDir()
	put(t, host+"/h", "of the host")
	c := record(t, e, "c", func(c *cove.Container) {
		c.Spec.User = "app"
		c.Spec.Remove = true // volatile must not matter
		c.Mounts = []cove.Mount{
			{Type: "volume", Source: "vol", Destination: "/not/in/image"},
			{Type: "bind", Source: host, Destination: "/host"},
			{Type: "bind", Source: host, Destination: "/host-ro", Options: []string{"ro"}},
			{Type: "bind", Source: "/does/not/exist", Destination: "/missing"},
		}
	})
	ctx := context.Background()
	r, err := e.CopyFrom(ctx, "c", "/data")
	okay(t, err)
	names, all := unpacked(t, r)
	okay(t, r.Close())
	if names[0] != "data/" || all["data/a"] != "from a" || all["data/b"] != "from b" || all["data/link"] != "/etc/passwd" || all["data/hard"] != "data/b" || len(names) != 7 {
		t.Errorf("%v %v", names, all)
	}
	// A final link is followed, under the link's name.
	r, err = e.CopyFrom(ctx, "c", "/data/link")
	okay(t, err)
	names, all = unpacked(t, r)
	okay(t, r.Close())
	if len(names) != 1 || !strings.HasPrefix(all["link"], "root:") {
		t.Errorf("%v %v", names, all)
	}
	f := tar.Header{Typeflag: tar.TypeReg, Name: "new", Linkname: "written", Mode: 0o600, Uid: 7, Gid: 8}
	okay(t, e.CopyTo(ctx, "c", "/etc", packed(t, f), false, false))
	okay(t, e.CopyTo(ctx, "c", "/not/in/image", packed(t, f), true, false))
	okay(t, e.CopyTo(ctx, "c", "/host", packed(t, f), true, false))
	for name, want := range map[string][2]uint32{
		filepath.Join(e.dir(c.ID), "diff/etc/new"): {1234, 2345}, filepath.Join(e.volumeData("vol"), "new"): {7, 8}, host + "/new": {7, 8},
	} {
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil || [2]uint32{st.Uid, st.Gid} != want || st.Mode&0o777 != 0o600 {
			t.Errorf("%s: %v, %+v", name, err, st)
		}
	}
	for p, want := range map[string]string{"/etc/new": "written", "/not/in/image/new": "written", "/host/h": "of the host"} {
		r, err := e.CopyFrom(ctx, "c", p)
		okay(t, err)
		if _, all := unpacked(t, r); all[filepath.Base(p)] != want {
			t.Errorf("%s: %v", p, all)
		}
		okay(t, r.Close())
	}
	for name, err := range map[string]error{
		"read-only bind": e.CopyTo(ctx, "c", "/host-ro", packed(t, f), true, false),
		"missing bind":   e.CopyTo(ctx, "c", "/missing", packed(t, f), true, false),
		"a file":         e.CopyTo(ctx, "c", "/etc/passwd", packed(t, f), true, false),
		"no directory":   e.CopyTo(ctx, "c", "/nope", packed(t, f), true, false),
		"escape":         e.CopyTo(ctx, "c", "/etc", packed(t, tar.Header{Typeflag: tar.TypeReg, Name: "../x"}), true, false),
		"garbage":        e.CopyTo(ctx, "c", "/etc", strings.NewReader(strings.Repeat("x", 2000)), true, false),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := e.CopyFrom(ctx, "c", "/nope"); !cove.Is(err, cove.NoFile) {
		t.Errorf("%v", err)
	}
}

// A big stream is spooled to a file; one that is not read to its end frees
// everything when it is closed.
func TestCopyBigAndCut(t *testing.T) {
	e := copyEngine(t)
	c := record(t, e, "c", nil)
	ctx := context.Background()
	big := strings.Repeat("0123456789abcdef", 300_000)
	okay(t, e.CopyTo(ctx, "c", "/data", packed(t, tar.Header{Typeflag: tar.TypeReg, Name: "big", Linkname: big, Mode: 0o644}), true, false))
	if got, err := os.ReadFile(filepath.Join(e.dir(c.ID), "diff/data/big")); err != nil || string(got) != big {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	r, err := e.CopyFrom(ctx, "c", "/data")
	okay(t, err)
	_, err = io.ReadFull(r, make([]byte, 1000))
	okay(t, err)
	// The lock is free while the stream is open.
	if _, _, err := e.StatPath(ctx, "c", "/data/big"); err != nil {
		t.Error(err)
	}
	okay(t, r.Close())

	ctx, cancel := context.WithCancel(ctx)
	r, err = e.CopyFrom(ctx, "c", "/data")
	okay(t, err)
	cancel()
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	okay(t, r.Close())
}

func TestCopyFromAndToTheSame(t *testing.T) {
	e := copyEngine(t)
	record(t, e, "c", nil)
	ctx := context.Background()
	r, err := e.CopyFrom(ctx, "c", "/data")
	okay(t, err)
	okay(t, e.CopyTo(ctx, "c", "/etc", r, true, false))
	okay(t, r.Close())
	if info, _, err := e.StatPath(ctx, "c", "/etc/data/sub/deep"); err != nil || info.Size() != 4 {
		t.Error(err)
	}
}

func TestUserOf(t *testing.T) {
	e := copyEngine(t)
	fd, err := unix.Open(filepath.Join(e.conf.GraphRoot, "bottom"), unix.O_PATH|unix.O_DIRECTORY, 0)
	okay(t, err)
	defer unix.Close(fd)
	for user, want := range map[string][2]int{
		"": {0, 0}, "app": {1234, 2345}, "1234": {1234, 2345}, "app:staff": {1234, 50}, "99": {99, 0}, "99:98": {99, 98}, ":staff": {0, 50},
	} {
		uid, gid, err := userOf(fd, user)
		if err != nil || [2]int{uid, gid} != want {
			t.Errorf("%q: %d:%d, %v", user, uid, gid, err)
		}
	}
	for _, user := range []string{"nobody", "app:none", "-1", "4294967296"} {
		if _, _, err := userOf(fd, user); !cove.Is(err, cove.Invalid) {
			t.Errorf("%q: %v", user, err)
		}
	}
}
