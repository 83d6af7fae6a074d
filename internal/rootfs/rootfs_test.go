package rootfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/plan"
	"github.com/cove-engine/cove/internal/rootfs"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
}

// layers makes two image layers and a container's directories.
func layers(t *testing.T) (*plan.Overlay, string) {
	t.Helper()
	needRoot(t)
	base := t.TempDir()
	for name, content := range map[string]string{
		"bottom/etc/passwd": "root:x:0:0::/:\n", "bottom/etc/old": "old", "bottom/data/a": "a",
		"top/etc/new": "new", "top/data/b": "b",
	} {
		write(t, filepath.Join(base, name), content)
	}
	for _, dir := range []string{"c/diff", "c/work", "c/merged"} {
		must(t, os.MkdirAll(filepath.Join(base, dir), 0o755))
	}
	must(t, unix.Mknod(filepath.Join(base, "top/etc/old"), unix.S_IFCHR, 0)) // whiteout
	return &plan.Overlay{
		Base: base, Lower: []string{"top", "bottom"},
		Upper: filepath.Join(base, "c/diff"), Work: filepath.Join(base, "c/work"), Options: []string{"volatile"},
	}, filepath.Join(base, "c/merged")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, name, content string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, []byte(content), 0o644))
}

func open(t *testing.T, s rootfs.Source) int {
	t.Helper()
	fd, err := rootfs.Open(s)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func read(t *testing.T, root int, name string) string {
	t.Helper()
	data, err := rootfs.ReadFile(root, name, 1<<20)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// mounted are the machine's mounts that have something of a directory: others
// mount and unmount at the same time.
func mounted(t *testing.T, dir string) (lines []string) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, dir) {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestOpenOverlay(t *testing.T) {
	o, target := layers(t)
	for _, readOnly := range []bool{true, false} {
		for _, binds := range [][]rootfs.Bind{nil, {{Source: filepath.Join(o.Base, "bottom/data"), Target: "/mnt/deep/data"}}} {
			root := open(t, rootfs.Source{Overlay: o, Target: target, ReadOnly: readOnly, Binds: binds})
			for name, want := range map[string]string{
				"/etc/passwd": "root:x:0:0::/:\n", "/etc/new": "new", "/data/a": "a", "/data/b": "b",
				"/etc/old": unix.ENOENT.Error(), "/../../../../etc/new": "new",
			} {
				if got := read(t, root, name); got != want {
					t.Errorf("readOnly %v: %s holds %q, want %q", readOnly, name, got, want)
				}
			}
			if len(binds) > 0 && read(t, root, "/mnt/deep/data/a") != "a" {
				t.Errorf("readOnly %v: the bind is not there", readOnly)
			}
			if m := mounted(t, o.Base); m != nil {
				t.Errorf("a mount can be seen from outside: %q", m)
			}
			must(t, unix.Close(root))
		}
		made, err := os.ReadDir(o.Upper)
		must(t, err)
		if readOnly && len(made) > 0 {
			t.Errorf("reading has changed the writable layer: %v", made)
		}
	}
}

// A layer can be mounted for writing again at once when the last root of it is
// closed: nothing lingers.
func TestOpenWriteAndAgain(t *testing.T) {
	o, target := layers(t)
	for i := range 20 {
		root := open(t, rootfs.Source{Overlay: o, Target: target})
		name := fmt.Sprintf("f%d", i)
		fd, err := unix.Openat(root, name, unix.O_CREAT|unix.O_WRONLY, 0o644)
		must(t, err)
		must(t, unix.Close(fd))
		must(t, unix.Close(root))
		if _, err := os.Stat(filepath.Join(o.Upper, name)); err != nil {
			t.Fatal(err)
		}
		// An overlay that is in use keeps its work directory busy.
		if err := os.RemoveAll(filepath.Join(o.Work, "work")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenSingleLayer(t *testing.T) {
	o, target := layers(t)
	o.Lower, o.Upper, o.Work = []string{"bottom"}, "", ""
	root := open(t, rootfs.Source{Overlay: o, Target: target, ReadOnly: true})
	defer unix.Close(root)
	if got := read(t, root, "/data/a"); got != "a" {
		t.Error(got)
	}
	withBind := open(t, rootfs.Source{Overlay: o, Target: target, ReadOnly: true, Binds: []rootfs.Bind{{Source: o.Base, SubPath: "top", Target: "/x"}}})
	defer unix.Close(withBind)
	if got := read(t, withBind, "/x/data/b") + read(t, withBind, "/data/a"); got != "ba" {
		t.Error(got)
	}
}

func TestOpenManyLayers(t *testing.T) {
	o, target := layers(t)
	for i := range 120 {
		dir := fmt.Sprintf("%s/layer-%s-%03d", o.Base, strings.Repeat("x", 50), i)
		write(t, dir+"/many/"+strconv.Itoa(i), "")
		o.Lower = append([]string{dir}, o.Lower...)
	}
	for _, readOnly := range []bool{true, false} {
		root := open(t, rootfs.Source{Overlay: o, Target: target, ReadOnly: readOnly})
		e, err := rootfs.EntryOf(openIn(t, root, "many"))
		must(t, err)
		names, err := e.Names()
		must(t, err)
		e.Close()
		must(t, unix.Close(root))
		if len(names) != 120 {
			t.Errorf("readOnly %v: %d of 120 layers", readOnly, len(names))
		}
	}
}

func openIn(t *testing.T, root int, name string) int {
	t.Helper()
	fd, err := rootfs.OpenIn(root, name, unix.O_PATH)
	must(t, err)
	return fd
}

func TestBindReadOnly(t *testing.T) {
	o, target := layers(t)
	src := t.TempDir()
	write(t, src+"/file", "host")
	root := open(t, rootfs.Source{Overlay: o, Target: target, Binds: []rootfs.Bind{
		{Source: src, Target: "/mnt", ReadOnly: true}, {Source: src + "/file", Target: "/etc/file"},
	}})
	defer unix.Close(root)
	if _, err := unix.Openat(root, "mnt/new", unix.O_CREAT|unix.O_WRONLY, 0o644); err != unix.EROFS {
		t.Errorf("writing to a read-only bind: %v", err)
	}
	if got := read(t, root, "/etc/file"); got != "host" {
		t.Error(got)
	}
	if mounted, err := rootfs.MountedOn(root, "mnt"); err != nil || !mounted {
		t.Errorf("MountedOn: %v, %v", mounted, err)
	}
	if err := rootfs.RemoveAll(root, "mnt"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("RemoveAll of a mount: %v", err)
	}
	if err := rootfs.RemoveAll(root, "etc"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("RemoveAll above a mount: %v", err)
	}
	if data, err := os.ReadFile(src + "/file"); err != nil || string(data) != "host" {
		t.Errorf("the host's file: %q, %v", data, err)
	}
}

func TestBindSubPathStaysBelow(t *testing.T) {
	o, target := layers(t)
	src := t.TempDir()
	must(t, os.Symlink("/", src+"/out"))
	write(t, src+"/etc/passwd", "mine")
	root := open(t, rootfs.Source{Overlay: o, Target: target, Binds: []rootfs.Bind{{Source: src, SubPath: "out/etc", Target: "/mnt"}}})
	defer unix.Close(root)
	if got := read(t, root, "/mnt/passwd"); got != "mine" {
		t.Errorf("the sub-path leads to %q", got)
	}
}

func TestOpenErrors(t *testing.T) {
	o, target := layers(t)
	for name, s := range map[string]rootfs.Source{
		"no layer":  {Overlay: &plan.Overlay{Base: o.Base, Lower: []string{"missing", "top"}}, Target: target, ReadOnly: true},
		"no target": {Overlay: o, Target: target + "/missing", ReadOnly: true},
		"no bind":   {Overlay: o, Target: target, ReadOnly: true, Binds: []rootfs.Bind{{Source: "/missing", Target: "/x"}}},
		"no dir":    {Dir: "/missing"},
	} {
		if fd, err := rootfs.Open(s); err == nil {
			_ = unix.Close(fd)
			t.Errorf("%s: no error", name)
		} else if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if m := mounted(t, o.Base); m != nil {
		t.Errorf("a mount is left: %q", m)
	}
}

// live starts a process whose root is the overlay, with a volume at /vol.
func live(t *testing.T, o *plan.Overlay, target, volume string) (int, uint64) {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("no busybox to run inside")
	}
	data, err := os.ReadFile(busybox)
	must(t, err)
	must(t, os.MkdirAll(o.Base+"/bottom/bin", 0o755))
	must(t, os.MkdirAll(o.Base+"/bottom/vol", 0o755))
	must(t, os.WriteFile(o.Base+"/bottom/bin/busybox", data, 0o755))
	script := fmt.Sprintf(`set -e
cd %[1]s
mount -t overlay overlay -o lowerdir=%[2]s/top:%[2]s/bottom,upperdir=%[3]s,workdir=%[4]s %[1]s
mount --bind %[5]s %[1]s/vol
cd %[1]s; mkdir old; pivot_root . old
exec /bin/busybox sh -c '/bin/busybox umount -l /old; echo ready; exec /bin/busybox sleep 100'`, target, o.Base, o.Upper, o.Work, volume)
	cmd := exec.Command("unshare", "--mount", "sh", "-c", script)
	out, err := cmd.StdoutPipe()
	must(t, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	buf := make([]byte, 6)
	if _, err := out.Read(buf); err != nil || string(buf) != "ready\n" {
		t.Skipf("cannot make a live root: %v: %s", err, stderr.String())
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	must(t, err)
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	start, err := strconv.ParseUint(fields[19], 10, 64)
	must(t, err)
	return cmd.Process.Pid, start
}

func TestOpenLive(t *testing.T) {
	o, target := layers(t)
	volume := t.TempDir()
	write(t, volume+"/v", "volume")
	pid, start := live(t, o, target, volume)
	root, err := rootfs.OpenLive(pid, start, "/", true)
	must(t, err)
	if got := read(t, root, "/vol/v") + read(t, root, "/etc/new"); got != "volumenew" {
		t.Error(got)
	}
	fd, err := unix.Openat(root, "etc/written", unix.O_CREAT|unix.O_WRONLY, 0o644)
	must(t, err)
	must(t, unix.Close(fd))
	if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid), "root/etc/written")); err != nil {
		t.Errorf("the container does not see what was written: %v", err)
	}
	must(t, unix.Close(root))
	bare, err := rootfs.OpenLive(pid, start, "/", false)
	must(t, err)
	if got := read(t, bare, "/vol/v"); got != unix.ENOENT.Error() {
		t.Errorf("without mounts: %q", got)
	}
	must(t, unix.Close(bare))
	if m := mounted(t, o.Base); m != nil {
		t.Errorf("a mount can be seen from outside: %q", m)
	}
	if _, err := rootfs.OpenLive(pid, start+1, "/", true); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("another process of that number: %v", err)
	}
}

func TestReadFileRefuses(t *testing.T) {
	dir := t.TempDir()
	must(t, unix.Mkfifo(dir+"/pipe", 0o644))
	must(t, os.Mkdir(dir+"/dir", 0o755))
	write(t, dir+"/big", strings.Repeat("x", 100))
	write(t, dir+"/inside", "inside")
	must(t, os.Symlink("/inside", dir+"/link"))
	must(t, os.Symlink("loop", dir+"/loop"))
	root := open(t, rootfs.Source{Dir: dir})
	defer unix.Close(root)
	for name, want := range map[string]error{"pipe": unix.EINVAL, "dir": unix.EINVAL, "big": unix.EFBIG, "loop": unix.ELOOP, "link": nil} {
		done := make(chan error, 1)
		go func() {
			_, err := rootfs.ReadFile(root, name, 99)
			done <- err
		}()
		select {
		case err := <-done:
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: it blocks", name)
		}
	}
}

func TestCopyTree(t *testing.T) {
	needRoot(t)
	src, dst := t.TempDir(), t.TempDir()
	write(t, src+"/d/file", "content")
	must(t, os.Chown(src+"/d/file", 12, 34))
	must(t, os.Chmod(src+"/d/file", 0o644|os.ModeSetuid))
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	must(t, unix.Setxattr(src+"/d/file", "security.capability", []byte(capability), 0))
	userXattr := unix.Setxattr(src+"/d/file", "user.x", []byte("y"), 0) == nil
	must(t, os.Link(src+"/d/file", src+"/hard"))
	must(t, os.Symlink("/etc/passwd", src+"/link"))
	must(t, os.Lchown(src+"/link", 56, 78))
	must(t, unix.Mkfifo(src+"/pipe", 0o640))
	must(t, unix.Chmod(src+"/pipe", 0o640)) // whatever the umask
	must(t, unix.Mknod(src+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Chmod(src+"/null", 0o666))
	must(t, unix.Mknod(src+"/sock", unix.S_IFSOCK|0o600, 0))
	deep := src + "/" + strings.Repeat("n/", 300)
	must(t, os.MkdirAll(deep, 0o755))
	write(t, deep+"end", "")
	at := time.Unix(1234567890, 987654321)
	must(t, os.Chtimes(src+"/d/file", at, at))
	must(t, unix.Chmod(src+"/d", 0o1750))
	must(t, os.Chtimes(src+"/d", at, at))

	from := open(t, rootfs.Source{Dir: src})
	defer unix.Close(from)
	to := open(t, rootfs.Source{Dir: dst})
	defer unix.Close(to)
	must(t, rootfs.CopyTree(from, to))

	var st, hard unix.Stat_t
	must(t, unix.Lstat(dst+"/d/file", &st))
	must(t, unix.Lstat(dst+"/hard", &hard))
	if st.Ino != hard.Ino || st.Uid != 12 || st.Gid != 34 || st.Mode&0o7777 != 0o4644 || st.Mtim.Nano() != at.UnixNano() {
		t.Errorf("file: %+v", st)
	}
	value := make([]byte, 100)
	if n, err := unix.Getxattr(dst+"/d/file", "security.capability", value); err != nil || string(value[:n]) != capability {
		t.Errorf("capability: %q, %v", value[:max(n, 0)], err)
	}
	if n, err := unix.Getxattr(dst+"/d/file", "user.x", value); userXattr && (err != nil || string(value[:n]) != "y") {
		t.Errorf("user.x: %v", err)
	}
	must(t, unix.Lstat(dst+"/d", &st))
	if st.Mode&0o7777 != 0o1750 || st.Mtim.Nano() != at.UnixNano() {
		t.Errorf("directory: %+v", st)
	}
	must(t, unix.Lstat(dst+"/link", &st))
	if target, err := os.Readlink(dst + "/link"); err != nil || target != "/etc/passwd" || st.Uid != 56 || st.Gid != 78 {
		t.Errorf("link: %s, %v, %+v", target, err, st)
	}
	for name, mode := range map[string]uint32{"pipe": unix.S_IFIFO | 0o640, "null": unix.S_IFCHR | 0o666, "sock": unix.S_IFSOCK | 0o600} {
		must(t, unix.Lstat(dst+"/"+name, &st))
		if st.Mode != mode || name == "null" && st.Rdev != unix.Mkdev(1, 3) {
			t.Errorf("%s: %+v", name, st)
		}
	}
	if _, err := os.Stat(dst + strings.TrimPrefix(deep, src) + "end"); err != nil {
		t.Error(err)
	}
}

// A tree may be deeper than a process may have descriptors.
func TestCopyTreeDeep(t *testing.T) {
	const levels = 2000
	src, dst := t.TempDir(), t.TempDir()
	t.Cleanup(func() { // by as few descriptors
		must(t, rootfs.RemoveTree(src))
		must(t, rootfs.RemoveTree(dst))
	})
	down := func(dir string, step func(fd int) error) int {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		for range levels {
			must(t, step(fd))
			next, err := unix.Openat(fd, "d", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			must(t, err)
			must(t, unix.Close(fd))
			fd = next
		}
		return fd
	}
	end := down(src, func(fd int) error {
		for _, name := range []string{"a", "z"} { // one of them is copied when the directory has been
			if err := unix.Mknodat(fd, name, unix.S_IFREG|0o644, 0); err != nil {
				return err
			}
		}
		return unix.Mkdirat(fd, "d", 0o755)
	})
	must(t, unix.Close(end))

	from, to := open(t, rootfs.Source{Dir: src}), open(t, rootfs.Source{Dir: dst})
	defer unix.Close(from)
	defer unix.Close(to)
	var was unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 300, Max: was.Max}))
	err := rootfs.CopyTree(from, to)
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &was))
	must(t, err)
	end = down(dst, func(fd int) error {
		for _, name := range []string{"a", "z"} {
			if err := unix.Faccessat(fd, name, unix.F_OK, 0); err != nil {
				return err
			}
		}
		return nil
	})
	must(t, unix.Close(end))
}

