package engine

import (
	"errors"
	"syscall"
)

// undo collects what takes back the steps done so far, to be run backwards
// when a later one fails.
type undo struct {
	steps []func() error
}

func (u *undo) add(f func() error) { u.steps = append(u.steps, f) }

// because runs every step, last one first, and joins their errors to the
// cause.
func (u *undo) because(cause error) error {
	errs := []error{cause}
	for i := len(u.steps) - 1; i >= 0; i-- {
		if err := u.steps[i](); err != nil {
			errs = append(errs, err)
		}
	}
	u.steps = nil
	if len(errs) == 1 {
		return cause
	}
	return errors.Join(errs...)
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
