package library

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
