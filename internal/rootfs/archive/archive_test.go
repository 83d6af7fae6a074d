package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/rootfs"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openDir(t testing.TB, dir string) int {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// ours keeps tests that need no root from changing owners.
func ours() *[2]int { return &[2]int{os.Getuid(), os.Getgid()} }

type entry struct {
	tar.Header
	content string
}

func file(name, content string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, content}
}
func dir(name string) entry {
	return entry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, ""}
}
func symlink(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, ""}
}
func hardlink(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}, ""}
}

func stream(t testing.TB, entries ...entry) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, e := range entries {
		e.Size = int64(len(e.content))
		must(t, tw.WriteHeader(&e.Header))
		_, err := io.WriteString(tw, e.content)
		must(t, err)
	}
	must(t, tw.Close())
	return &b
}

// tree lists what is below a directory: name to content, "/" or "-> target".
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		switch {
		case d.IsDir():
			all[rel] = "/"
		case d.Type()&os.ModeSymlink != 0:
			target, err := os.Readlink(p)
			all[rel] = "-> " + target
			return err
		case d.Type().IsRegular():
			data, err := os.ReadFile(p)
			all[rel] = string(data)
			return err
		default:
			all[rel] = d.Type().String()
		}
		return nil
	}))
	return all
}

func same(t *testing.T, got, want map[string]string) {
	t.Helper()
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: %q, want %q", k, got[k], v)
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s: %q is too much", k, v)
		}
	}
}

