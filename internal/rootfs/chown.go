package rootfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// Chown gives the file that fd holds, and all below it on the same file
// system, to a user and group. Links are given themselves. What is removed
// meanwhile is passed over.
func Chown(fd int, uid, gid int) error {
	e, err := entryOf(fd)
	if err != nil {
		return err
	}
	return e.chown(e.Stat.Dev, uid, gid)
}

func (e *Entry) chown(dev uint64, uid, gid int) error {
	if e.Stat.Dev != dev {
		return nil
	}
	// One that is theirs already keeps its set-user-ID bits and its time.
	if int(e.Stat.Uid) != uid || int(e.Stat.Gid) != gid {
		if err := unix.Fchownat(e.FD, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
			return os.NewSyscallError("chown", err)
		}
	}
	if e.Type() != unix.S_IFDIR {
		return nil
	}
	return e.each(func(below *Entry) error { return below.chown(dev, uid, gid) })
}