func TestRemoveAll(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/keep/file", "")
	write(t, dir+"/gone/a/b/c", "")
	must(t, os.Symlink(dir+"/keep", dir+"/gone/a/link"))
	fd := open(t, rootfs.Source{Dir: dir})
	defer unix.Close(fd)
	must(t, rootfs.RemoveAll(fd, "gone"))
	must(t, rootfs.RemoveAll(fd, "gone"))
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) != 1 || !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "keep" }) {
		t.Error(entries)
	}
	if _, err := os.Stat(dir + "/keep/file"); err != nil {
		t.Error(err)
	}
}

func TestSize(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a", "12345")
	write(t, dir+"/sub/b", "123")
	must(t, os.Link(dir+"/a", dir+"/sub/again"))
	must(t, os.Symlink("/etc", dir+"/link"))
	fd := open(t, rootfs.Source{Dir: dir})
	defer unix.Close(fd)
	if n, err := rootfs.Size(fd); err != nil || n != 8 {
		t.Errorf("%d, %v, want 8", n, err)
	}
}

func TestMakeDirFollowsInside(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Symlink("/outside", dir+"/link"))
	fd := open(t, rootfs.Source{Dir: dir})
	defer unix.Close(fd)
	made, err := rootfs.MakeDir(fd, "/link/sub")
	must(t, err)
	_ = unix.Close(made)
	if _, err := os.Stat(dir + "/outside/sub"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat("/outside"); err == nil {
		t.Error("it was made outside")
	}
}

func BenchmarkOpen(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("mounting needs root")
	}
	base := b.TempDir()
	for _, d := range []string{"top", "bottom", "m"} {
		if err := os.Mkdir(base+"/"+d, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		fd, err := rootfs.Open(rootfs.Source{Overlay: &plan.Overlay{Base: base, Lower: []string{"top", "bottom"}}, Target: base + "/m", ReadOnly: true})
		if err != nil {
			b.Fatal(err)
		}
		_ = unix.Close(fd)
	}
}

// A container can nest directories deeper than there are descriptors.
func TestEmptyDeep(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o700); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(tree, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		if err := unix.Mkdirat(fd, "d", 0o700); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			if err := unix.Symlinkat(outside, fd, "link"); err != nil {
				t.Fatal(err)
			}
		}
		next, err := unix.Openat(fd, "d", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		_ = unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	_ = unix.Close(fd)
	for i := range 3000 {
		if err := os.WriteFile(filepath.Join(tree, fmt.Sprintf("file-%d", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := rootfs.RemoveTree(tree); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(tree); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
	if _, err := os.Lstat(outside); err != nil {
		t.Error("a link was followed")
	}
	if err := rootfs.RemoveTree(tree); err != nil {
		t.Errorf("not there: %v", err)
	}
}