func TestUnpack(t *testing.T) {
	for _, test := range []struct {
		name    string
		before  func(dir string) error
		entries []entry
		o       Options
		want    map[string]string
		refused bool
		failed  bool
	}{
		{name: "plain", entries: []entry{dir("a"), file("a/f", "1"), symlink("a/l", "/etc/passwd"), hardlink("a/h", "a/f")},
			want: map[string]string{"a": "/", "a/f": "1", "a/l": "-> /etc/passwd", "a/h": "1"}},
		{name: "names of tar", entries: []entry{dir("./"), file("./x", "1"), file("/abs/y", "2"), file("a//b/./../c", "3")},
			want: map[string]string{"x": "1", "abs": "/", "abs/y": "2", "a": "/", "a/c": "3"}},
		{name: "above", entries: []entry{file("../up", "")}, refused: true},
		{name: "above, deeper", entries: []entry{file("a/../../up", "")}, refused: true},
		{name: "above, absolute", entries: []entry{file("/../up", "")}, refused: true},
		{name: "above by hard link", entries: []entry{hardlink("h", "../outside")}, refused: true},
		{name: "absolute link of the stream", entries: []entry{symlink("l", "/etc"), file("l/passwd", "bad")}, refused: true, want: map[string]string{"l": "-> /etc"}},
		{name: "relative link of the stream", entries: []entry{symlink("l", ".."), file("l/up", "bad")}, refused: true, want: map[string]string{"l": "-> .."}},
		{name: "deep link of the stream", entries: []entry{symlink("a/b/l", "../../.."), file("a/b/l/up/deep/x", "bad")}, refused: true,
			want: map[string]string{"a": "/", "a/b": "/", "a/b/l": "-> ../../.."}},
		{name: "hard link through a link", entries: []entry{symlink("l", "/etc"), hardlink("h", "l/passwd")}, refused: true, want: map[string]string{"l": "-> /etc"}},
		{name: "hard link to a link", entries: []entry{symlink("l", "/etc/passwd"), hardlink("h", "l"), file("h", "mine")},
			want: map[string]string{"l": "-> /etc/passwd", "h": "mine"}},
		{name: "file over a link", before: func(d string) error { return os.Symlink("/etc/passwd", d+"/l") }, entries: []entry{file("l", "mine")},
			want: map[string]string{"l": "mine"}},
		{name: "link inside", before: func(d string) error {
			return errors.Join(os.MkdirAll(d+"/usr/lib", 0o755), os.Symlink("usr/lib", d+"/lib"))
		},
			entries: []entry{file("lib/x", "1")}, want: map[string]string{"usr": "/", "usr/lib": "/", "usr/lib/x": "1", "lib": "-> usr/lib"}},
		{name: "absolute link in a whole root", o: Options{WholeRoot: true},
			before: func(d string) error {
				return errors.Join(os.MkdirAll(d+"/run", 0o755), os.MkdirAll(d+"/var", 0o755), os.Symlink("/run", d+"/var/run"))
			},
			entries: []entry{file("var/run/x", "1")}, want: map[string]string{"run": "/", "run/x": "1", "var": "/", "var/run": "-> /run"}},
		{name: "directory over a file", before: func(d string) error { return os.WriteFile(d+"/a", nil, 0o644) }, entries: []entry{dir("a")}, refused: true, want: map[string]string{"a": ""}},
		{name: "directory over a link", before: func(d string) error { return os.Symlink("/etc", d+"/a") }, entries: []entry{dir("a")}, refused: true, want: map[string]string{"a": "-> /etc"}},
		{name: "directory over a file, overwrite", o: Options{Overwrite: true}, before: func(d string) error { return os.WriteFile(d+"/a", nil, 0o644) },
			entries: []entry{dir("a"), file("a/b", "1")}, want: map[string]string{"a": "/", "a/b": "1"}},
		{name: "file over a directory", before: func(d string) error { return os.MkdirAll(d+"/a/b", 0o755) }, entries: []entry{file("a", "1")}, refused: true, want: map[string]string{"a": "/", "a/b": "/"}},
		{name: "file over a directory, overwrite", o: Options{Overwrite: true}, before: func(d string) error { return os.MkdirAll(d+"/a/b", 0o755) },
			entries: []entry{file("a", "1")}, want: map[string]string{"a": "1"}},
		{name: "file over a file", before: func(d string) error { return os.WriteFile(d+"/a", []byte("longer than"), 0o644) }, entries: []entry{file("a", "1")}, want: map[string]string{"a": "1"}},
		{name: "file over a pipe", before: func(d string) error { return unix.Mkfifo(d+"/a", 0o644) }, entries: []entry{file("a", "1")}, want: map[string]string{"a": "1"}},
		{name: "twice", entries: []entry{file("a", "1"), hardlink("b", "a"), hardlink("b", "a"), file("a", "2")}, want: map[string]string{"a": "2", "b": "1"}},
		{name: "pipe", entries: []entry{{tar.Header{Typeflag: tar.TypeFifo, Name: "p", Mode: 0o644}, ""}}, want: map[string]string{"p": "p---------"}},
		{name: "whiteout", entries: []entry{{tar.Header{Typeflag: tar.TypeChar, Name: "w", Mode: 0o644}, ""}}, refused: true},
		{name: "the directory itself", entries: []entry{symlink(".", "/etc")}, refused: true},
		{name: "missing target", entries: []entry{hardlink("h", "nothing")}, failed: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			above := t.TempDir()
			in := filepath.Join(above, "in")
			must(t, os.Mkdir(in, 0o755))
			must(t, os.WriteFile(above+"/outside", nil, 0o644))
			if test.before != nil {
				must(t, test.before(in))
			}
			if test.o.Owner == nil {
				test.o.Owner = ours()
			}
			err := Unpack(t.Context(), openDir(t, in), stream(t, test.entries...), test.o)
			if test.refused != errors.Is(err, ErrRefused) || (test.refused || test.failed) != (err != nil) {
				t.Errorf("error %v, want refused %v", err, test.refused)
			}
			same(t, tree(t, in), test.want)
			if out := tree(t, above); len(out) != 2+len(test.want) {
				t.Errorf("something has escaped: %v", out)
			}
		})
	}
}

