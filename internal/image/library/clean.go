package library

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"go.podman.io/common/libimage"
	imagetypes "go.podman.io/image/v5/types"
	"go.podman.io/storage"

	"github.com/cove-engine/cove/internal/image/index"
	"golang.org/x/sys/unix"
)

// orClean runs a copy into the store, by the library's operations with sys or,
// for nil, the usual configuration; if it fails, it deletes the images and layers
// that the copy has left: the library commits layers one by one and leaves those
// before the failing one to a next attempt that may never come, and it looks at
// some things of an image only when it has stored it.
func (s *Store) orClean(ctx context.Context, lib *library, sys *imagetypes.SystemContext, copy func(*libimage.Runtime) error) error {
	end := watched().keep()
	err := s.copyOrClean(ctx, lib, sys, copy)
	end(err) // not after a panic, which is told in one line, too
	return err
}

func (s *Store) copyOrClean(ctx context.Context, lib *library, sys *imagetypes.SystemContext, copy func(*libimage.Runtime) error) (err error) {
	if sys == nil {
		sys = lib.runtime.SystemContext()
	}
	mine, err := s.shareCopies(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mine.file.Close()) }()
	into := &incoming{Store: lib.store, ctx: ctx, copies: mine, depths: map[string]int{}}
	rt, err := libimage.RuntimeFromStore(into, &libimage.RuntimeOptions{SystemContext: sys})
	if err != nil {
		return err
	}
	failed := copy(rt)
	if failed == nil {
		failed = lib.settle()
	}
	if !mine.alone() {
		return failed
	}
	err = failed
	if failed != nil {
		for _, id := range into.images {
			if _, cleanErr := lib.store.DeleteImage(id, true); cleanErr != nil {
				err = errors.Join(err, ignore(cleanErr, storage.ErrImageUnknown, storage.ErrImageUsedByContainer, storage.ErrLayerHasChildren))
			}
		}
	}
	return errors.Join(err, lib.clean(mine))
}

// copies is a file in which every copy into the store by cove writes which layers and
// images it is about to make, and every removal the layers of its images. All share its
// lock. Who has the lock alone knows that no copy runs, and that what is written there and
// belongs to no image, or is one without a manifest, is what one that failed, or was
// killed, has left.
//
// A layer's ID follows from its content, so another tool may make the same one
// again: before a copy that was killed had made it, or after a removal. That may be
// part of a copy of theirs, and is not the one that was written down: a copy's layers
// carry copyFlag, and a removal writes down when each was made.
type copies struct{ file *os.File }

// copyFlag is in the record of each layer that a copy by cove has made.
const copyFlag = "cove-copy"

// note is a layer that a copy was about to make, or with made a removal to remove, or
// an image that a copy was about to make.
type note struct {
	id    string
	made  int64 // when, in nanoseconds since 1970; 0 of a copy's
	image bool
}

// imageNote begins the line of an image.
const imageNote = "image "

// of tells whether a layer is the one that was written down.
func (n note) of(lay *storage.Layer) bool {
	if n.made != 0 {
		return n.made == lay.Created.UnixNano()
	}
	_, ours := lay.Flags[copyFlag]
	return ours
}

func (s *Store) openCopies() (*copies, error) {
	dir, err := s.indexDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file, err := index.OpenFile(filepath.Join(dir, "copies"), os.O_RDWR|os.O_CREATE|os.O_APPEND)
	if err != nil {
		return nil, err
	}
	return &copies{file}, nil
}

// shareCopies opens it and shares its lock.
func (s *Store) shareCopies(ctx context.Context) (*copies, error) {
	c, err := s.openCopies()
	if err != nil {
		return nil, err
	}
	if err := index.Lock(ctx, int(c.file.Fd()), c.file.Name(), syscall.LOCK_SH, index.Patience); err != nil {
		return nil, errors.Join(err, c.file.Close())
	}
	return c, nil
}

