package engine

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
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
	want := []Change{
		{"/etc", Changed}, {"/etc/gone", Deleted}, {"/etc/passwd", Changed}, {"/hidden", Changed}, {"/hidden/x", Deleted}, {"/hidden/y", Added},
		{"/new", Added}, {"/new/file", Added},
	}
	if len(got) != len(want) {
		t.Fatalf("%v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%s %s, want %s %s", got[i].Kind, got[i].Path, want[i].Kind, want[i].Path)
		}
	}
	var b bytes.Buffer
	okay(t, e.Export(ctx, "c", &b))
	_, all := unpacked(t, &b)
	for name, content := range map[string]string{"etc/passwd": "changed", "new/file": "n", "data/a": "from a", "hidden/y": "y"} {
		if all[name] != content {
			t.Errorf("%s: %q", name, all[name])
		}
	}
	for _, name := range []string{"etc/gone", "hidden/x", "./", "/", "etc/never-was"} {
		if _, ok := all[name]; ok {
			t.Errorf("%s is in the archive", name)
		}
	}
	if entries, err := os.ReadDir(e.conf.Merged()); err != nil || len(entries) > 0 {
		t.Errorf("the mount point is not empty: %v, %v", entries, err)
	}
}
