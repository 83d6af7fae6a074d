//go:build exclude_graphdriver_btrfs || !cgo

package btrfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The requests and their arguments are of linux/btrfs.h, as amd64 and arm64
// have them.
const (
	subvolCreate = 0x5000940e // BTRFS_IOC_SUBVOL_CREATE, volArgs
	snapDestroy  = 0x5000940f // BTRFS_IOC_SNAP_DESTROY, volArgs
	snapCreateV2 = 0x50009417 // BTRFS_IOC_SNAP_CREATE_V2, volArgsV2

	// rootInode is the inode of every subvolume's root.
	rootInode = 256 // BTRFS_FIRST_FREE_OBJECTID
)

type volArgs struct {
	fd   int64
	name [4088]byte
}

type volArgsV2 struct {
	fd             int64
	transid, flags uint64
	unused         [4]uint64
	name           [4040]byte
}

// create makes a subvolume.
func create(dir, name string) error {
	return within(dir, func(fd int) error {
		var args volArgs
		if copy(args.name[:len(args.name)-1], name) < len(name) {
			return unix.ENAMETOOLONG
		}
		return ioctl(fd, subvolCreate, unsafe.Pointer(&args))
	}, "create subvolume", name)
}

// snapshot makes one that has what from has.
func snapshot(from, dir, name string) error {
	return within(from, func(source int) error {
		return within(dir, func(fd int) error {
			args := volArgsV2{fd: int64(source)}
			if copy(args.name[:len(args.name)-1], name) < len(name) {
				return unix.ENAMETOOLONG
			}
			return ioctl(fd, snapCreateV2, unsafe.Pointer(&args))
		}, "create snapshot", name)
	}, "snapshot", "")
}

// remove removes a subvolume with those in it, which its container may have made.
// Who may not do that, as an ordinary user may not, removes it as he would a
// directory.
func remove(path string) error {
	err := destroy(filepath.Dir(path), filepath.Base(path))
	if errors.Is(err, unix.ENOTEMPTY) {
		if err = removeInside(path); err == nil {
			err = destroy(filepath.Dir(path), filepath.Base(path))
		}
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return os.RemoveAll(path)
}

// removeInside removes the subvolumes in a directory.
func removeInside(path string) error {
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer root.Close()
	return removeBelow(root, ".")
}

func removeBelow(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	entries, err := f.ReadDir(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if err := removeBelow(root, filepath.Join(dir, e.Name())); err != nil {
			return err
		}
		parent, err := root.Open(dir)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		err = unix.Fstatat(int(parent.Fd()), e.Name(), &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil && st.Ino == rootInode {
			err = destroyAt(int(parent.Fd()), e.Name())
		}
		if err := errors.Join(err, parent.Close()); err != nil {
			return err
		}
	}
	return nil
}

func destroy(dir, name string) error {
	return within(dir, func(fd int) error { return destroyAt(fd, name) }, "remove subvolume", name)
}

func destroyAt(dir int, name string) error {
	var args volArgs
	if copy(args.name[:len(args.name)-1], name) < len(name) {
		return unix.ENAMETOOLONG
	}
	return ioctl(dir, snapDestroy, unsafe.Pointer(&args))
}

// within calls f with a descriptor of a directory, and says of its error what was
// to be done to name there.
func within(dir string, f func(fd int) error, op, name string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	err = f(fd)
	if number, ok := err.(unix.Errno); ok {
		return &os.PathError{Op: op, Path: filepath.Join(dir, name), Err: number}
	}
	return err
}

func ioctl(fd int, request uintptr, args unsafe.Pointer) error {
	if _, _, err := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(args)); err != 0 {
		return err
	}
	return nil
}