// alone takes the lock from all others, or tells that there are some.
func (c *copies) alone() bool {
	return syscall.Flock(int(c.file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

// write takes note of layers and images, on the disk, as their records will be.
func (c *copies) write(notes ...note) error {
	var lines strings.Builder
	for _, n := range notes {
		if n.image {
			lines.WriteString(imageNote)
		}
		lines.WriteString(n.id)
		if n.made != 0 {
			lines.WriteString(" " + strconv.FormatInt(n.made, 10))
		}
		lines.WriteByte('\n')
	}
	if _, err := c.file.WriteString(lines.String()); err != nil {
		return err
	}
	return unix.Fdatasync(int(c.file.Fd()))
}

// leave takes note of a layer and of those below it, before the image or the pin
// goes that they belong to.
func (c *copies) leave(l *library, top string) error {
	var all []note
	for id := top; id != ""; {
		rec, err := l.store.Layer(id)
		if errors.Is(err, storage.ErrLayerUnknown) {
			break // of a damaged image
		}
		if err != nil {
			return err
		}
		all, id = append(all, note{id: id, made: rec.Created.UnixNano()}), rec.Parent
	}
	slices.Reverse(all)
	return c.write(all...)
}

// left lists the notes in the order in which they were made.
func (c *copies) left() ([]note, error) {
	if _, err := c.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	var notes []note
	lines := bufio.NewReader(c.file)
	for whole := true; ; { // a line that is longer than the buffer is none of ours
		line, err := lines.ReadSlice('\n')
		if whole && err == nil {
			text, image := strings.CutPrefix(string(line[:len(line)-1]), imageNote)
			id, made, _ := strings.Cut(text, " ")
			n := note{id: id, image: image}
			n.made, _ = strconv.ParseInt(made, 10, 64)
			notes = append(notes, n)
		}
		switch whole = err == nil; {
		case err == io.EOF:
			return notes, nil
		case err != nil && err != bufio.ErrBufferFull:
			return notes, err
		}
	}
}

// remains lists the layers of the notes that a killed copy has left, children after
// their parents. The lock is held alone.
func (l *library) remains(notes []note) ([]string, error) {
	if len(notes) == 0 {
		return nil, nil
	}
	all, err := l.store.Layers()
	if err != nil {
		return nil, err
	}
	used, err := l.used(all)
	if err != nil {
		return nil, err
	}
	there := map[string]*storage.Layer{}
	for i, lay := range all {
		if !lay.ReadOnly && !used[lay.ID] {
			there[lay.ID] = &all[i]
		}
	}
	var remains []string
	for _, n := range notes {
		if lay := there[n.id]; lay != nil && !n.image && n.of(lay) && !slices.Contains(remains, n.id) {
			remains = append(remains, n.id)
		}
	}
	return remains, nil
}

// used gives the layers that images, containers or pins need.
func (l *library) used(all []storage.Layer) (map[string]bool, error) {
	used, parent := map[string]bool{}, map[string]string{}
	use := func(id string) {
		for ; id != "" && !used[id]; id = parent[id] {
			used[id] = true
		}
	}
	for _, lay := range all {
		parent[lay.ID] = lay.Parent
	}
	for _, lay := range all {
		if len(lay.Names) > 0 || lay.MountCount > 0 {
			use(lay.ID)
		}
	}
	images, err := l.store.Images()
	if err != nil {
		return nil, err
	}
	for _, img := range images {
		for _, top := range append(img.MappedTopLayers, img.TopLayer) {
			use(top)
		}
	}
	containers, err := l.store.Containers()
	if err != nil {
		return nil, err
	}
	for _, ctr := range containers {
		use(ctr.LayerID)
	}
	return used, nil
}

// cleanAlone is clean unless somebody else shares the lock.
func (l *library) cleanAlone(c *copies) error {
	if !c.alone() {
		return nil
	}
	return l.clean(c)
}

// clean deletes what copies have left. The lock is held alone.
func (l *library) clean(c *copies) error {
	info, err := c.file.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	notes, err := c.left()
	if err != nil {
		return err
	}
	errs := []error{l.cleanImages(notes)}
	layers, err := l.remains(notes)
	if err != nil {
		return err
	}
	for _, id := range slices.Backward(layers) {
		errs = append(errs, l.deleteRemains(id))
	}
	if err := errors.Join(append(errs, l.dropData())...); err != nil {
		return err
	}
	return c.file.Truncate(0)
}

// cleanImages deletes the images of which a copy that was killed has made the record
// alone. The store's lock is held until an image has its manifest: one without was
// not finished, or is damaged.
func (l *library) cleanImages(notes []note) error {
	var errs []error
	for _, n := range notes {
		if !n.image {
			continue
		}
		// By its record: what cannot be read is not what is not there.
		if names, err := l.store.ListImageBigData(n.id); err != nil || slices.Contains(names, storage.ImageDigestBigDataKey) {
			continue
		}
		_, err := l.store.DeleteImage(n.id, true)
		errs = append(errs, ignore(err, storage.ErrImageUnknown, storage.ErrImageUsedByContainer, storage.ErrLayerHasChildren))
	}
	return errors.Join(errs...)
}

func (l *library) deleteRemains(layer string) error {
	return ignore(l.store.DeleteLayer(layer), storage.ErrLayerHasChildren, storage.ErrLayerUsedByImage,
		storage.ErrLayerUsedByContainer, storage.ErrLayerUnknown, storage.ErrNotALayer)
}
