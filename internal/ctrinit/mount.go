package ctrinit

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/plan"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/rootfs"
)

// procFiles are the files of /proc that may be mounted upon: what lxcfs and
// its like provide. Anything else there could be used to lead writes astray.
var procFiles = map[string]bool{
	"/proc/cpuinfo": true, "/proc/diskstats": true, "/proc/meminfo": true, "/proc/stat": true,
	"/proc/swaps": true, "/proc/uptime": true, "/proc/loadavg": true, "/proc/slabinfo": true,
	"/proc/net/dev": true, "/proc/sys/kernel/ns_last_pid": true, "/proc/sys/crypto/fips_enabled": true,
}

// mount makes one mount detached and attaches it inside root.
func (p *process) mount(root int, m *plan.Mount) *wire.Failure {
	step := "mount " + m.Type + " on " + m.Target
	if m.Type == "bind" {
		step = "mount " + m.Source + " on " + m.Target
	}
	if m.Type == "cgroup" || m.Type == "cgroup2" {
		if err := p.mountCgroups(root, m); err != nil {
			return wire.Fail(step, err)
		}
		return nil
	}
	if m.Type == "shm" {
		step = "mount shared memory on " + m.Target
		err := setAttr(p.shm, m.Set, m.Clear, 0)
		if err == nil {
			err = attach(root, p.shm, true, m)
		}
		if err != nil {
			return wire.Fail(step, err)
		}
		_ = unix.Close(p.shm)
		return nil
	}
	// Places of later mounts and devices are still to be made in a tmpfs.
	later := m.Type == "tmpfs" && m.Set&unix.MOUNT_ATTR_RDONLY != 0
	if later {
		writable := *m
		writable.Set &^= unix.MOUNT_ATTR_RDONLY
		m = &writable
	}
	if m.Type == "tmpfs" {
		m = likeCovered(root, m)
	}
	mfd, dir, err := p.detached(m)
	if err != nil {
		return wire.Fail(step, err)
	}
	if m.Type == "mqueue" {
		err = p.labelQueues(mfd)
	}
	if err == nil {
		err = attach(root, mfd, dir, m)
	}
	if err != nil {
		_ = unix.Close(mfd)
		return wire.Fail(step, err)
	}
	switch at := path.Clean(m.Target); {
	case later:
		p.lock = append(p.lock, mfd)
	case at == "/proc" || at == "/sys":
		p.kernels[at] = mfd
	default:
		_ = unix.Close(mfd)
	}
	return nil
}

// likeCovered gives a tmpfs without a mode that of the directory that it covers,
// as every runtime does: the kernel's own is everybody's to write to.
func likeCovered(root int, m *plan.Mount) *plan.Mount {
	if slices.ContainsFunc(m.Data, func(o string) bool { return strings.HasPrefix(o, "mode=") }) {
		return m
	}
	fd, err := rootfs.OpenIn(root, m.Target, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return m // it is to be made, or the mount will tell
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return m
	}
	like := *m
	like.Data = append(slices.Clip(m.Data), "mode="+strconv.FormatUint(uint64(st.Mode&0o7777), 8))
	return &like
}

// lockMounts makes those mounts read-only that had to be written to.
func (p *process) lockMounts() *wire.Failure {
	for _, fd := range p.lock {
		if err := setAttr(fd, unix.MOUNT_ATTR_RDONLY, 0, 0); err != nil {
			return wire.Fail("make a tmpfs read-only", err)
		}
		_ = unix.Close(fd)
	}
	p.lock = nil
	return nil
}

