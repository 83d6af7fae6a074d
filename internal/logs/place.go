package logs

import (
	"errors"
	"io/fs"
	"os"
	"strconv"

	"github.com/cove-engine/cove/internal/logfile"
)

// maxRotated bounds how many predecessors are looked for.
const maxRotated = 1000

// place is one of the log's files and where it was seen. Rotation moves the
// files up by one, the oldest first, so a place is stale at once: only what is
// open is held (see [reader.move]).
type place struct {
	path string
	info os.FileInfo
}

// places lists the log's files, the youngest first. While they are moved up one
// place is empty, and a file may be met again at its next.
func (r *reader) places() (all []place, err error) {
	gap := false
	for k := 0; k <= maxRotated; k++ {
		path := r.o.Path
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

// mine finds the open file among all, -1 when there is none or it is gone.
func (r *reader) mine(all []place) (int, error) {
	if r.file == nil {
		return -1, nil
	}
	info, err := r.file.Stat()
	if err != nil {
		return -1, err
	}
	for i, p := range all {
		if os.SameFile(info, p.info) {
			return i, nil
		}
	}
	return -1, nil
}

// A choice picks the file to go on with, "" for none.
type choice func(*reader) (path string, err error)

// move goes to the beginning of the file that choose picks; false when it picks
// none. The file may be rotated between the look and the opening: it is the
// right one if it is picked again.
func (r *reader) move(choose choice) (bool, error) {
	for {
		path, err := choose(r)
		if err != nil || path == "" {
			return false, err
		}
		f, err := logfile.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		same, err := r.picks(choose, f)
		if err != nil {
			return false, errors.Join(err, f.Close())
		}
		if !same {
			_ = f.Close() // only read
			continue
		}
		r.close()
		r.file = f
		r.records.reset()
		if r.buf == nil {
			r.buf = make([]byte, 64<<10)
		}
		return true, nil
	}
}

// picks reports whether choose picks f.
func (r *reader) picks(choose choice, f *os.File) (bool, error) {
	path, err := choose(r)
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

func youngest(r *reader) (string, error) {
	all, err := r.places()
	if err != nil || len(all) == 0 {
		return "", err
	}
	return all[0].path, nil
}

func oldest(r *reader) (string, error) {
	all, err := r.places()
	if err != nil || len(all) == 0 {
		return "", err
	}
	return all[len(all)-1].path, nil
}

// older picks the file before the open one.
func older(r *reader) (string, error) {
	all, err := r.places()
	if err != nil {
		return "", err
	}
	i, err := r.mine(all)
	if err != nil || i < 0 || i == len(all)-1 {
		return "", err
	}
	return all[i+1].path, nil
}

// younger picks the file after the open one, and the first of all when none is
// open yet: nothing of it has been read, however often it has been rotated.
func younger(r *reader) (string, error) {
	if r.file == nil {
		return oldest(r)
	}
	mine, err := r.file.Stat()
	if err != nil {
		return "", err
	}
	if log, err := os.Lstat(r.o.Path); err == nil && os.SameFile(mine, log) {
		return "", nil
	}
	all, err := r.places()
	if err != nil || len(all) == 0 {
		return "", err
	}
	i, err := r.mine(all)
	switch {
	case err != nil || i == 0:
		return "", err
	case i > 0:
		return all[i-1].path, nil
	}
	// It is gone altogether: the oldest that was written to after it.
	for i = len(all) - 1; i > 0 && all[i].info.ModTime().Before(mine.ModTime()); i-- {
	}
	return all[i].path, nil
}
