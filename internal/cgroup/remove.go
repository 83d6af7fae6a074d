package cgroup

import (
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// Remove removes the set's cgroups with those below them; those above stay.
func (s Set) Remove() error { return Remove(s.Dirs) }

// Remove removes cgroups with all below them. They must be empty of processes
// (see [Kill]); absence is not an error. A process that is just ending keeps
// its cgroup busy for a moment, which is waited for, 200 ms at most.
func Remove(dirs []string) error {
	end := time.Now().Add(patience)
	var errs []error
	for _, d := range dirs {
		if err := removeTree(d, end); err != nil {
			errs = append(errs, cove.E("remove cgroup", d, kind(err), err))
		}
	}
	return errors.Join(errs...)
}

// RemoveEmpty removes the cgroups at p, which others may share, where there is
// nothing in them. Who is about to make one below makes them anew.
func (l Layout) RemoveEmpty(p string) error {
	dirs, err := l.At(p)
	if err != nil {
		return err
	}
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		dirs = slices.DeleteFunc(dirs, func(d string) bool { return gone(rmdir(d)) })
		if len(dirs) == 0 || time.Now().After(end) {
			return nil
		}
	}
}

// patience is how long a busy cgroup is waited for.
const patience = 200 * time.Millisecond

// removeTree tries once in any case.
func removeTree(dir string, end time.Time) error {
	for pause := 200 * time.Microsecond; ; pause *= 2 {
		err := rmdir(dir)
		if err == nil || err != unix.EBUSY && err != unix.ENOTEMPTY {
			return err
		}
		fd, err := open(dir, unix.O_DIRECTORY|unix.O_RDONLY)
		if err == unix.ENOENT {
			return nil
		}
		if err != nil {
			return err
		}
		if err := removeBelow(fd, dir); err != nil {
			return err
		}
		if err := rmdir(dir); err == nil || time.Now().After(end) {
			return err
		}
		time.Sleep(pause)
	}
}

// removeBelow removes the cgroups below the one open as fd, which it closes.
// It goes by descriptors: a container can nest them deeper than any path is
// long.
func removeBelow(fd int, name string) error {
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	names, err := children(f)
	if err != nil {
		return err
	}
	for _, n := range names {
		err := unix.Unlinkat(fd, n, unix.AT_REMOVEDIR)
		if gone(err) {
			continue
		}
		child, err := openat(fd, n, unix.O_DIRECTORY|unix.O_RDONLY)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return err
		}
		if err := removeBelow(child, n); err != nil {
			return err
		}
		// Still busy is found out at the top, and tried again.
		if err := unix.Unlinkat(fd, n, unix.AT_REMOVEDIR); !gone(err) && err != unix.EBUSY && err != unix.ENOTEMPTY {
			return err
		}
	}
	return nil
}

// children lists the cgroups directly below an open one. One that has been
// removed has none.
func children(f *os.File) ([]string, error) {
	var names []string
	for {
		entries, err := f.ReadDir(256)
		for _, e := range entries {
			if e.IsDir() {
				names = append(names, e.Name())
			}
		}
		switch {
		case err == io.EOF, errors.Is(err, unix.ENOENT):
			return names, nil
		case err != nil:
			return nil, err
		}
	}
}

func gone(err error) bool { return err == nil || err == unix.ENOENT }

func rmdir(dir string) error {
	err := again(func() error { return unix.Rmdir(dir) })
	if err == unix.EROFS || err == unix.EACCES || err == unix.EPERM {
		// Said before it is looked whether there is anything.
		if unix.Access(dir, unix.F_OK) == unix.ENOENT {
			return nil
		}
	}
	if err == unix.ENOENT {
		return nil
	}
	return err
}
