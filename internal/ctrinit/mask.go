package ctrinit

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
)

// openNull opens the host's /dev/null after making sure that it is the null
// device: a file there that only looks like it would be shown writable in
// every masked path (CVE-2025-31133 used the container's own).
func openNull() (int, error) {
	fd, err := unix.Open("/dev/null", unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return -1, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
		return -1, unix.ENODEV
	}
	return fd, nil
}

// hidePaths covers each path that exists: a directory by one empty read-only
// tmpfs shared by all, anything else by the null device.
func (p *process) hidePaths(root, null int, paths []string) *wire.Failure {
	empty := -1
	defer func() {
		if empty >= 0 {
			_ = unix.Close(empty)
		}
	}()
	for _, name := range paths {
		target, err := p.openShown(root, name)
		if err == unix.ENOENT || err == unix.ENOTDIR {
			continue
		}
		if err != nil {
			return wire.Fail("mask "+name, err)
		}
		var st unix.Stat_t
		err = unix.Fstat(target, &st)
		switch {
		case err != nil:
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			err = coverWith(null, target)
		case empty >= 0:
			err = coverWith(empty, target)
		default:
			// The first place takes the mount itself: before Linux 6.15 one that
			// is nowhere cannot be copied.
			empty, err = newFS("tmpfs", "tmpfs", p.labelled("size=0k", "nr_inodes=2", "mode=755"), unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
			if err == nil {
				err = moveOnto(empty, target)
			}
		}
		_ = unix.Close(target)
		if err != nil {
			return wire.Fail("mask "+name, err)
		}
	}
	return nil
}

// coverWith mounts a copy of what the descriptor cover shows upon target.
func coverWith(cover, target int) error {
	clone, err := unix.OpenTree(cover, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(clone)
	return moveOnto(clone, target)
}

// moveOnto gives the detached mount its place upon what target shows.
func moveOnto(mount, target int) error {
	return unix.MoveMount(mount, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// protectPaths makes each path that exists read-only, with all below it.
func (p *process) protectPaths(root int, paths []string) *wire.Failure {
	for _, name := range paths {
		target, err := p.openShown(root, name)
		if err == unix.ENOENT || err == unix.ENOTDIR {
			continue
		}
		if err != nil {
			return wire.Fail("make read-only "+name, err)
		}
		err = protect(target)
		_ = unix.Close(target)
		if err != nil {
			return wire.Fail("make read-only "+name, err)
		}
	}
	return nil
}

func protect(target int) error {
	clone, err := unix.OpenTree(target, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return err
	}
	defer unix.Close(clone)
	if err := setAttr(clone, unix.MOUNT_ATTR_RDONLY, 0, unix.AT_RECURSIVE); err != nil {
		return err
	}
	return moveOnto(clone, target)
}

// openShown opens a path to be masked or protected. A link is what it leads to in
// the container, as /bin is /usr/bin in many images: that is what is to be hidden.
func (p *process) openShown(root int, name string) (int, error) {
	clean := path.Clean("/" + name)
	nearest := ""
	for at := range p.kernels {
		if strings.HasPrefix(clean, at+"/") && len(at) > len(nearest) {
			nearest = at
		}
	}
	if nearest != "" {
		root, name = p.kernels[nearest], clean[len(nearest):]
	}
	return openBelow(root, name, unix.RESOLVE_NO_MAGICLINKS)
}

// openPlain opens a path where a mount or device is to be. Links are refused: what
// they lead to is the image's choice.
func openPlain(root int, name string) (int, error) {
	return openBelow(root, name, unix.RESOLVE_NO_SYMLINKS)
}

func openBelow(root int, name string, resolve uint64) (int, error) {
	for len(name) > 0 && name[0] == '/' {
		name = name[1:]
	}
	for {
		fd, err := unix.Openat2(root, name, &unix.OpenHow{
			Flags:   unix.O_PATH | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_IN_ROOT | resolve,
		})
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
}
