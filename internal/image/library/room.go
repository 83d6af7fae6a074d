package library

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"
	"go.podman.io/storage/pkg/stringid"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/syncdir"
)

// incoming is the store for one copy into it, which ends with ctx. It refuses
// layers for which there is no room when their archive's headers say so, and not
// after as many zeros: the library computes a checksum over the holes of sparse
// files, too, which for those of a few hundred bytes can take days in which
// nobody can stop it.
type incoming struct {
	storage.Store
	ctx    context.Context
	copies *copies
	mu     sync.Mutex
	images []string       // that this copy has made
	depths map[string]int // of the layers that it has made or found, the lowest being 1
}

// maxManifest is the library's limit for what registries send. Of a manifest in a
// directory it has none, and to read one of many megabytes whenever images are
// listed takes minutes.
const maxManifest = 4 << 20

// CreateImage takes note of an image. Its layers are on the disk before it is: one
// that is there after a loss of power has its content. The library records it just
// before its manifest; one that has none is listed, hides no other, can be removed, and is
// by the next copy or removal.
func (s *incoming) CreateImage(id string, names []string, layer, metadata string, o *storage.ImageOptions) (*storage.Image, error) {
	if o != nil {
		for _, data := range o.BigData {
			if data.Key == storage.ImageDigestBigDataKey && len(data.Data) > maxManifest {
				return nil, cove.E("", "", cove.Invalid, fmt.Errorf("its manifest has %d bytes, more than %d", len(data.Data), maxManifest))
			}
		}
	}
	if err := syncTree(cmp.Or(s.ImageStore(), s.GraphRoot())); err != nil {
		return nil, err
	}
	if id == "" {
		id = stringid.GenerateRandomID()
	}
	if err := s.copies.write(note{id: id, image: true}); err != nil {
		return nil, err
	}
	img, err := s.Store.CreateImage(id, names, layer, metadata, o)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.images = append(s.images, img.ID)
	}
	return img, err
}

// DeleteImage is how the library takes back an image that it could not finish. One that
// was there before this copy stays: the library would delete it as well.
func (s *incoming) DeleteImage(id string, commit bool) ([]string, error) {
	s.mu.Lock()
	made := slices.Contains(s.images, id)
	s.mu.Unlock()
	if !made {
		return nil, nil
	}
	return s.Store.DeleteImage(id, commit)
}

// SetImageBigData writes what an image has beside its layers. When it fails for one
// that was there before, the file may have been written and not the record of its
// size, and the image would be damaged: what it had is written back.
func (s *incoming) SetImageBigData(id, key string, data []byte, digest func([]byte) (digest.Digest, error)) error {
	before, none := s.ImageBigData(id, key)
	err := s.Store.SetImageBigData(id, key, data, digest)
	if err != nil && none == nil {
		// The file comes first; of the record it is as good as what there was.
		_ = s.Store.SetImageBigData(id, key, before, digest)
	}
	return err
}

// syncTree writes to the disk what the file system of a directory has not yet.
func syncTree(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Syncfs(fd)
		_ = unix.Close(fd)
	}
	if err != nil {
		return &os.PathError{Op: "sync", Path: dir, Err: err}
	}
	return nil
}

// settle has the images' names and records on the disk. The library syncs each file
// that it writes, and not that it has its name.
func (l *library) settle() error {
	return syncdir.Sync(l.imagesDir())
}

// imagesDir is where the images' records are, and what each has beside its layers.
func (l *library) imagesDir() string {
	return filepath.Join(cmp.Or(l.store.ImageStore(), l.store.GraphRoot()), l.store.GraphDriverName()+"-images")
}

// depth is how many layers there are from one down.
func (s *incoming) depth(id string) (int, error) {
	n, known := s.depths[id]
	if id == "" || known {
		return n, nil
	}
	layer, err := s.Layer(id)
	if err != nil {
		return 0, err
	}
	if n, err = s.depth(layer.Parent); err == nil {
		s.depths[id] = n + 1
	}
	return n + 1, err
}

// making takes note of a layer that is to be made above parent, and gives its ID and
// the options that mark it as a copy's. It refuses one that no container could have: a
// manifest has room for tens of thousands, each of which makes the next one slower.
func (s *incoming) making(id, parent string, o *storage.LayerOptions) (string, *storage.LayerOptions, error) {
	s.mu.Lock()
	below, err := s.depth(parent)
	s.mu.Unlock()
	if err != nil {
		return "", nil, err
	}
	if below >= mostLayers {
		return "", nil, cove.E("", "", cove.Invalid, fmt.Errorf("it has more than %d layers", mostLayers))
	}
	if id == "" {
		id = stringid.GenerateRandomID()
	}
	marked := storage.LayerOptions{}
	if o != nil {
		marked = *o
	}
	flags := map[string]any{copyFlag: true}
	maps.Copy(flags, marked.Flags)
	marked.Flags = flags
	return id, &marked, s.copies.write(note{id: id})
}

