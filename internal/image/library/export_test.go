package library

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
// another tool would be.
func (s *Store) MakeLayer() (id string, err error) {
	lib, err := s.library()
	if err != nil {
		return "", err
	}
	l, err := lib.store.CreateLayer("", "", nil, "", false, nil)
	if err != nil {
		return "", err
	}
	return l.ID, nil
}

// Interrupted writes down a layer as a copy does that is killed before its image.
func (s *Store) Interrupted(layer string) error {
	c, err := s.openCopies()
	if err != nil {
		return err
	}
	defer c.file.Close()
	return c.made(layer, false)
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
