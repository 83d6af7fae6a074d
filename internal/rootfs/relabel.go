package rootfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// Relabel gives the file that fd holds, and all below it, an SELinux label:
// the file itself last. Links are given themselves. What is removed meanwhile
// is passed over, and so is what is on a file system without labels.
func Relabel(fd int, label string) error {
	e, err := entryOf(fd)
	if err != nil {
		return err
	}
	return e.relabel(label)
}

func (e *Entry) relabel(label string) error {
	if e.Type() == unix.S_IFDIR {
		if err := e.each(func(below *Entry) error { return below.relabel(label) }); err != nil {
			return err
		}
	}
	// What has it already may be on a read-only file system.
	old := make([]byte, len(label)+1)
	n, err := unix.Getxattr(e.link(), selinuxLabel, old)
	if err == nil && (string(old[:n]) == label || string(old[:n]) == label+"\x00") {
		return nil
	}
	err = unix.Setxattr(e.link(), selinuxLabel, []byte(label), 0)
	if err != nil && err != unix.ENOTSUP {
		return os.NewSyscallError("setxattr "+selinuxLabel, err)
	}
	return nil
}

const selinuxLabel = "security.selinux"