// detached is the mount m without a place, made here, before, or by whoever has
// handed it over. dir tells whether it is a directory.
func (p *process) detached(m *plan.Mount) (fd int, dir bool, err error) {
	early, shared := p.shared[m]
	switch {
	case shared:
		// A copy has a number, by which mounts are listed, after those that
		// are there already; before Linux 6.15 the first one has to do.
		fd, err = unix.OpenTree(early, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
		if err != nil {
			fd, err = early, nil
		} else {
			_ = unix.Close(early)
		}
	case m.Handed != 0:
		fd, err = p.oci.mount(m.Handed)
	case m.Type == "proc" && p.its >= 0:
		fd, err = p.its, setAttr(p.its, m.Set, m.Clear, 0)
		p.its = -1
	default:
		return detached(m)
	}
	if err != nil {
		return -1, false, err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	return fd, st.Mode&unix.S_IFMT == unix.S_IFDIR, err
}

// shareWithHost makes those mounts that are to be shared with the host while
// what they show still is: soon every mount here is but a slave of the host's.
func (p *process) shareWithHost() *wire.Failure {
	for i := range p.plan.Mounts {
		m := &p.plan.Mounts[i]
		if m.Type != "bind" || m.Handed != 0 || m.Propagation != unix.MS_SHARED {
			continue
		}
		fd, _, err := detached(m)
		if err != nil {
			return wire.Fail("mount "+m.Source+" on "+m.Target, err)
		}
		if p.shared == nil {
			p.shared = map[*plan.Mount]int{}
		}
		p.shared[m] = fd
	}
	return nil
}

// detached makes the mount m without a place. dir tells whether it is a
// directory.
func detached(m *plan.Mount) (fd int, dir bool, err error) {
	if m.Type == "bind" {
		flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
		if m.Recursive {
			flags |= unix.AT_RECURSIVE
		}
		fd, err = unix.OpenTree(unix.AT_FDCWD, m.Source, flags)
	} else {
		fd, err = newFS(m.Type, m.Source, m.Data, m.Set)
		dir = true
	}
	if err != nil {
		return -1, false, err
	}
	if m.Type == "bind" {
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err == nil {
			dir = st.Mode&unix.S_IFMT == unix.S_IFDIR
			err = setAttr(fd, m.Set, m.Clear, 0)
		}
	}
	if err == nil {
		err = setMore(fd, m)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, false, err
	}
	return fd, dir, nil
}

// setMore sets what a mount has beyond its own attributes.
func setMore(fd int, m *plan.Mount) error {
	if err := setAttr(fd, m.RecSet, m.RecClear, unix.AT_RECURSIVE); err != nil || m.Propagation == 0 {
		return err
	}
	var flags uint
	if m.PropagationRec {
		flags = unix.AT_RECURSIVE
	}
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|flags, &unix.MountAttr{Propagation: m.Propagation})
}

func setAttr(fd int, set, clr uint64, flags uint) error {
	if set == 0 && clr == 0 {
		return nil
	}
	if set&unix.MOUNT_ATTR__ATIME != 0 || clr&unix.MOUNT_ATTR__ATIME != 0 {
		clr |= unix.MOUNT_ATTR__ATIME // mount_setattr(2): the mode of atime is cleared as a whole
	}
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|flags, &unix.MountAttr{Attr_set: set, Attr_clr: clr})
}

// newFS makes a new file system of a type and a detached mount of it.
func newFS(fstype, source string, data []string, attr uint64) (int, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	if source == "" {
		source = fstype
	}
	if err := unix.FsconfigSetString(fs, "source", source); err != nil {
		return -1, err
	}
	if err := configure(fs, data); err != nil {
		return -1, err
	}
	return createMount(fs, attr)
}

func configure(fs int, options []string) error {
	for _, o := range options {
		key, value, has := strings.Cut(o, "=")
		var err error
		if has {
			err = unix.FsconfigSetString(fs, key, value)
		} else {
			err = unix.FsconfigSetFlag(fs, key)
		}
		if err != nil {
			return &optionError{option: o, err: err}
		}
	}
	return nil
}

type optionError struct {
	option string
	err    error
}

func (e *optionError) Error() string { return "option " + e.option + ": " + e.err.Error() }
func (e *optionError) Unwrap() error { return e.err }

func createMount(fs int, attr uint64) (int, error) {
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(attr))
}

// labelled are the options of a tmpfs of ours, with the container's SELinux
// label.
func (p *process) labelled(options ...string) []string {
	if p.plan.MountLabel != "" {
		options = append(options, "context="+p.plan.MountLabel)
	}
	return options
}