func TestUnpackAttributes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("owners need root")
	}
	at := time.Unix(1234567890, 0)
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	f := file("d/f", "x")
	f.Mode, f.Uid, f.Gid, f.ModTime, f.Format = 0o6755, 11, 22, at, tar.FormatPAX
	f.PAXRecords = map[string]string{xattrKey + "security.capability": capability, xattrKey + "trusted.overlay.opaque": "y", xattrKey + "security.selinux": "bad"}
	d := dir("d")
	d.Uid, d.Gid, d.ModTime, d.Mode = 11, 22, at, 0o1500
	for _, owner := range []*[2]int{nil, {33, 44}} {
		in := t.TempDir()
		must(t, Unpack(t.Context(), openDir(t, in), stream(t, d, f), Options{Owner: owner}))
		want := [2]uint32{11, 22}
		if owner != nil {
			want = [2]uint32{33, 44}
		}
		for name, mode := range map[string]uint32{"d": 0o1500, "d/f": 0o6755} {
			var st unix.Stat_t
			must(t, unix.Lstat(in+"/"+name, &st))
			if st.Uid != want[0] || st.Gid != want[1] || st.Mode&0o7777 != mode || st.Mtim.Sec != at.Unix() {
				t.Errorf("%s: %+v", name, st)
			}
		}
		fd := openDir(t, in)
		e, err := rootfs.OpenEntry(fd, "d")
		must(t, err)
		fe, err := rootfs.OpenEntry(e.FD, "f")
		must(t, err)
		x, err := fe.Xattrs()
		must(t, err)
		if x["security.capability"] != capability || x["trusted.overlay.opaque"] != "" || x["security.selinux"] == "bad" {
			t.Errorf("extended attributes: %q", x)
		}
		fe.Close()
		e.Close()
	}
}

