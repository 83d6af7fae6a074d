package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// ownMountsVar is set once this program has a mount namespace of its own.
const ownMountsVar = "COVE_BENCH_OWN_MOUNTS"

// ownMounts executes this program again in a mount namespace of its own, which
// takes everything that is mounted below with it, however the program ends.
func ownMounts() error {
	if os.Getenv(ownMountsVar) != "" {
		return mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
	}
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	err := syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), ownMountsVar+"=1"))
	return os.NewSyscallError("execve", err)
}

// newDisk mounts a file system at dir that nobody has used before: ext4 with a
// journal, as a distribution's installer makes it. The machine's own may be
// full, old, or, in small virtual machines, without a journal; then ext4
// passes over the inodes that were removed in the last minutes one by one
// (recently_deleted in fs/ext4/ialloc.c), and each engine pays for what the
// one before it has removed.
func newDisk(dir string) error {
	image := dir + ".disk"
	f, err := os.OpenFile(image, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(image) }() // the loop device keeps it
	if err := errors.Join(f.Truncate(16<<30), f.Close()); err != nil {
		return err
	}
	for _, argv := range [][]string{
		{"mkfs.ext4", "-q", "-F", image},
		{"mount", "-o", "loop,noinit_itable", image, dir},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", argv[0], err, out)
		}
	}
	return nil
}
