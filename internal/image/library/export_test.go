package library

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"github.com/opencontainers/go-digest"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/stringid"

	"github.com/cove-engine/cove/internal/image"
)

const MostLayers = mostLayers

// CountOpens counts how often s needs the libraries' store from now on.
func (s *Store) CountOpens() *int {
	n := new(int)
	open := s.library
	s.library = func() (*library, error) { *n++; return open() }
	return n
}

// LayerIDs lists the layers of the libraries' store, except those of pins.
func (s *Store) LayerIDs() ([]string, error) {
	lib, err := s.library()
	if err != nil {
		return nil, err
	}
	layers, err := lib.store.Layers()
	ids := []string{}
	for _, l := range layers {
		ids = append(ids, l.ID)
	}
	return ids, err
}

// MakeLayer makes a layer that belongs to nothing yet, as part of a copy by
// another tool would be, below parent unless that is "".
func (s *Store) MakeLayer(id, parent string) (string, error) { return s.makeLayer(id, parent, nil) }

// CopyLayer makes one as a copy by cove does that is killed before its image.
func (s *Store) CopyLayer() (id string, err error) {
	id = stringid.GenerateRandomID()
	if err := s.Interrupted(id); err != nil {
		return "", err
	}
	return s.makeLayer(id, "", &storage.LayerOptions{Flags: map[string]any{copyFlag: true}})
}

func (s *Store) makeLayer(id, parent string, o *storage.LayerOptions) (string, error) {
	lib, err := s.library()
	if err != nil {
		return "", err
	}
	l, err := lib.store.CreateLayer(id, parent, nil, "", false, o)
	if err != nil {
		return "", err
	}
	return l.ID, nil
}

// Interrupted writes down a layer as a copy does that is killed before it has made it.
func (s *Store) Interrupted(layer string) error {
	c, err := s.openCopies()
	if err != nil {
		return err
	}
	defer c.file.Close()
	return c.write(note{id: layer})
}

// BeginRemoval does what a removal does before it deletes an image's record.
func (s *Store) BeginRemoval(id string) error {
	lib, err := s.library()
	if err != nil {
		return err
	}
	c, err := s.openCopies()
	if err != nil {
		return err
	}
	defer c.file.Close()
	img, err := lib.store.Image(id)
	if err != nil {
		return err
	}
	return c.leave(lib, img.TopLayer)
}

// BeginPin makes the layers of an image's pin, and not the record of its container.
func (s *Store) BeginPin(id string) error {
	lib, err := s.library()
	if err != nil {
		return err
	}
	img, err := lib.store.Image(id)
	if err != nil {
		return err
	}
	if _, err = lib.store.CreateLayer(image.PinID("layer", id), img.TopLayer, []string{pinLayerPrefix + id}, "", false, nil); err == nil {
		_, err = lib.store.CreateLayer(image.PinID("container layer", id), img.TopLayer, nil, "", true, nil)
	}
	return err
}

// NameLayer gives a layer a name.
func (s *Store) NameLayer(id, name string) error {
	lib, err := s.library()
	if err != nil {
		return err
	}
	return lib.store.AddNames(id, []string{name})
}

// FailNames has s fail from now on where an image is given a name.
func (s *Store) FailNames() {
	open := s.library
	s.library = func() (*library, error) {
		lib, err := open()
		if err != nil {
			return nil, err
		}
		return &library{runtime: lib.runtime, store: nameless{lib.store}}, nil
	}
}

// FailData has s fail where an image is given what it has beside its layers, once,
// as the library does when the data is written and their record is not.
func (s *Store) FailData() {
	open := s.library
	s.library = func() (*library, error) {
		lib, err := open()
		if err != nil {
			return nil, err
		}
		return &library{runtime: lib.runtime, store: &dataless{Store: lib.store}}, nil
	}
}

type dataless struct {
	storage.Store
	failed bool
}

func (d *dataless) SetImageBigData(id, key string, data []byte, digest func([]byte) (digest.Digest, error)) error {
	if d.failed || key != "manifest" {
		return d.Store.SetImageBigData(id, key, data, digest)
	}
	d.failed = true
	file := filepath.Join(d.GraphRoot(), "overlay-images", id, key)
	return errors.Join(os.WriteFile(file, []byte("new"), 0o600), syscall.EIO)
}

type nameless struct{ storage.Store }

func (nameless) AddNames(string, []string) error { return syscall.EIO }
