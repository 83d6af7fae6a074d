package test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The ordinary user that scripts run as; he exists in the tests' mount
// namespace only.
const (
	userName = "covetest"
	userID   = 59871
	// subIDs begin there; there are 65536 of each.
	subIDs = 1873412096
)

// account is the user that a house's commands run as; root when it is nil.
type account struct{ uid, gid int }

// prefix begins the command line of what the user does.
func (a *account) prefix() string {
	if a == nil {
		return ""
	}
	return fmt.Sprintf("setpriv --reuid %d --regid %d --clear-groups --inh-caps=-all --bounding-set=+all ", a.uid, a.gid)
}

// addUser makes the user known in this mount namespace, and the devices that
// every distribution gives to everybody usable by him.
func addUser() error {
	dir, err := os.MkdirTemp("", "cove-test-etc")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// The files' own file system, which goes with the namespace.
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		return &os.PathError{Op: "mount", Path: dir, Err: err}
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	id := strconv.Itoa(userID)
	for name, line := range map[string]string{
		"/etc/passwd": userName + ":x:" + id + ":" + id + "::/nonexistent:/bin/sh",
		"/etc/group":  userName + ":x:" + id + ":",
		"/etc/subuid": userName + ":" + strconv.Itoa(subIDs) + ":65536",
		"/etc/subgid": userName + ":" + strconv.Itoa(subIDs) + ":65536",
	} {
		old, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			err = os.WriteFile(name, nil, 0o644) // something to mount upon
		}
		if err != nil {
			return err
		}
		own := filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(own, []byte(strings.TrimRight(string(old), "\n")+"\n"+line+"\n"), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(own, name, "", unix.MS_BIND, ""); err != nil {
			return &os.PathError{Op: "mount", Path: name, Err: err}
		}
	}
	// Where all of the user's sessions meet, and so do the scripts' engines.
	if err := os.Mkdir("/run/user/"+id, 0o700); err != nil {
		return err
	}
	if err := os.Chown("/run/user/"+id, userID, userID); err != nil {
		return err
	}
	tun := filepath.Join(dir, "tun")
	if err := unix.Mknod(tun, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 200))); err != nil {
		return &os.PathError{Op: "mknod", Path: tun, Err: err}
	}
	if err := os.Chmod(tun, 0o666); err != nil {
		return err
	}
	if _, err := os.Stat("/dev/net/tun"); err == nil {
		if err := unix.Mount(tun, "/dev/net/tun", "", unix.MS_BIND, ""); err != nil {
			return &os.PathError{Op: "mount", Path: "/dev/net/tun", Err: err}
		}
	}
	return nil
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
