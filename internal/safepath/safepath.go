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

// Check fails if a directory on the way to path, path itself or where a link on the
// way leads is another user's than this one or root, who could put another thing
// into its place. What is not there yet will be this user's. A directory that its
// owner lets everybody write to is his own wish.
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
		// Whoever owns / is root, in a user namespace, too, where he has no number.
		if st.Uid != 0 && st.Uid != root.Uid && int(st.Uid) != os.Geteuid() {
			return fmt.Errorf("%s is another user's (%d)", at, st.Uid)
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
