package logfile

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
)

// maxRotated bounds how many predecessors are looked for.
const maxRotated = 1000

// Cursor goes from file to file of a log that its writers rotate while it is
// read: PATH and its predecessors PATH.1, the youngest, to PATH.N. The zero
// Cursor with a Path stands before the first.
//
// Rotation moves the files up by one, the oldest first, so where a file was seen
// it need not be any more, and one place is empty for a moment: what a move has
// opened is looked for again, and taken if it is still the one that was meant.
type Cursor struct {
	Path string
	File *os.File // the one it is at, nil before the first
}

// Close closes the file.
func (c *Cursor) Close() {
	if c.File != nil {
		_ = c.File.Close() // only read
		c.File = nil
	}
}

// Oldest goes to the beginning of the oldest file; like all moves it stays where
// it is, and tells so, when there is none.
func (c *Cursor) Oldest() (bool, error) { return c.move(c.oldest) }

// Youngest goes to the beginning of the log itself.
func (c *Cursor) Youngest() (bool, error) { return c.move(c.youngest) }

// Older goes to the beginning of the file before the present one.
func (c *Cursor) Older() (bool, error) { return c.move(c.older) }

// Younger goes to the beginning of the file after the present one, or to the
// oldest before the first: what has been rotated since was not read yet.
func (c *Cursor) Younger() (bool, error) { return c.move(c.younger) }

// Last tells whether no file follows the present one. If one does, nothing is
// written to the present one any more.
func (c *Cursor) Last() (bool, error) {
	next, err := c.younger()
	return next == "", err
}

// choice names the file to go to, "" for none.
type choice func() (path string, err error)

func (c *Cursor) move(choose choice) (bool, error) {
	for {
		path, err := choose()
		if err != nil || path == "" {
			return false, err
		}
		f, err := Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		same, err := chooses(choose, f)
		if err != nil {
			return false, errors.Join(err, f.Close())
		}
		if !same {
			_ = f.Close() // only read
			continue
		}
		c.Close()
		c.File = f
		return true, nil
	}
}

// chooses reports whether choose names f.
func chooses(choose choice, f *os.File) (bool, error) {
	path, err := choose()
	if err != nil || path == "" {
		return false, err
	}
	named, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	opened, err := f.Stat()
	return err == nil && os.SameFile(opened, named), err
}

// place is one of the log's files and where it was seen.
type place struct {
	path string
	info os.FileInfo
}

// places lists the files, the youngest first. None is empty but one at most, and
// a file may be met again where it has been moved to.
func (c *Cursor) places() (all []place, err error) {
	gap := false
	for k := 0; k <= maxRotated; k++ {
		path := c.Path
		if k > 0 {
			path += "." + strconv.Itoa(k)
		}
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !gap:
			gap = true
		case errors.Is(err, fs.ErrNotExist):
			return all, nil
		case err != nil:
			return nil, err
		case len(all) == 0 || !os.SameFile(all[len(all)-1].info, info):
			all = append(all, place{path, info})
		}
	}
	return all, nil
}

// at finds the file of info among all, -1 when it is gone.
func at(all []place, info os.FileInfo) int {
	for i, p := range all {
		if os.SameFile(info, p.info) {
			return i
		}
	}
	return -1
}

func (c *Cursor) youngest() (string, error) {
	all, err := c.places()
	if err != nil || len(all) == 0 {
		return "", err
	}
	return all[0].path, nil
}

func (c *Cursor) oldest() (string, error) {
	all, err := c.places()
	if err != nil || len(all) == 0 {
		return "", err
	}
	return all[len(all)-1].path, nil
}

func (c *Cursor) older() (string, error) {
	mine, err := c.File.Stat()
	if err != nil {
		return "", err
	}
	all, err := c.places()
	if err != nil {
		return "", err
	}
	if i := at(all, mine); i >= 0 && i < len(all)-1 {
		return all[i+1].path, nil
	}
	return "", nil
}

func (c *Cursor) younger() (string, error) {
	if c.File == nil {
		return c.oldest()
	}
	mine, err := c.File.Stat()
	if err != nil {
		return "", err
	}
	if log, err := os.Lstat(c.Path); err == nil && os.SameFile(mine, log) {
		return "", nil
	}
	all, err := c.places()
	if err != nil || len(all) == 0 {
		return "", err
	}
	i := at(all, mine)
	if i >= 0 {
		if i == 0 {
			return "", nil
		}
		return all[i-1].path, nil
	}
	// It is gone altogether: the oldest that was written to after it.
	for i = len(all) - 1; i > 0 && all[i].info.ModTime().Before(mine.ModTime()); i-- {
	}
	return all[i].path, nil
}