func TestUnpackCompressedAndBroken(t *testing.T) {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, err := w.Write(stream(t, file("f", "zipped")).Bytes())
	must(t, errors.Join(err, w.Close()))
	in := t.TempDir()
	must(t, Unpack(t.Context(), openDir(t, in), &z, Options{Owner: ours()}))
	same(t, tree(t, in), map[string]string{"f": "zipped"})

	whole := stream(t, file("old", strings.Repeat("new", 1000))).Bytes()
	must(t, os.WriteFile(in+"/old", []byte("old"), 0o644))
	if err := Unpack(t.Context(), openDir(t, in), bytes.NewReader(whole[:1500]), Options{Owner: ours()}); err == nil {
		t.Error("a stream cut short is no error")
	}
	// What was there stays, and nothing half-made beside it.
	same(t, tree(t, in), map[string]string{"f": "zipped", "old": "old"})
	if err := Unpack(t.Context(), openDir(t, in), strings.NewReader(strings.Repeat("garbage", 1000)), Options{}); !errors.Is(err, ErrRefused) {
		t.Errorf("garbage: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Unpack(ctx, openDir(t, in), bytes.NewReader(whole), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestPackRoundTrip(t *testing.T) {
	src := t.TempDir()
	must(t, os.MkdirAll(src+"/top/sub", 0o755))
	must(t, os.WriteFile(src+"/top/sub/f", []byte("content"), 0o640))
	must(t, os.Link(src+"/top/sub/f", src+"/top/hard"))
	must(t, os.Symlink("/nowhere", src+"/top/link"))
	must(t, unix.Mkfifo(src+"/top/pipe", 0o644))
	must(t, unix.Mknod(src+"/top/sock", unix.S_IFSOCK|0o600, 0))
	long := "/top/" + strings.Repeat("l", 200)
	must(t, os.WriteFile(src+long, nil, 0o644))
	e, err := rootfs.OpenEntry(openDir(t, src), "top")
	must(t, err)
	defer e.Close()
	var b bytes.Buffer
	must(t, Pack(t.Context(), &b, &e, "as"))
	first, err := tar.NewReader(bytes.NewReader(b.Bytes())).Next()
	must(t, err)
	if first.Name != "as/" || first.Typeflag != tar.TypeDir {
		t.Errorf("first entry %+v", first)
	}
	out := t.TempDir()
	must(t, Unpack(t.Context(), openDir(t, out), &b, Options{Owner: ours()}))
	same(t, tree(t, out+"/as"), map[string]string{
		"sub": "/", "sub/f": "content", "hard": "content", "link": "-> /nowhere", "pipe": "p---------", strings.Repeat("l", 200): "",
	})
	var x, y unix.Stat_t
	must(t, errors.Join(unix.Stat(out+"/as/hard", &x), unix.Stat(out+"/as/sub/f", &y)))
	if x.Ino != y.Ino {
		t.Error("the hard link is lost")
	}

	b.Reset()
	must(t, Pack(t.Context(), &b, &e, ""))
	first, err = tar.NewReader(&b).Next()
	must(t, err)
	if first.Name != "hard" {
		t.Errorf("contents only: first entry %q", first.Name)
	}
}

func TestUnpackLeavesHoles(t *testing.T) {
	in := t.TempDir()
	content := strings.Repeat("\x00", 4<<20) + "end" + strings.Repeat("\x00", 4<<20)
	must(t, Unpack(t.Context(), openDir(t, in), stream(t, file("sparse", content)), Options{Owner: ours()}))
	var st unix.Stat_t
	must(t, unix.Stat(in+"/sparse", &st))
	data, err := os.ReadFile(in + "/sparse")
	must(t, err)
	if string(data) != content {
		t.Errorf("the content is another: %d bytes", len(data))
	}
	if st.Blocks*512 > 1<<20 {
		t.Errorf("it takes %d bytes of the disk", st.Blocks*512)
	}
}

func TestPackOneFile(t *testing.T) {
	src := t.TempDir()
	must(t, os.WriteFile(src+"/f", []byte("x"), 0o644))
	e, err := rootfs.OpenEntry(openDir(t, src), "f")
	must(t, err)
	defer e.Close()
	var b bytes.Buffer
	must(t, Pack(t.Context(), &b, &e, "name"))
	r := tar.NewReader(&b)
	h, err := r.Next()
	must(t, err)
	data, _ := io.ReadAll(r)
	if h.Name != "name" || string(data) != "x" {
		t.Errorf("%s: %q", h.Name, data)
	}
}

// FuzzUnpack looks for a stream that puts anything outside of its directory.
func FuzzUnpack(f *testing.F) {
	for _, s := range []*bytes.Buffer{
		stream(f, symlink("l", ".."), file("l/up", "bad")), stream(f, file("../up", "x"), dir("a/..")),
		stream(f, dir("a"), symlink("a/b", "../.."), hardlink("h", "a/b/outside"), file("h", "changed")),
	} {
		f.Add(s.Bytes(), true)
		f.Add(s.Bytes(), false)
	}
	// In memory, and made once: what escapes would be seen the next time, too.
	above, err := os.MkdirTemp("/dev/shm", "cove-unpack-")
	if err != nil {
		above = f.TempDir()
	}
	f.Cleanup(func() { os.RemoveAll(above) })
	in := filepath.Join(above, "in")
	must(f, os.WriteFile(above+"/outside", []byte("untouched"), 0o644))
	f.Fuzz(func(t *testing.T, data []byte, overwrite bool) {
		must(t, os.Mkdir(in, 0o755))
		defer os.RemoveAll(in)
		_ = Unpack(t.Context(), openDir(t, in), bytes.NewReader(data), Options{Owner: ours(), Overwrite: overwrite})
		entries, err := os.ReadDir(above)
		must(t, err)
		got, err := os.ReadFile(above + "/outside")
		must(t, err)
		if len(entries) != 2 || string(got) != "untouched" {
			t.Errorf("escaped: %v, %q", entries, got)
		}
	})
}

// A tree that is made by steps can be deeper than any path can say.
func TestPackTooDeep(t *testing.T) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur < 7000 {
		t.Skip("needs more descriptors than ", l.Cur, ": ", err)
	}
	top := openDir(t, t.TempDir())
	at := top
	for range 3000 {
		must(t, unix.Mkdirat(at, "d", 0o755))
		next, err := unix.Openat(at, "d", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		t.Cleanup(func() { _ = unix.Close(next) })
		at = next
	}
	e, err := rootfs.OpenEntry(top, ".")
	must(t, err)
	defer e.Close()
	if err := Pack(t.Context(), io.Discard, &e, "x"); !errors.Is(err, unix.ENAMETOOLONG) || len(err.Error()) > 200 {
		t.Errorf("packed with %v", err)
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{"a": "a", "/a/": "a", "./": "", ".": "", "a/../b": "b", "a/./b//c": "a/b/c", "..": "!", "a/../..": "!", "a\x00b": "!", "...": "..."} {
		got, err := clean(in)
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
