// Package ownplace takes away what lies in the place of a file or directory of cove's
// own and is none: whoever put it there, it holds nothing of ours, and commands would
// fail for ever. What it is asked about must be in a directory that is cove's alone.
//
// Standard library only. (image/index has the same for itself: the door to the images
// links nothing of cove beside its own.)
package ownplace

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrDangling is what is wrong with a place that is [Dangling].
var ErrDangling = errors.New("a link to nothing is in its place: remove it, or make what it leads to")

// Dangling tells whether there is a link to nothing.
func Dangling(name string) bool {
	_, err := os.Stat(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_, err = os.Readlink(name)
	return err == nil
}

// Directory makes a directory, with those above it, where there is none, and in the
// place of a file. A link to nothing stays, and is an error: what it leads to may come
// back.
func Directory(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	if err != nil && Dangling(dir) {
		return ErrDangling
	}
	if st, serr := os.Stat(dir); err != nil && serr == nil && !st.IsDir() {
		_ = syscall.Unlink(dir) // never a directory, which another may have made meanwhile
		err = os.MkdirAll(dir, 0o700)
	}
	return err
}

// Clear takes away what is in a file's place and no regular file; a directory must be
// empty. It does so one at a time: the file that another has made there meanwhile may
// be locked, and stays.
func Clear(name string) error {
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		if err = syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return &os.PathError{Op: "lock", Path: dir.Name(), Err: err}
	}
	if st, err := os.Lstat(name); err != nil || st.Mode().IsRegular() {
		return nil
	}
	return os.Remove(name)
}

// Remove removes what is at a path, a directory with its content. Where what is above
// is no directory there is nothing; [os.RemoveAll] would open that, and a FIFO waits for
// a writer.
func Remove(name string) error {
	if _, err := os.Lstat(name); errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	return os.RemoveAll(name)
}
