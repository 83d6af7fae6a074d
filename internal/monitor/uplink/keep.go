package uplink

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
)

// settle makes this process the one that keeps the namespace of an ordinary
// user's bridges: there is one at a time, and it is found by its lock.
func settle(k *wire.Keep, fds []int) error {
	if len(fds) != 2 {
		return errors.New("descriptors are missing")
	}
	if _, err := unix.Setsid(); err != nil && err != unix.EPERM {
		return err
	}
	if err := unix.Dup3(fds[0], k.FD, unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("dup3", err)
	}
	for _, dir := range k.Cgroups {
		if err := enter(dir + "/cgroup.procs"); err != nil {
			return err
		}
	}
	err := unix.FcntlFlock(uintptr(fds[1]), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: k.Own, Len: 1})
	return os.NewSyscallError("lock", err)
}

// enter joins a cgroup by its file of members.
func enter(name string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte("0")); err != nil {
		return &os.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}

// leave ends the process, and with it all in its namespace, when nobody is left
// whom it serves. What comes between finds the bytes locked and looks again.
func leave(k *wire.Keep, file int) {
	for {
		err := unix.FcntlFlock(uintptr(file), unix.F_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK, Start: k.Users})
		if err != unix.EINTR {
			os.Exit(0)
		}
	}
}
