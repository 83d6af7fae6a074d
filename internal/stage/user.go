package stage

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// User is an ordinary user who exists in a mount namespace only.
type User struct {
	Name   string
	ID     int // also his group's
	SubIDs int // where his 65536 subordinate IDs of either kind begin
}

// Add makes the user known in this mount namespace, and the devices that every
// distribution gives to everybody usable by him.
func (u User) Add() error {
	dir, err := os.MkdirTemp("", "cove-user")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// The files' own file system, which goes with the namespace.
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		return &os.PathError{Op: "mount", Path: dir, Err: err}
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	id := strconv.Itoa(u.ID)
	for name, line := range map[string]string{
		"/etc/passwd": u.Name + ":x:" + id + ":" + id + "::/nonexistent:/bin/sh",
		"/etc/group":  u.Name + ":x:" + id + ":",
		"/etc/subuid": u.Name + ":" + strconv.Itoa(u.SubIDs) + ":65536",
		"/etc/subgid": u.Name + ":" + strconv.Itoa(u.SubIDs) + ":65536",
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
	if err := os.Chown("/run/user/"+id, u.ID, u.ID); err != nil {
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
