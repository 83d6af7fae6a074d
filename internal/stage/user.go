package stage

import (
	"fmt"
	"os"
	"os/exec"
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

// NewUser is a user of this process's own: by his ID the kernel counts his
// keys, and his processes are found in /proc, those of another run among them. Like any
// other it is one that his containers can have files of.
func NewUser(name string) User {
	pid := os.Getpid()
	return User{Name: name, ID: 20000 + pid%30000, SubIDs: 0x60000000 + pid%4096<<16}
}

// Add makes the user known in this mount namespace, whose /etc becomes a copy,
// and the devices that every distribution gives to everybody usable by him.
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
	// Not a mount upon each file: when the host's useradd(8) renames a new one
	// into its place, the kernel takes away the mounts of all namespaces there.
	etc := filepath.Join(dir, "etc")
	for tries := 5; ; tries-- {
		out, err := exec.Command("cp", "-a", "/etc/.", etc).CombinedOutput()
		if err == nil {
			break
		}
		if tries == 0 { // else a file may have gone between its being listed and read
			return fmt.Errorf("copy /etc: %w: %s", err, out)
		}
	}
	id := strconv.Itoa(u.ID)
	for name, line := range map[string]string{
		"passwd": u.Name + ":x:" + id + ":" + id + "::/nonexistent:/bin/sh",
		"group":  u.Name + ":x:" + id + ":",
		"subuid": u.Name + ":" + strconv.Itoa(u.SubIDs) + ":65536",
		"subgid": u.Name + ":" + strconv.Itoa(u.SubIDs) + ":65536",
	} {
		path := filepath.Join(etc, name)
		old, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := os.WriteFile(path, []byte(strings.TrimRight(string(old), "\n")+"\n"+line+"\n"), 0o644); err != nil {
			return err
		}
	}
	if err := unix.Mount(etc, "/etc", "", unix.MS_BIND, ""); err != nil {
		return &os.PathError{Op: "mount", Path: "/etc", Err: err}
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