// labelQueues labels the root of a mqueue, which knows no such option.
func (p *process) labelQueues(mfd int) error {
	if p.plan.MountLabel == "" {
		return nil
	}
	fd, err := unix.Openat(mfd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fsetxattr(fd, "security.selinux", []byte(p.plan.MountLabel), 0)
}

// attach puts the detached mount mfd on m.Target inside root, making the
// target if it is missing.
func attach(root, mfd int, dir bool, m *plan.Mount) error {
	target, err := openTarget(root, dir, m)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if err := checkTarget(target, mfd, m); err != nil {
		return err
	}
	if m.CopyUp {
		if err := copyUp(target, mfd); err != nil {
			return err
		}
	}
	return moveOnto(mfd, target)
}

// openTarget opens the place of a mount, made if it is missing. An image with
// a link in place of /proc or /sys would get one that nobody masks
// (CVE-2023-27561), so for these no link is followed.
func openTarget(root int, dir bool, m *plan.Mount) (int, error) {
	if !dir {
		return rootfs.MakeFile(root, m.Target)
	}
	fd, err := rootfs.MakeDir(root, m.Target)
	if err != nil || (m.Type != "proc" && m.Type != "sysfs") {
		return fd, err
	}
	_ = unix.Close(fd)
	fd, err = openPlain(root, m.Target)
	if err == unix.ELOOP {
		err = targetError("the image has a link in its place")
	}
	return fd, err
}

type targetError string

func (e targetError) Error() string { return string(e) }

// checkTarget keeps mounts away from /proc, where they could lead writes of
// ours astray (CVE-2019-16884). What mfd shows is asked, not what a path leads to
// by now.
func checkTarget(target, mfd int, m *plan.Mount) error {
	var st, source unix.Statfs_t
	if err := unix.Fstatfs(target, &st); err != nil {
		return err
	}
	if err := unix.Fstatfs(mfd, &source); err != nil {
		return err
	}
	inProc := st.Type == unix.PROC_SUPER_MAGIC
	bindsProc := m.Type == "bind" && source.Type == unix.PROC_SUPER_MAGIC
	switch {
	case path.Clean(m.Target) == "/proc" && m.Type != "proc" && !bindsProc:
		return targetError("it is in the place of /proc")
	case inProc && bindsProc:
	case inProc && !procFiles[path.Clean(m.Target)]:
		return targetError("it is inside /proc")
	}
	return nil
}

// cgroups is a detached mount of version 2's hierarchy. Where that is not to be
// mounted anew, from the machine's first cgroup namespace or one that is not the
// user's, it shows what the host has mounted: for type cgroup on a host of version 1,
// whose own cgroups are not to be seen, all of it.
func cgroups(m *plan.Mount) (int, error) {
	shown, below := "/sys/fs/cgroup", uint(0)
	if !isUnified(shown) {
		if below = unix.AT_RECURSIVE; m.Type == "cgroup2" {
			shown, below = "/sys/fs/cgroup/unified", 0
		}
	}
	if !procfs.FirstCgroupNamespace("/proc/self/ns/cgroup") || m.Type == "cgroup2" && !isUnified(shown) {
		if mfd, err := newFS("cgroup2", "cgroup", nil, m.Set); err != unix.EPERM {
			return mfd, err
		}
	}
	mfd, err := unix.OpenTree(unix.AT_FDCWD, shown, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|below)
	if err == unix.EINVAL && below == 0 { // an ordinary user may not uncover what is below
		below = unix.AT_RECURSIVE
		mfd, err = unix.OpenTree(unix.AT_FDCWD, shown, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|below)
	}
	if err != nil {
		return -1, err
	}
	err = setAttr(mfd, m.Set, 0, 0)
	if err == nil && below != 0 {
		err = setAttr(mfd, m.Set&unix.MOUNT_ATTR_RDONLY, 0, below)
	}
	if err != nil {
		_ = unix.Close(mfd)
		return -1, err
	}
	return mfd, nil
}

func isUnified(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// mountCgroups shows the container its own cgroups: the one hierarchy of
// version 2, or below a tmpfs one directory for each of version 1.
func (p *process) mountCgroups(root int, m *plan.Mount) error {
	if len(m.Subsystems) == 0 {
		mfd, err := cgroups(m)
		if err != nil {
			return err
		}
		defer unix.Close(mfd)
		return attach(root, mfd, true, m)
	}
	set := m.Set | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC // as runc, whatever is asked
	base, err := newFS("tmpfs", "cgroup", p.labelled("mode=755"), set&^unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(base)
	if err := attach(root, base, true, m); err != nil {
		return err
	}
	for _, s := range m.Subsystems {
		if err := unix.Mkdirat(base, s[0], 0o755); err != nil && err != unix.EEXIST {
			return err
		}
		sub, err := unix.OpenTree(unix.AT_FDCWD, s[1], unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return err
		}
		err = setAttr(sub, set, 0, 0)
		if err == nil {
			err = unix.MoveMount(sub, "", base, s[0], unix.MOVE_MOUNT_F_EMPTY_PATH)
		}
		_ = unix.Close(sub)
		if err != nil {
			return err
		}
	}
	if set&unix.MOUNT_ATTR_RDONLY != 0 {
		return setAttr(base, unix.MOUNT_ATTR_RDONLY, 0, 0)
	}
	return nil
}
