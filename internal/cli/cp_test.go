package cli

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cove-engine/cove/internal/rootfs"
)

func TestSplitCopy(t *testing.T) {
	for arg, want := range map[string][2]string{
		"/a:b": {"", "/a:b"}, "./a:b": {"", "./a:b"}, "c:/x": {"c", "/x"}, "file": {"", "file"}, "c:rel": {"c", "rel"}, ":x": {"", ":x"}, "-": {"", "-"},
	} {
		if c, p := splitCopy(arg); c != want[0] || p != want[1] {
			t.Errorf("%s: %q %q", arg, c, p)
		}
	}
}

func TestPlace(t *testing.T) {
	for _, c := range []struct {
		src         string
		srcDir      bool
		dst         string
		exists, dir bool
		want        placement
		ok          bool
	}{
		{"/a/f", false, "/d", true, true, placement{"/d", "f"}, true},
		{"/a/f", false, "/d/g", false, false, placement{"/d", "g"}, true},
		{"/a/f", false, "/d/g", true, false, placement{"/d", "g"}, true},
		{"/a/f", false, "/d/g/", false, false, placement{}, false},
		{"/a/s", true, "/d", true, true, placement{"/d", "s"}, true},
		{"/a/s/", true, "/d", true, true, placement{"/d", "s"}, true},
		{"/a/s/.", true, "/d", true, true, placement{"/d", ""}, true},
		{"/a/s", true, "/d/n", false, false, placement{"/d", "n"}, true},
		{"/a/s/.", true, "/d/n/", false, false, placement{"/d", "n"}, true},
		{"/a/s", true, "/d/f", true, false, placement{}, false},
		{"/", true, "/d", true, true, placement{"/d", ""}, true},
	} {
		got, err := place(c.src, c.srcDir, c.dst, c.exists, c.dir, false)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%+v: %+v %v", c, got, err)
		}
	}
}

