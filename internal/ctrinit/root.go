package ctrinit

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/rootfs"
)

// enterRoot mounts everything of the plan and makes it the root. From here on
// nothing of the host can be reached but the descriptors in p.
func (p *process) enterRoot() *wire.Failure {
	if f := p.shareWithHost(); f != nil {
		return f
	}
	flags := uintptr(p.plan.Root.Propagation)
	if flags == 0 {
		flags = unix.MS_SLAVE | unix.MS_REC
	}
	if p.plan.OCI == nil || !p.plan.OCI.Chroot {
		if err := unix.Mount("", "/", "", flags, ""); err != nil {
			return wire.Fail("set the propagation of /", err)
		}
	}
	root, f := p.openRoot()
	if f != nil {
		return f
	}
	if p.plan.OCI == nil {
		if err := LinkMtab(root); err != nil {
			return wire.Fail("make /etc/mtab", err)
		}
	}
	null, err := openNull()
	if err != nil {
		return wire.Fail("open /dev/null", err)
	}
	for i := range p.plan.Mounts {
		if f := p.mount(root, &p.plan.Mounts[i]); f != nil {
			return f
		}
	}
	if f := p.makeDevices(root); f != nil {
		return f
	}
	if f := p.setSysctls(); f != nil {
		return f
	}
	if p.plan.LoopbackUp {
		if err := loopbackUp(); err != nil {
			return wire.Fail("bring up lo", err)
		}
	}
	if p.plan.Hostname != "" {
		if err := unix.Sethostname([]byte(p.plan.Hostname)); err != nil {
			return wire.Fail("set hostname "+p.plan.Hostname, err)
		}
	}
	if p.plan.Domainname != "" {
		if err := unix.Setdomainname([]byte(p.plan.Domainname)); err != nil {
			return wire.Fail("set domainname "+p.plan.Domainname, err)
		}
	}
	if f := p.makeWorkDir(root); f != nil {
		return f
	}
	if f := p.hidePaths(root, null, p.plan.Masked); f != nil {
		return f
	}
	if f := p.protectPaths(root, p.plan.ReadOnly); f != nil {
		return f
	}
	for _, mount := range p.kernels {
		_ = unix.Close(mount)
	}
	_ = unix.Close(null)
	if f := p.lockMounts(); f != nil {
		return f
	}
	if p.plan.Root.ReadOnly {
		if err := unix.MountSetattr(root, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return wire.Fail("make / read-only", err)
		}
	}
	if f := p.createHooks(); f != nil {
		return f
	}
	if err := unix.Fchdir(root); err != nil {
		return wire.Fail("enter the root", err)
	}
	_ = unix.Close(root)
	if p.plan.OCI != nil {
		return p.changeRoot()
	}
	return pivotRoot()
}

// pivotRoot makes the working directory the root, pivot_root(2),
// "pivot_root(".", ".")": the old root ends up on top of the new one, where it
// is taken off.
func pivotRoot() *wire.Failure {
	if err := unix.PivotRoot(".", "."); err != nil {
		return wire.Fail("pivot_root", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return wire.Fail("leave the host's root", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return wire.Fail("enter /", err)
	}
	return nil
}

// openRoot mounts the root file system and opens it.
func (p *process) openRoot() (int, *wire.Failure) {
	r := &p.plan.Root
	if r.Handed > 0 {
		return p.handedRoot()
	}
	if r.Overlay != nil {
		if err := rootfs.MountOverlay(r.Overlay, r.Path); err != nil {
			return -1, wire.Fail("mount overlay on "+r.Path, err)
		}
	} else if err := unix.Mount(r.Path, r.Path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return -1, wire.Fail("mount root "+r.Path, err)
	}
	fd, err := unix.Open(r.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, wire.Fail("open root "+r.Path, err)
	}
	return fd, nil
}

// LinkMtab gives a root file system its /etc/mtab, by which mount(8) and others
// find what is mounted, where the image has none and the root can have one.
// It is called before anything is mounted in there: a directory of the host's on
// /etc gets none.
func LinkMtab(root int) error {
	etc, err := rootfs.MakeDir(root, "/etc")
	if err == nil {
		defer unix.Close(etc)
		err = unix.Symlinkat("/proc/mounts", etc, "mtab")
	}
	switch err {
	case unix.EEXIST, unix.EROFS, unix.EACCES, unix.EPERM, unix.ENOTDIR, unix.ELOOP:
		return nil
	}
	return err
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	// struct ifreq, netdevice(7): name and flags.
	var req struct {
		name  [unix.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	copy(req.name[:], "lo")
	req.flags = unix.IFF_UP | unix.IFF_RUNNING
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return errno
	}
	return nil
}
