// Package safepath tells whose a path is, as sshd asks before it believes a file:
// what root executes, and what tells him to, may come from no directory that
// another user can change.
package safepath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Check fails if somebody else than this user and root could put another thing
// into path's place: by writing to it, to a directory above it, or to one that a
// link on the way leads through. What is not there yet will be this user's.
func Check(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	var root unix.Stat_t
	if err := unix.Lstat("/", &root); err != nil {
		return &os.PathError{Op: "look at", Path: "/", Err: err}
	}
	deepest, linked := "", false
	for at := path; ; at = filepath.Dir(at) {
		var st unix.Stat_t
		err := unix.Lstat(at, &st)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "look at", Path: at, Err: err}
		}
		if deepest == "" {
			deepest = at
		}
		if err := others(at, st, root); err != nil {
			return err
		}
		linked = linked || st.Mode&unix.S_IFMT == unix.S_IFLNK
		if at == "/" {
			break
		}
	}
	if !linked {
		return nil
	}
	there, err := filepath.EvalSymlinks(deepest)
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%s is a link to what is not there", deepest)
	}
	if err != nil {
		return err
	}
	return Check(there)
}

// others says who else may change what is at a path. Whoever owns / is root, in a
// user namespace, too, where he has no number.
func others(path string, st, root unix.Stat_t) error {
	if st.Uid != 0 && st.Uid != root.Uid && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is another user's (%d)", path, st.Uid)
	}
	if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFLNK || kind == unix.S_IFDIR && st.Mode&unix.S_ISVTX != 0 {
		return nil
	}
	group := st.Gid != 0 && st.Gid != root.Gid && int(st.Gid) != os.Getegid()
	if st.Mode&0o002 != 0 || group && st.Mode&0o020 != 0 {
		return fmt.Errorf("others may write to %s", path)
	}
	return nil
}