func TestPackAndUnpack(t *testing.T) {
	src := t.TempDir()
	for name, text := range map[string]string{"s/f": "one", "s/d/g": "two"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(src, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(src, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("f", filepath.Join(src, "s/l")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(src, "s/f"), filepath.Join(src, "s/h")); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := pack(&b, filepath.Join(src, "s"), "new"); err != nil {
		t.Fatal(err)
	}
	dst := unpacked(t, &b, "other")
	for name, want := range map[string]string{"other/f": "one", "other/d/g": "two", "other/l": "one", "other/h": "one"} {
		got, err := os.ReadFile(filepath.Join(dst, name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
}

// What a container sends must not reach outside of the destination.
func TestUnpackHostile(t *testing.T) {
	for name, entries := range map[string][]tar.Header{
		"climbing":       {{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "d/../../evil", Typeflag: tar.TypeReg, Mode: 0o644}},
		"absolute":       {{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "/evil", Typeflag: tar.TypeReg, Mode: 0o644}},
		"through a link": {{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "d/l", Typeflag: tar.TypeSymlink, Linkname: "../.."}, {Name: "d/l/evil", Typeflag: tar.TypeReg, Mode: 0o644}},
		"hard link out":  {{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "d/h", Typeflag: tar.TypeLink, Linkname: "../secret"}},
		"another top":    {{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "e", Typeflag: tar.TypeReg, Mode: 0o644}},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			tw := tar.NewWriter(&b)
			for _, h := range entries {
				if err := tw.WriteHeader(&h); err != nil {
					t.Fatal(err)
				}
			}
			tw.Close()
			base := t.TempDir()
			dst := filepath.Join(base, "dst")
			if err := os.Mkdir(dst, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(base, "secret"), []byte("s"), 0o600); err != nil {
				t.Fatal(err)
			}
			root, err := os.OpenRoot(dst)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			tr := tar.NewReader(&b)
			first, err := tr.Next()
			if err != nil {
				t.Fatal(err)
			}
			if err := unpack(root, tr, first, "d", false); err == nil {
				t.Error("no error")
			}
			if list, _ := os.ReadDir(base); len(list) != 2 {
				t.Errorf("something lies outside: %v", list)
			}
		})
	}
}

// Devices are passed over, with their further names, and what comes after them is
// not; pipes are made.
func TestUnpackSpecial(t *testing.T) {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "d/c", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
		{Name: "d/b", Typeflag: tar.TypeBlock, Mode: 0o666, Devmajor: 7}, {Name: "d/h", Typeflag: tar.TypeLink, Linkname: "d/c"},
		{Name: "d/p", Typeflag: tar.TypeFifo, Mode: 0o622}, {Name: "d/z", Typeflag: tar.TypeReg, Mode: 0o644},
	} {
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	tw.Close()
	dst := unpacked(t, &b, "o")
	list, err := os.ReadDir(dst + "/o")
	if err != nil || len(list) != 2 || list[0].Name() != "p" || list[1].Name() != "z" {
		t.Errorf("%v, %v", list, err)
	}
	if st, err := os.Lstat(dst + "/o/p"); err != nil || st.Mode() != os.ModeNamedPipe|0o622 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

// Each level of a deep tree takes as long as the one above it, in and out; from the top
// it would be a minute.
func TestDeepTree(t *testing.T) {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	// As far as a path can say. What is written on the way back is in directories that
	// are not open any more.
	const levels = 1990
	mode := func(i int) fs.FileMode {
		if i%500 == 0 {
			return 0o555
		}
		return 0o711
	}
	var write func(i int)
	write = func(i int) {
		name := strings.Repeat("d/", i)
		headers := []tar.Header{{Name: name, Typeflag: tar.TypeDir, Mode: int64(mode(i)), ModTime: time.Unix(int64(i), 0)}}
		if i < levels {
			headers = append(headers, tar.Header{Name: name + "z", Typeflag: tar.TypeReg, Mode: 0o600, Size: 1, ModTime: time.Unix(1, 0)})
		}
		for at, h := range headers {
			if at == 1 {
				write(i + 1)
			}
			if err := tw.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if _, err := tw.Write(make([]byte, h.Size)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(1)
	tw.Close()
	sent := b.Len()
	began := time.Now()
	dst := unpacked(t, &b, "d")
	t.Cleanup(func() { // what is as deep as this the directory's own removal may not get rid of
		for i := 500; i < levels; i += 500 {
			_ = os.Chmod(dst+strings.Repeat("/d", i), 0o700)
		}
		if err := rootfs.RemoveTree(dst + "/d"); err != nil {
			t.Error(err)
		}
	})
	for _, i := range []int{1, 2, 500, 1000, 1989, levels} {
		st, err := os.Stat(dst + strings.Repeat("/d", i))
		if err != nil || st.Mode().Perm() != mode(i) || st.ModTime().Unix() != int64(i) {
			t.Fatalf("level %d: %v, %v", i, st, err)
		}
	}
	if err := pack(&b, dst+"/d", "d"); err != nil || b.Len() < sent*9/10 {
		t.Errorf("%d bytes of %d, %v", b.Len(), sent, err)
	}
	t.Logf("%d levels in and out in %s", levels, time.Since(began))
}

// A directory that a link leads to, within the tree, is where it leads.
func TestBranchFollowsLinks(t *testing.T) {
	at := t.TempDir()
	for _, dir := range []string{"t/real/x", "t/a/b", "out"} {
		if err := os.MkdirAll(filepath.Join(at, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"t/a/b/in": "../../real", "t/a/b/up": "../../../out"} {
		if err := os.Symlink(to, filepath.Join(at, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(at + "/t")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	b := branch{root: root}
	defer b.cut(0)
	if list, err := b.ReadDir("a/b/in"); err != nil || len(list) != 1 || list[0].Name() != "x" {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := b.ReadDir("a/b/in/x"); err != nil {
		t.Error(err)
	}
	if list, err := b.ReadDir("a/b/up"); err == nil {
		t.Errorf("outside: %v", list)
	}
}

// unpacked unpacks a stream as name and gives the directory that it is in.
func unpacked(t *testing.T, stream io.Reader, name string) string {
	t.Helper()
	dst := t.TempDir()
	root, err := os.OpenRoot(dst)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	tr := tar.NewReader(stream)
	first, err := tr.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := unpack(root, tr, first, name, false); err != nil {
		t.Fatal(err)
	}
	return dst
}

func TestRenameStream(t *testing.T) {
	var b, out bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "s/", Typeflag: tar.TypeDir}, {Name: "s/f", Typeflag: tar.TypeReg, Size: 3}, {Name: "s/h", Typeflag: tar.TypeLink, Linkname: "s/f"},
	} {
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(tw, "abc")
		}
	}
	tw.Close()
	tr := tar.NewReader(&b)
	first, _ := tr.Next()
	if err := rename(&out, tr, first, "n"); err != nil {
		t.Fatal(err)
	}
	var names []string
	tr = tar.NewReader(&out)
	for {
		h, err := tr.Next()
		if err != nil {
			break
		}
		names = append(names, h.Name+">"+h.Linkname)
	}
	if got := strings.Join(names, " "); got != "n/> n/f> n/h>n/f" {
		t.Error(got)
	}
}
