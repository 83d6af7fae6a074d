package companion

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/safepath"
)

// usable fails where no program can be executed, as in Debian's /run, or where
// another user could exchange it. dir need not be there yet.
func usable(dir string) error {
	var fs unix.Statfs_t
	at := dir
	err := unix.Statfs(at, &fs)
	for errors.Is(err, unix.ENOENT) && at != filepath.Dir(at) {
		at = filepath.Dir(at)
		err = unix.Statfs(at, &fs)
	}
	switch {
	case err != nil:
		return &os.PathError{Op: "look at", Path: at, Err: err}
	case fs.Flags&unix.ST_NOEXEC != 0:
		return fmt.Errorf("%s is mounted noexec", at)
	}
	return safepath.Check(dir)
}
