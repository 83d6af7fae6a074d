package library

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.podman.io/storage"
	"go.podman.io/storage/pkg/lockfile"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/procfs"
)

// dropTemporaries removes what processes that were killed while they wrote one
// of the storage library's files have left beside it (ioutils.AtomicFileWriter
// there); the library itself never does. Each is written under the lock of its
// directory: who holds that knows that the writer is dead. A store that cannot
// be written to keeps them.
func dropTemporaries(st storage.Store) {
	graph, prefix := st.GraphRoot(), st.GraphDriverName()+"-"
	images := cmp.Or(st.ImageStore(), graph)
	for _, at := range [][2]string{{images, "images"}, {images, "layers"}, {graph, "layers"}, {graph, "containers"}} {
		dir := filepath.Join(at[0], prefix+at[1])
		if len(temporaries(dir)) == 0 {
			continue
		}
		l, err := lockfile.GetLockFile(filepath.Join(dir, at[1]+".lock"))
		if err != nil {
			continue
		}
		l.Lock()
		for _, name := range temporaries(dir) {
			_ = os.Remove(name)
		}
		l.Unlock()
	}
}

// temporaries lists unfinished files of a directory and of those in it.
func temporaries(dir string) []string {
	const name = ".tmp-*"
	in, _ := filepath.Glob(filepath.Join(dir, name))
	below, _ := filepath.Glob(filepath.Join(dir, "*", name))
	return slices.Concat(in, below)
}

// dropTrials removes what processes that were killed, or have lost their power, have
// left of their trying what overlay can do here: a directory, perhaps with mounts.
// The library tries it under the lock of the graph root.
func dropTrials(st storage.Store) {
	home := filepath.Join(st.GraphRoot(), st.GraphDriverName())
	if len(trials(home)) == 0 {
		return
	}
	l, err := lockfile.GetLockFile(filepath.Join(st.GraphRoot(), "storage.lock"))
	if err != nil {
		return
	}
	l.Lock()
	defer l.Unlock()
	for _, dir := range trials(home) {
		for _, mount := range []string{"merged", "lower-mapped"} {
			_ = unix.Unmount(filepath.Join(dir, mount), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
		_ = os.RemoveAll(dir)
	}
}

// trials lists them among the driver's directories.
func trials(home string) (dirs []string) {
	entries, _ := os.ReadDir(home)
	for _, e := range entries {
		if isTrial(e.Name()) {
			dirs = append(dirs, filepath.Join(home, e.Name()))
		}
	}
	return dirs
}

func isTrial(name string) bool {
	kind := strings.TrimRight(name, "0123456789")
	return kind != name && slices.Contains([]string{"compat", "metacopy-check", "opaque-bug-check", "volatile-check"}, kind)
}

// nameLinks sees to layers whose making the machine's loss of power, or a kill, has cut
// short, and whose file with the name of their short link is empty. The library, which
// deletes them as it opens the store, would take the directory of all links for theirs.
// One of this boot may be about to be written: it is by who holds the lock of the layers.
func nameLinks(graph string) {
	home := filepath.Join(graph, "overlay")
	fresh := nameEmpty(home, procfs.Booted())
	if !fresh {
		return
	}
	l, err := lockfile.GetLockFile(filepath.Join(graph, "overlay-layers", "layers.lock"))
	if err != nil || !l.IsReadWrite() {
		return
	}
	l.Lock()
	defer l.Unlock()
	nameEmpty(home, time.Now())
}

// nameEmpty names the links that have no name, and tells whether there are some that were
// made since that time and are left.
func nameEmpty(home string, since time.Time) (left bool) {
	entries, _ := os.ReadDir(home)
	for _, e := range entries {
		name := filepath.Join(home, e.Name(), "link")
		info, err := os.Lstat(name)
		switch {
		case err != nil || !info.Mode().IsRegular() || info.Size() > 0:
		case info.ModTime().Before(since):
			_ = os.WriteFile(name, []byte(linkOf(home, e.Name())), 0o644)
		default:
			left = true
		}
	}
	return left
}

// linkOf finds the short link to a layer, or makes up one that is nobody's.
func linkOf(home, layer string) string {
	links, _ := os.ReadDir(filepath.Join(home, "l"))
	for _, l := range links {
		if to, err := os.Readlink(filepath.Join(home, "l", l.Name())); err == nil && to == filepath.Join("..", layer, "diff") {
			return l.Name()
		}
	}
	return "lost-" + layer
}
