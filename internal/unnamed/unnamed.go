// Package unnamed makes files that have no name until they are whole: of one
// whose maker is killed in the middle nothing is left, and what had its name
// before is there until the moment that the new one takes its place.
package unnamed

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// File is a file in the making.
type File struct {
	*os.File
	temporary string // its name for the time being; "" without, or when it has its own
}

// Create makes one in dir. It has a name for the time being where the file
// system cannot do without, or where named is set: for who opens it by that.
func Create(dir string, perm fs.FileMode, named bool) (*File, error) {
	if !named {
		if f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, perm); err == nil {
			return &File{File: f}, nil
		}
	}
	name := temporary(dir)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, err
	}
	return &File{f, name}, nil
}

func temporary(dir string) string {
	return filepath.Join(dir, fmt.Sprintf(".cove-save-%x", rand.Uint64()))
}

// Path is by what this process, and nobody else, can open the file once more.
func (f *File) Path() string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// Publish gives the file its name, in place of whatever has that. Killed in it, it
// may have left the file under a name like a temporary one's.
func (f *File) Publish(name string) error {
	if f.temporary == "" {
		err := f.link(name)
		if err != unix.EEXIST {
			return linkError(name, err)
		}
		// A link takes nobody's place, a rename does.
		next := temporary(filepath.Dir(name))
		if err := f.link(next); err != nil {
			return linkError(next, err)
		}
		f.temporary = next
	}
	err := os.Rename(f.temporary, name)
	if err == nil {
		f.temporary = ""
	}
	return err
}

func (f *File) link(name string) error {
	return unix.Linkat(unix.AT_FDCWD, f.Path(), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
}

func linkError(name string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: "link", Path: name, Err: err}
}

// Close closes the file, which is gone then unless it was published.
func (f *File) Close() error {
	if f.temporary != "" {
		_ = os.Remove(f.temporary)
	}
	return f.File.Close()
}
