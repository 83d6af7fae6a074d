package ctrinit

import (
	"golang.org/x/sys/unix"
)

// Self opens this very program in a way that a container cannot use to change
// it: init and exec run from it inside the container, where /proc/PID/exe leads
// to it (CVE-2019-5736). A detached read-only mount is enough, since writing
// through it is refused whatever the file's mode, and nobody but us can reach
// it to change it. Where that is not allowed, a sealed copy in memory.
func Self() (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/proc/self/exe", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err == nil {
		err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
		if err == nil {
			return fd, nil
		}
		_ = unix.Close(fd)
	}
	return memorySelf()
}

// MemoryFile makes a file in memory that can be sealed. executable is MFD_EXEC
// or MFD_NOEXEC_SEAL, memfd_create(2), which kernels before 6.3 do not know.
func MemoryFile(name string, executable int) (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|executable)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate(name, flags)
	}
	return fd, err
}

func memorySelf() (int, error) {
	src, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(src)
	fd, err := MemoryFile("cove", unix.MFD_EXEC)
	if err != nil {
		return -1, err
	}
	for {
		n, err := unix.Sendfile(fd, src, nil, 1<<24)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			_ = unix.Close(fd)
			return -1, err
		}
		if n == 0 {
			break
		}
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
