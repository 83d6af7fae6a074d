package ctrinit

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/plan"
)

// complete adds to the container's own files those entries that they lack, and
// gives the new content of passwd, which was data. Groups are added for those who
// look later: the user becomes a member of none by it, podman's way.
func complete(root int, data []byte, a *plan.Accounts, gid uint32) ([]byte, *wire.Failure) {
	for _, file := range []struct {
		name string
		data []byte
		list []plan.Account
	}{{"passwd", data, a.Passwd}, {"group", readDatabase(root, "/etc/group"), a.Group}} {
		lines := missing(file.data, file.list, gid)
		if len(lines) == 0 {
			continue
		}
		switch err := appendTo(root, file.name, lines, a); err {
		case nil:
			if file.name == "passwd" {
				data = slices.Concat(data, lines)
			}
		case errNotOurs:
		default:
			return nil, wire.Fail("add the user to /etc/"+file.name, err)
		}
	}
	return data, nil
}

// missing are the lines of those entries of list that are not in data.
func missing(data []byte, list []plan.Account, gid uint32) (lines []byte) {
	for _, x := range list {
		id := strconv.FormatUint(uint64(x.ID), 10)
		known := func(f []string) bool { return f[2] == id || x.Name != "" && f[0] == x.Name }
		if find(data, 3, known) != nil || find(lines, 3, known) != nil {
			continue
		}
		if len(lines) == 0 && len(data) > 0 && !bytes.HasSuffix(data, []byte("\n")) {
			lines = append(lines, '\n')
		}
		lines = append(lines, strings.ReplaceAll(x.Line, "$GID", strconv.FormatUint(uint64(gid), 10))...)
		lines = append(lines, '\n')
	}
	return lines
}

// errNotOurs is a file that is left alone: it is reached through a link or a
// mount, is no file, or has several names, and so may be somebody else's.
var errNotOurs = errors.New("not a file of the container's own")

// appendTo writes lines behind a file of /etc, or behind a copy that covers it
// where it cannot be written to.
func appendTo(root int, name string, lines []byte, a *plan.Accounts) error {
	etc, err := openOwn(root, "/etc", unix.O_PATH|unix.O_DIRECTORY)
	if err == unix.ENOENT {
		return errNotOurs
	}
	if err != nil {
		return err
	}
	defer unix.Close(etc)
	place, err := openOwn(etc, name, unix.O_PATH)
	switch {
	case err == unix.ENOENT && !a.ReadOnly:
		return create(etc, name, lines)
	case err == unix.ENOENT:
		return errNotOurs
	case err != nil:
		return err
	}
	defer unix.Close(place)
	var st unix.Stat_t
	if err := unix.Fstat(place, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > databaseLimit {
		return errNotOurs
	}
	if a.ReadOnly {
		return cover(etc, place, name, lines, a)
	}
	fd, err := openOwn(etc, name, unix.O_WRONLY|unix.O_APPEND|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err == unix.EROFS {
		return cover(etc, place, name, lines, a)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// Of an image's file there is a copy by now, which has one name.
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 {
		return errNotOurs
	}
	return writeAll(fd, lines)
}

// openOwn opens what no link and no mount leads to.
func openOwn(dir int, name string, flags uint64) (int, error) {
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   flags | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: within(dir) | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err == unix.ELOOP || err == unix.EXDEV || err == unix.ENOTDIR || err == unix.ENXIO {
		err = errNotOurs
	}
	return fd, err
}

// within keeps a path below the directory root, which is -1 for one's own.
func within(root int) uint64 {
	if root < 0 {
		return 0
	}
	return unix.RESOLVE_IN_ROOT
}

func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// cover mounts a copy with more lines on place, a file of /etc that cannot be
// written to. It is the only file of a tmpfs, which lies on /etc for as long as it
// takes to bind the file: before Linux 6.15 what has no place cannot be bound.
func cover(etc, place int, name string, lines []byte, a *plan.Accounts) error {
	data := readDatabase(etc, name)
	var options []string
	if a.Label != "" {
		options = append(options, "context="+a.Label)
	}
	const attributes = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	mfd, err := newFS("tmpfs", "tmpfs", append(options, "mode=755"), attributes)
	if err != nil {
		return err
	}
	defer unix.Close(mfd)
	if err := moveOnto(mfd, etc); err != nil {
		return err
	}
	file, err := onlyFile(mfd, name, slices.Concat(data, lines))
	if back := takeOff(mfd); err == nil {
		err = back
	}
	if err != nil {
		return err
	}
	defer unix.Close(file)
	if err := setAttr(file, unix.MOUNT_ATTR_RDONLY, 0, 0); err != nil {
		return err
	}
	return moveOnto(file, place)
}

// create makes a file that everybody may read.
func create(dir int, name string, data []byte) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fchmod(fd, 0o644); err != nil { // whatever our umask
		return err
	}
	return writeAll(fd, data)
}

// onlyFile makes a file in a directory and binds it.
func onlyFile(dir int, name string, data []byte) (int, error) {
	if err := create(dir, name, data); err != nil {
		return -1, err
	}
	return unix.OpenTree(dir, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
}

// takeOff unmounts what mfd is the root of, which has no name that could be
// trusted.
func takeOff(mfd int) error {
	here, err := unix.Open(".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(here)
	if err := unix.Fchdir(mfd); err != nil {
		return err
	}
	err = unix.Unmount(".", unix.MNT_DETACH)
	if back := unix.Fchdir(here); err == nil {
		err = back
	}
	return err
}
