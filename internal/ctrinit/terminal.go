package ctrinit

import (
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
)

// openTerminal makes a pseudo terminal in the container's own devpts and
// makes it this process's terminal and standard streams. It returns the
// master. console asks for /dev/console to be it, too.
//
// The slave is opened through the master (TIOCGPTPEER), never by a path of
// the container's.
func (p *process) openTerminal(console bool) (int, *wire.Failure) {
	master, err := unix.Open("/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, wire.Fail("open /dev/pts/ptmx", err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(master, &fs); err != nil || fs.Type != unix.DEVPTS_SUPER_MAGIC {
		return -1, wire.Fail("open /dev/pts/ptmx", unix.ENODEV)
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return -1, wire.Fail("unlock the terminal", err)
	}
	slave, err := openPeer(master)
	if err != nil {
		return -1, wire.Fail("open the terminal", err)
	}
	pr := &p.plan.Process
	if pr.Rows != 0 || pr.Cols != 0 {
		_ = unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, &unix.Winsize{Row: pr.Rows, Col: pr.Cols})
	}
	if console {
		if err := bindConsole(slave); err != nil {
			return -1, wire.Fail("bind /dev/console", err)
		}
	}
	if !p.descends { // it is taken by the leader of a session
		if err := unix.IoctlSetInt(slave, unix.TIOCSCTTY, 0); err != nil {
			return -1, wire.Fail("take the terminal", err)
		}
	}
	for fd := range 3 {
		if err := unix.Dup3(slave, fd, 0); err != nil {
			return -1, wire.Fail("take the terminal", err)
		}
	}
	_ = unix.Close(slave)
	return master, nil
}

// openPeer opens the slave of a pty master, ioctl_tty(2).
func openPeer(master int) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// bindConsole shows the slave as /dev/console. The place is made in the
// container's /dev, which nobody but us has had a chance to change yet.
func bindConsole(slave int) error {
	at, err := unix.Open("/dev/console", unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	mnt, err := unix.OpenTree(slave, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(mnt)
	return moveOnto(mnt, at)
}
