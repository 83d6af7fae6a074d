package rootfs

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Every file of the tree gets the label, links themselves, and nothing that a
// link leads to.
func TestRelabel(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	const label = "system_u:object_r:container_file_t:s0:c1,c2"
	if err := unix.Setxattr(dir, selinuxLabel, []byte("u:r:before:s0"), 0); err != nil {
		t.Skip("needs root and a file system with labels: ", err)
	}
	tree, outside := filepath.Join(dir, "tree"), filepath.Join(dir, "outside")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(tree, "a/b"), 0o755), os.Mkdir(outside, 0o755),
		os.WriteFile(filepath.Join(outside, "f"), nil, 0o600), os.WriteFile(filepath.Join(tree, "a/b/f"), nil, 0),
		os.Symlink(outside, filepath.Join(tree, "dir")), os.Symlink(filepath.Join(outside, "f"), filepath.Join(tree, "a/file")),
		os.Symlink("nowhere", filepath.Join(tree, "dangling")),
		unix.Mkfifo(filepath.Join(tree, "pipe"), 0o600), unix.Mknod(filepath.Join(tree, "null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Open(tree, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for range 2 { // the second time all have it
		if err := Relabel(fd, label); err != nil {
			t.Fatal(err)
		}
	}
	has := func(name string) string {
		buf := make([]byte, 256)
		n, err := unix.Lgetxattr(filepath.Join(dir, name), selinuxLabel, buf)
		if err != nil {
			return err.Error()
		}
		return string(buf[:n])
	}
	for _, name := range []string{"tree", "tree/a", "tree/a/b", "tree/a/b/f", "tree/dir", "tree/a/file", "tree/dangling", "tree/pipe", "tree/null"} {
		if got := has(name); got != label {
			t.Errorf("%s has %q", name, got)
		}
	}
	for _, name := range []string{"outside", "outside/f", ""} {
		if got := has(name); got == label {
			t.Errorf("%q has the label, too", name)
		}
	}
}
