package engine

import (
	"context"
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/rootfs/archive"
	"github.com/cove-engine/cove/internal/state"
)

// ExportVolume writes a volume's content as a tar stream. Whoever takes the
// stream is waited for, so no lock is held meanwhile.
func (e *Engine) ExportVolume(ctx context.Context, name string, w io.Writer) error {
	v, err := e.exactVolume(name)
	if err != nil {
		return err
	}
	if err := e.makeRecorded(ctx, v.Name); err != nil {
		return err
	}
	data, err := e.openVolume(v.Name)
	if err == nil {
		defer data.Close()
		err = archive.Pack(ctx, w, &data, "")
	}
	if err != nil {
		return cove.E("export volume", v.Name, fileKind(err), err)
	}
	return nil
}

// ImportVolume unpacks a tar stream, which may be compressed, into a volume:
// over what it has already. The stream is read to its end first, so that
// nobody who sends it is waited for under the volume's lock.
func (e *Engine) ImportVolume(ctx context.Context, name string, r io.Reader) error {
	v, err := e.exactVolume(name)
	if err != nil {
		return err
	}
	stream, err := e.decompress(r)
	if err != nil {
		return cove.E("import volume", v.Name, cove.Invalid, err)
	}
	defer stream.Close()
	spooled, err := spool(ctx, e.conf.Home(), stream)
	if err != nil {
		return cove.E("import volume", v.Name, fileKind(err), err)
	}
	defer spooled.Close()
	if err := e.makeRecorded(ctx, v.Name); err != nil {
		return err
	}
	l, err := e.locks.Lock(ctx, lock.Volume, v.Name)
	if err != nil {
		return err
	}
	defer l.Unlock()
	err = e.store.View(func(tx state.Tx) error { return tx.Get(state.Volumes, v.Name, &v) })
	switch {
	case cove.Is(err, cove.NotFound):
		return errors.Join(err, e.locks.Forget(lock.Volume, v.Name)) // it was made by asking for it
	case err != nil:
		return err
	case v.Intent == cove.BeingRemoved:
		return cove.E("import volume", v.Name, cove.InUse, errors.New("it is being removed"))
	}
	data, err := e.openVolume(v.Name)
	if err == nil {
		defer data.Close()
		err = archive.Unpack(ctx, data.FD, spooled, archive.Options{Overwrite: true})
	}
	if err != nil {
		kind := fileKind(err)
		if errors.Is(err, archive.ErrRefused) {
			kind = cove.Invalid
		}
		return cove.E("import volume", v.Name, kind, err)
	}
	return nil
}

// openVolume opens a volume's directory, whatever that is by now.
func (e *Engine) openVolume(name string) (rootfs.Entry, error) {
	return rootfs.OpenEntry(unix.AT_FDCWD, e.volumeData(name))
}

// exactVolume finds a volume by its whole name, as podman's export and import.
func (e *Engine) exactVolume(name string) (cove.Volume, error) {
	var v cove.Volume
	err := e.store.View(func(tx state.Tx) error { return tx.Get(state.Volumes, name, &v) })
	if err == nil && v.Intent == cove.BeingRemoved {
		err = cove.E("", "", cove.NotFound, errors.New("no such volume "+name))
	}
	return v, err
}
