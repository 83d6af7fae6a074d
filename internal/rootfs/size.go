package rootfs

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Size adds up the lengths, in bytes, of all regular files below the
// directory that the descriptor is of; one of several names counts once. What
// goes while it is looked at counts nothing. Mounts are not entered.
func Size(dir int) (int64, error) {
	e, err := OpenEntry(dir, ".")
	if err != nil {
		return 0, err
	}
	defer e.Close()
	s := sizer{dev: e.Stat.Dev, seen: map[fileID]bool{}}
	err = s.add(&e)
	return s.total, err
}

type sizer struct {
	dev   uint64
	seen  map[fileID]bool
	total int64
}

func (s *sizer) add(dir *Entry) error {
	names, err := dir.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(dir.FD, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			continue
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			id := fileID{st.Dev, st.Ino}
			if st.Nlink > 1 && s.seen[id] {
				continue
			}
			if st.Nlink > 1 {
				s.seen[id] = true
			}
			s.total += st.Size
		case unix.S_IFDIR:
			sub, err := OpenEntry(dir.FD, name)
			if err != nil {
				continue
			}
			if sub.Type() == unix.S_IFDIR && sub.Stat.Dev == s.dev {
				err = s.add(&sub)
			}
			sub.Close()
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
	}
	return nil
}
