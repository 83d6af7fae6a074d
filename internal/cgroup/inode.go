package cgroup

import (
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// Inodes tells cgroups from later ones of the same names: the kernel gives
// no number twice. It is 0 for one that does not exist.
func Inodes(dirs []string) ([]uint64, error) {
	inodes := make([]uint64, len(dirs))
	for i, d := range dirs {
		var st unix.Stat_t
		err := again(func() error { return unix.Lstat(d, &st) })
		switch err {
		case nil:
			inodes[i] = st.Ino
		case unix.ENOENT:
		default:
			return nil, cove.E("look at cgroup", d, kind(err), err)
		}
	}
	return inodes, nil
}
