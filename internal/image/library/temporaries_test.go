package library_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What a writer that was killed has left goes when the store is opened again.
func TestUnfinishedFiles(t *testing.T) {
	p, ctx := newPlace(t), context.Background()
	img := small(t, "example.org/app:1")
	p.mustLoad(t, img)
	var left []string
	for _, name := range []string{"overlay-images/.tmp-images.json1", "overlay-images/" + img.ID(t) + "/.tmp-=bWFuaWZlc3Q=2", "overlay-layers/.tmp-layers.json3", "overlay-containers/.tmp-containers.json4"} {
		name = filepath.Join(p.opts.GraphRoot, name)
		must(t, os.WriteFile(name, []byte("[{"), 0o600))
		left = append(left, name)
	}
	if _, err := p.again().Resolve(ctx, "example.org/app:1", ""); err != nil {
		t.Error(err)
	}
	for _, name := range left {
		if _, err := os.Lstat(name); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
}

// An open store has nothing mounted, whatever storage.conf says.
func TestNothingMounted(t *testing.T) {
	p := newPlace(t)
	appendStorageConf(t, "[storage.options.overlay]\nskip_mount_home = 'false'")
	p.mustLoad(t, small(t, "example.org/app:1"))
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	if strings.Contains(string(mounts), " "+p.opts.GraphRoot) {
		t.Errorf("below %s: %s", p.opts.GraphRoot, mounts)
	}
}

// So does what one has left that tried the kernel's overlay, mounts included.
func TestTrials(t *testing.T) {
	p := newPlace(t)
	p.mustLoad(t, small(t, "example.org/app:1"))
	left := filepath.Join(p.opts.GraphRoot, "overlay/opaque-bug-check2186052114")
	merged := filepath.Join(left, "merged")
	must(t, os.MkdirAll(merged, 0o700))
	must(t, syscall.Mount("tmpfs", merged, "tmpfs", 0, ""))
	t.Cleanup(func() { syscall.Unmount(merged, syscall.MNT_DETACH) })
	must(t, os.WriteFile(filepath.Join(merged, "file"), nil, 0o600))
	if got := p.problems(t, false); got != "" {
		t.Errorf("got %q", got)
	}
	if _, err := os.Lstat(left); err == nil {
		t.Error("it is still there")
	}
}

// A layer whose making the power or a kill has cut short, with its file of the link's name
// still empty, is deleted without the links of all others.
func TestLinkLost(t *testing.T) {
	for i := range 4 {
		has, killed := i&1 == 0, i&2 == 0
		p := newPlace(t)
		p.mustLoad(t, small(t, "example.org/app:1"))
		links := filepath.Join(p.opts.GraphRoot, "overlay/l")
		want, err := os.ReadDir(links)
		must(t, err)
		lost, err := p.CopyLayer()
		must(t, err)
		file := filepath.Join(p.opts.GraphRoot, "overlay", lost, "link")
		if !has {
			name, err := os.ReadFile(file)
			must(t, err)
			must(t, os.Remove(filepath.Join(links, string(name))))
		}
		must(t, os.Truncate(file, 0))
		if !killed {
			must(t, os.Chtimes(file, time.Time{}, time.Unix(1, 0)))
		}
		if _, err := p.again().Prune(context.Background(), false, nil, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(filepath.Dir(file)); err == nil {
			t.Error("the layer is still there")
		}
		got, err := os.ReadDir(links)
		must(t, err)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("links %v, want %v", got, want)
		}
	}
}
