package rootfs

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenIn opens name inside the directory root as if root were "/": links,
// absolute ones too, cannot lead out of it. Without O_PATH in flags, add
// O_NONBLOCK: name may be a pipe.
func OpenIn(root int, name string, flags uint64) (int, error) {
	return openat2(root, name, flags, unix.RESOLVE_IN_ROOT)
}

// OpenBeneath opens name below the directory dir; a link that leads out of
// dir, as every absolute one does, gives EXDEV.
func OpenBeneath(dir int, name string, flags uint64) (int, error) {
	return openat2(dir, name, flags, unix.RESOLVE_BENEATH)
}

func openat2(dir int, name string, flags, resolve uint64) (int, error) {
	name = strings.TrimLeft(name, "/")
	if name == "" {
		name = "."
	}
	for {
		fd, err := unix.Openat2(dir, name, &unix.OpenHow{
			Flags:   flags | unix.O_CLOEXEC,
			Resolve: resolve | unix.RESOLVE_NO_MAGICLINKS,
		})
		// EAGAIN: a rename raced with the look-up, openat2(2).
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
}

// MakeDir opens (O_PATH) the directory name inside root and makes what is
// missing of it with mode 0755.
func MakeDir(root int, name string) (int, error) { return makeDir(root, name, 0) }

func makeDir(root int, name string, depth int) (int, error) {
	if depth > 40 {
		return -1, unix.ELOOP
	}
	fd, err := OpenIn(root, name, unix.O_PATH|unix.O_DIRECTORY)
	if err != unix.ENOENT {
		return fd, err
	}
	name = path.Clean("/" + name)
	parent, err := makeDir(root, path.Dir(name), depth+1)
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	base := path.Base(name)
	switch err := unix.Mkdirat(parent, base, 0o755); err {
	case nil:
		return unix.Openat(parent, base, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	case unix.EEXIST:
		// A link whose target is missing: make the target.
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(parent, base, buf)
		if err != nil {
			return -1, unix.ENOTDIR
		}
		target := string(buf[:n])
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(name), target)
		}
		return makeDir(root, target, depth+1)
	default:
		return -1, err
	}
}

// MakeFile opens (O_PATH) the file name inside root for being mounted upon,
// and makes it, empty, if it is missing.
func MakeFile(root int, name string) (int, error) {
	fd, err := OpenIn(root, name, unix.O_PATH)
	if err != unix.ENOENT {
		return fd, err
	}
	name = path.Clean("/" + name)
	parent, err := MakeDir(root, path.Dir(name))
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	made, err := unix.Openat(parent, path.Base(name), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return -1, err
	}
	_ = unix.Close(made)
	return unix.Openat(parent, path.Base(name), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// ReadFile reads the regular file name inside root, at most limit bytes of
// it. Anything but a regular file gives EINVAL, a bigger one EFBIG.
func ReadFile(root int, name string, limit int64) ([]byte, error) {
	fd, err := OpenIn(root, name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	e, err := entryOf(fd)
	if err != nil {
		return nil, err
	}
	if e.Type() != unix.S_IFREG {
		return nil, unix.EINVAL
	}
	f, err := e.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f, limit)
}
