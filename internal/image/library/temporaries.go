package library

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"

	"go.podman.io/storage"
	"go.podman.io/storage/pkg/lockfile"
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
