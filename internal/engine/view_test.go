package engine

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

func TestDiffAndExport(t *testing.T) {
	e := copyEngine(t)
	c := record(t, e, "c", func(c *cove.Container) {
		c.Mounts = []cove.Mount{{Type: "volume", Source: "vol", Destination: "/data"}}
	})
	ctx := context.Background()
	if got, err := e.Diff(ctx, "c", DiffOptions{Containers: true}); err != nil || len(got) != 0 {
		t.Errorf("unchanged: %v, %v", got, err)
	}
	upper := filepath.Join(e.dir(c.ID), "diff")
	put(t, upper+"/etc/passwd", "changed")
	put(t, upper+"/etc/hosts", "")
	put(t, upper+"/new/file", "n")
	okay(t, unix.Mknod(upper+"/etc/gone", unix.S_IFCHR, 0))
	okay(t, unix.Mknod(upper+"/etc/never-was", unix.S_IFCHR, 0))
	put(t, upper+"/hidden/y", "y")
	okay(t, unix.Setxattr(upper+"/hidden", "trusted.overlay.opaque", []byte("y"), 0))
	got, err := e.Diff(ctx, "c", DiffOptions{Containers: true})
	okay(t, err)
	var all []string
	for _, ch := range got {
		all = append(all, ch.Kind.String()+" "+ch.Path)
	}
	if want := []string{"C /etc", "D /etc/gone", "C /etc/passwd", "C /hidden", "D /hidden/x", "A /hidden/y", "A /new", "A /new/file"}; !slices.Equal(all, want) {
		t.Errorf("%q, want %q", all, want)
	}
	var b bytes.Buffer
	okay(t, e.Export(ctx, "c", &b))
	_, files := unpacked(t, &b)
	for name, content := range map[string]string{"etc/passwd": "changed", "new/file": "n", "data/a": "from a", "hidden/y": "y"} {
		if files[name] != content {
			t.Errorf("%s: %q", name, files[name])
		}
	}
	for _, name := range []string{"etc/gone", "hidden/x", "./", "/", "etc/never-was"} {
		if _, ok := files[name]; ok {
			t.Errorf("%s is in the archive", name)
		}
	}
	if entries, err := os.ReadDir(e.conf.Merged()); err != nil || len(entries) > 0 {
		t.Errorf("the mount point is not empty: %v, %v", entries, err)
	}
}
