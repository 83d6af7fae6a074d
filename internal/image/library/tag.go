package library

import (
	"github.com/cove-engine/cove"
)

// Tag gives the image called nameOrID the further names.
func (s *Store) Tag(nameOrID string, names ...string) error {
	const op = "tag image"
	lib, err := s.writable()
	if err != nil {
		return err
	}
	img, err := s.find(op, nameOrID)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := img.Tag(n); err != nil {
			return failContent(op, n, err)
		}
	}
	return fail(op, nameOrID, lib.settle())
}

// Untag takes names from the image called nameOrID, all of them if none is
// given. The image stays.
func (s *Store) Untag(nameOrID string, names ...string) error {
	const op = "untag image"
	lib, err := s.writable()
	if err != nil {
		return err
	}
	img, _, err := lib.lookup(nameOrID, "")
	if err != nil {
		return fail(op, nameOrID, err)
	}
	if len(names) == 0 {
		names = append(names, img.Names()...)
	}
	for _, n := range names {
		full, err := lib.runtime.ResolveName(n)
		if err != nil {
			return cove.E(op, n, cove.Invalid, plain(err))
		}
		if err := img.Untag(full); err != nil {
			k := kind(err)
			if k == cove.Internal {
				k = cove.NotFound // "tag not known" has no exported value
			}
			return cove.E(op, n, k, plain(err))
		}
	}
	return fail(op, nameOrID, lib.settle())
}
