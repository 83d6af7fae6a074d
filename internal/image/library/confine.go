package library

import (
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/vbatts/tar-split/tar/asm"
	tarsplit "github.com/vbatts/tar-split/tar/storage"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/image"
)

// confined is a store that puts a layer's archive together out of nothing but
// the layer's own regular files. The library opens them by the names that the
// archive had, with "..", links to /etc and all: unpacking was confined to the
// layer, but to save or push such an image would send the host's files, or wait
// for a FIFO for ever.
type confined struct{ storage.Store }

// Diff gives a layer as an archive.
func (s confined) Diff(from, to string, o *storage.DiffOptions) (io.ReadCloser, error) {
	if !image.Known(s.GraphDriverName()) || from != "" || o == nil || o.Compression == nil || *o.Compression != archive.Uncompressed {
		return s.Store.Diff(from, to, o)
	}
	ours, err := s.assemble(to)
	if err != nil {
		return nil, err
	}
	// The library's keeps the layer locked until it is closed, and reads
	// nothing before it is read.
	theirs, err := s.Store.Diff(from, to, o)
	switch {
	case ours == nil: // it is made out of the directory
		return theirs, err
	case err != nil:
		return nil, errors.Join(err, ours.Close())
	}
	return locked{ours, theirs}, nil
}

// locked is an archive that lasts as long as its lock.
type locked struct {
	io.ReadCloser
	lock io.Closer
}

func (l locked) Close() error { return errors.Join(l.ReadCloser.Close(), l.lock.Close()) }

// assemble is nil for a layer that nobody knows the archive of.
func (s confined) assemble(id string) (_ io.ReadCloser, err error) {
	l := &library{store: s}
	record, err := l.archiveOf(id)
	if record == nil || err != nil {
		return nil, err
	}
	a := &assembly{record: record}
	defer func() {
		if err != nil {
			_ = a.closeFiles()
		}
	}()
	plain, err := gzip.NewReader(record)
	if err != nil {
		return nil, err
	}
	places, err := l.places(id)
	if err != nil {
		return nil, err
	}
	for _, place := range places {
		root, err := os.Open(place.dir)
		if err != nil {
			return nil, err
		}
		a.roots = append(a.roots, root)
	}
	a.ReadCloser = asm.NewOutputTarStream(a, tarsplit.NewJSONUnpacker(plain))
	return a, nil
}

// places are the directories that have a layer's files.
func (l *library) places(id string) ([]layer, error) {
	if image.Whole(l.store.GraphDriverName()) {
		return l.whole(id)
	}
	// The library looks into the layers below, too: some are templates.
	var all []layer
	for id != "" {
		found, err := l.onDisk(id)
		if err != nil {
			return nil, err
		}
		below, err := l.store.Layer(id)
		if err != nil {
			return nil, err
		}
		all, id = append(all, found), below.Parent
	}
	return all, nil
}

// archiveOf opens what the library noted of a layer's archive; nil for nothing.
func (l *library) archiveOf(id string) (*os.File, error) {
	driver := l.store.GraphDriverName()
	for _, st := range l.stores() {
		if _, err := os.Lstat(filepath.Join(st, image.LayerDir(driver, id))); err != nil {
			continue
		}
		f, err := os.Open(filepath.Join(st, driver+"-layers", id+".tar-split.gz"))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	return nil, nil
}

// assembly is an archive and what it is made of.
type assembly struct {
	io.ReadCloser
	record *os.File
	roots  []*os.File // of the layer and those below
}

// Close ends the reading; files are closed by whom they serve.
func (a *assembly) Close() error { return errors.Join(a.ReadCloser.Close(), a.closeFiles()) }

func (a *assembly) closeFiles() error {
	err := a.record.Close()
	for _, r := range a.roots {
		err = errors.Join(err, r.Close())
	}
	return err
}

// Get opens a file of the layer's.
func (a *assembly) Get(name string) (io.ReadCloser, error) {
	name = path.Clean("/" + name)
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for _, root := range a.roots {
		fd, err := unix.Openat2(int(root.Fd()), name, &how)
		if err == unix.ENOENT || err == unix.ENOTDIR {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
		f := os.NewFile(uintptr(fd), name)
		if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
			_ = f.Close()
			return nil, errors.Join(err, &os.PathError{Op: "open", Path: name, Err: errors.New("the layer has no such regular file")})
		}
		return f, nil
	}
	return nil, &os.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}
