package ctrinit

import (
	"path"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/plan"
	"github.com/cove-engine/cove/internal/rootfs"
)

// devLinks are the links every /dev has, runtime-spec config-linux.md
// "Default Filesystems" and the kernel's devices.rst.
var devLinks = [][2]string{
	{"/proc/self/fd", "fd"},
	{"/proc/self/fd/0", "stdin"},
	{"/proc/self/fd/1", "stdout"},
	{"/proc/self/fd/2", "stderr"},
	{"/proc/kcore", "core"},
	{"pts/ptmx", "ptmx"},
}

// makeDevices makes the device nodes, and the links of a fresh /dev.
func (p *process) makeDevices(root int) *wire.Failure {
	old := unix.Umask(0)
	defer unix.Umask(old)
	for i := range p.plan.Devices {
		d := &p.plan.Devices[i]
		if err := makeDevice(root, d); err != nil {
			return wire.Fail("make device "+d.Path, err)
		}
	}
	if !p.plan.SetupDev {
		return nil
	}
	dev, err := openPlain(root, "/dev")
	if err == unix.ELOOP {
		err = targetError("the image has a link in its place")
	}
	if err != nil {
		return wire.Fail("fill /dev", err)
	}
	defer unix.Close(dev)
	for _, l := range devLinks {
		if l[1] == "core" && unix.Faccessat(p.proc, "kcore", unix.F_OK, 0) != nil {
			continue // a kernel without it
		}
		if err := unix.Symlinkat(l[0], dev, l[1]); err != nil && err != unix.EEXIST {
			return wire.Fail("link /dev/"+l[1], err)
		}
	}
	return nil
}

func makeDevice(root int, d *plan.Device) error {
	parent, err := rootfs.MakeDir(root, path.Dir(d.Path))
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	base := path.Base(d.Path)
	if d.Host == "" {
		err := unix.Mknodat(parent, base, d.Type|d.Mode, int(unix.Mkdev(d.Major, d.Minor)))
		if err == unix.EEXIST {
			err = sameDevice(parent, base, d)
		}
		if err == nil && (d.UID != 0 || d.GID != 0) {
			err = unix.Fchownat(parent, base, d.UID, d.GID, unix.AT_SYMLINK_NOFOLLOW)
		}
		return err
	}
	// In a user namespace nodes cannot be made; the host's is shown.
	node, err := unix.OpenTree(unix.AT_FDCWD, d.Host, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(node)
	if err := isDevice(node, d); err != nil {
		return err
	}
	made, err := unix.Openat(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err == unix.EEXIST {
		// A device must not be opened for writing just to be covered.
		made, err = unix.Openat(parent, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return err
	}
	defer unix.Close(made)
	return moveOnto(node, made)
}

// isDevice makes sure that what the host has at a device's path is that device.
func isDevice(node int, d *plan.Device) error {
	var st unix.Stat_t
	if err := unix.Fstat(node, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != d.Type || d.Type != unix.S_IFIFO && st.Rdev != unix.Mkdev(d.Major, d.Minor) {
		return targetError("the host has another device there, and in a user namespace none can be made")
	}
	return nil
}

// sameDevice accepts a node that is there already if it is the one wanted.
func sameDevice(parent int, base string, d *plan.Device) error {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != d.Type || st.Rdev != unix.Mkdev(d.Major, d.Minor) {
		return unix.EEXIST
	}
	return nil
}