// ApplyStagedLayer makes a layer of files that were fetched one by one.
func (s *incoming) ApplyStagedLayer(args storage.ApplyStagedLayerOptions) (layer *storage.Layer, err error) {
	if args.ID, args.LayerOptions, err = s.making(args.ID, args.ParentLayer, args.LayerOptions); err != nil {
		return nil, err
	}
	return s.Store.ApplyStagedLayer(args)
}

// PutLayer unpacks a layer, see [incoming.put].
func (s *incoming) PutLayer(id, parent string, names []string, label string, writeable bool, o *storage.LayerOptions, diff io.Reader) (*storage.Layer, int64, error) {
	id, o, err := s.making(id, parent, o)
	if err != nil {
		return nil, -1, err
	}
	return s.put(id, parent, names, label, writeable, o, diff)
}

// put unpacks a layer from the file where the library keeps its blob.
func (s *incoming) put(id, parent string, names []string, label string, writeable bool, o *storage.LayerOptions, diff io.Reader) (*storage.Layer, int64, error) {
	file, ok := diff.(*os.File)
	if !ok || o.OriginalDigest == "" || o.UncompressedDigest == "" {
		return s.Store.PutLayer(id, parent, names, label, writeable, o, diff)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, -1, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(cmp.Or(s.ImageStore(), s.GraphRoot()), &fs); err != nil {
		return nil, -1, &os.PathError{Op: "statfs", Path: s.GraphRoot(), Err: err}
	}
	plain, err := archive.DecompressStream(file)
	if err != nil {
		return nil, -1, err
	}
	defer plain.Close()
	known := *o
	if known.OriginalSize == nil {
		size := info.Size()
		known.OriginalSize = &size
	}
	m := measure(s.ctx, plain, int64(fs.Bfree)*fs.Bsize)
	layer, size, err := s.Store.PutLayer(id, parent, names, label, writeable, &known, m)
	if own := m.Close(); own != nil && err != nil {
		err = own // the library tells its child's words instead
	}
	return layer, size, err
}

// measured is an archive that ends with an error at the header of what does not
// fit into the room there is.
type measured struct {
	*io.PipeReader
	done chan struct{}
	err  error
}

func measure(ctx context.Context, from io.Reader, room int64) *measured {
	r, w := io.Pipe()
	m := &measured{PipeReader: r, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		behind := &behind{to: w, ctx: ctx}
		m.err = walk(io.TeeReader(from, behind), room)
		if m.err == nil {
			m.err = behind.flush()
		}
		_ = w.CloseWithError(m.err)
	}()
	return m
}

// Close gives the archive's own error.
func (m *measured) Close() error {
	_ = m.PipeReader.Close()
	<-m.done
	if errors.Is(m.err, io.ErrClosedPipe) {
		return nil
	}
	return m.err
}

// walk reads an archive to its end, or to what there is no room for.
func walk(r io.Reader, room int64) error {
	var holes int64
	for files := tar.NewReader(r); ; {
		h, err := files.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo:
			continue // their size means nothing
		}
		// Sparse files' sizes count together: other files' bytes are in the
		// archive, and there comes an end to them.
		claim := h.Size
		if sparse(h) {
			holes += min(h.Size, room+1)
			claim = max(claim, holes)
		}
		if claim > room {
			return cove.E("", "", cove.Unavailable, fmt.Errorf("its file %q is to have %d bytes, and there is room for %d: %w", h.Name, h.Size, room, unix.ENOSPC))
		}
	}
	_, err := io.Copy(io.Discard, r) // padding is part of a layer
	return err
}

func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// behind passes on what was written before the last write, until ctx ends: a
// header comes out when it has been looked at.
type behind struct {
	to   io.Writer
	ctx  context.Context
	held []byte
}

func (b *behind) Write(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	if len(b.held)+len(p) > 64<<10 {
		if err := b.flush(); err != nil {
			return 0, err
		}
	}
	b.held = append(b.held, p...)
	return len(p), nil
}

func (b *behind) flush() error {
	_, err := b.to.Write(b.held)
	b.held = b.held[:0]
	return err
}
