package test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/stage"
)

// ordinary is the user that scripts run as; he exists in the tests' mount
// namespace only.
var ordinary = stage.NewUser("covetest")

// account is the user that a house's commands run as; root when it is nil.
type account struct{ uid, gid int }

// prefix begins the command line of what the user does.
func (a *account) prefix() string {
	if a == nil {
		return ""
	}
	return fmt.Sprintf("setpriv --reuid %d --regid %d --clear-groups --inh-caps=-all --bounding-set=+all ", a.uid, a.gid)
}

// own gives the user what was made in the script's directory for him; the
// engine's own directories are left alone.
func (h *house) own() error {
	if h.user == nil {
		return nil
	}
	return filepath.WalkDir(h.work, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // a script's commands may be removing it
		}
		if d.IsDir() && (path == h.root || path == h.run) {
			_ = os.Lchown(path, h.user.uid, h.user.gid)
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		return chownRoots(path, info, h.user)
	})
}

// chownRoots gives a file to the user if it is root's.
func chownRoots(path string, info fs.FileInfo, a *account) error {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil || st.Uid != 0 || info.Mode()&fs.ModeDevice != 0 {
		return nil
	}
	if err := os.Lchown(path, a.uid, a.gid); err != nil && !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// copyProgram makes a program executable for the user: where it was built may
// be root's alone.
func copyProgram(from, to string) error {
	out, err := exec.Command("cp", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, out)
	}
	return os.Chmod(to, 0o755)
}
