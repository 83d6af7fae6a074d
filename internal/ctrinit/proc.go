package ctrinit

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/plan"
)

// openProc opens the host's /proc and makes sure that it is procfs, so that
// what is written through it cannot be led elsewhere.
func openProc() (int, error) {
	fd, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return -1, err
	}
	if st.Type != unix.PROC_SUPER_MAGIC {
		return -1, unix.ENODEV
	}
	return fd, nil
}

// openBeneath opens a file below the host's /proc without following links or
// crossing mounts. thread-self is procfs's own link and resolved first.
func (p *process) openBeneath(path string, flags uint64) (int, error) {
	if rest, ok := strings.CutPrefix(path, "thread-self/"); ok {
		buf := make([]byte, 64)
		n, err := unix.Readlinkat(p.proc, "thread-self", buf)
		if err != nil {
			return -1, err
		}
		path = string(buf[:n]) + "/" + rest
	}
	return unix.Openat2(p.proc, path, &unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
}

// leaveHost closes the host's /proc, from which ".." leads to the host's root:
// by /proc/self/fd a path of the container's, be it the command itself, could
// go through it until exec closes it (CVE-2024-21626). What it is still needed
// for is read before.
func (p *process) leaveHost() {
	p.noGroups = p.setgroupsDenied()
	_ = unix.Close(p.proc)
	p.proc = -1
}

// setgroupsDenied tells whether the user namespace denies setgroups(2),
// user_namespaces(7).
func (p *process) setgroupsDenied() bool {
	fd, err := p.openBeneath("thread-self/setgroups", unix.O_RDONLY)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	buf := make([]byte, 16)
	n, _ := unix.Read(fd, buf)
	return n >= 4 && string(buf[:4]) == "deny"
}

// openLabel opens the file that takes the LSM label, of the next exec or of
// now, while the host's /proc is still there.
func (p *process) openLabel() (err error) {
	switch {
	case p.plan.Process.AppArmor != "":
		name := "exec"
		if p.plan.Process.AppArmorNow {
			name = "current"
		}
		p.attr, err = p.openBeneath("thread-self/attr/apparmor/"+name, unix.O_WRONLY)
		if err == unix.ENOENT {
			p.attr, err = p.openBeneath("thread-self/attr/"+name, unix.O_WRONLY)
		}
	case p.plan.Process.SELinux != "":
		p.attr, err = p.openBeneath("thread-self/attr/exec", unix.O_WRONLY)
	}
	return err
}

func (p *process) writeLabel() *wire.Failure {
	if p.attr < 0 {
		return nil
	}
	label := p.plan.Process.SELinux
	if p.plan.Process.AppArmor != "" {
		label = "exec " + p.plan.Process.AppArmor
		if p.plan.Process.AppArmorNow {
			label = "changeprofile " + p.plan.Process.AppArmor
		}
	}
	if _, err := unix.Write(p.attr, []byte(label)); err != nil {
		return wire.Fail("set security label "+label, err)
	}
	return nil
}

func (p *process) setOOMScore(adj int) *wire.Failure {
	fd, err := p.openBeneath("thread-self/oom_score_adj", unix.O_WRONLY)
	if err == nil {
		_, err = unix.Write(fd, []byte(strconv.Itoa(adj)))
		_ = unix.Close(fd)
	}
	if err != nil {
		return wire.Fail("set oom_score_adj "+strconv.Itoa(adj), err)
	}
	return nil
}

// setSysctls writes through the host's /proc/sys: net, ipc and uts values
// there are those of the writer's namespaces, proc_sys(5).
func (p *process) setSysctls() *wire.Failure {
	for _, kv := range p.plan.Sysctl {
		path := "sys/" + kv[0]
		if !strings.Contains(kv[0], "/") {
			path = "sys/" + strings.ReplaceAll(kv[0], ".", "/")
		}
		fd, err := p.openBeneath(path, unix.O_WRONLY)
		if err == nil {
			_, err = unix.Write(fd, []byte(kv[1]))
			_ = unix.Close(fd)
		}
		if err != nil {
			return wire.Fail("set sysctl "+kv[0]+"="+kv[1], err)
		}
	}
	return nil
}

// ProcOf makes the mount m of a procfs that shows the processes of another
// process namespace, detached. Before Linux 6.18 that is a copy of what somebody
// in there has, since a new one shows the processes of who makes it.
func ProcOf(ns int, m *plan.Mount) (int, error) {
	fd, err := newProc(ns, m)
	if err == unix.EINVAL {
		fd, err = copiedProc(ns)
		if err == nil {
			err = setAttr(fd, m.Set, m.Clear, 0)
		}
	}
	if err != nil {
		return -1, err
	}
	if err := setMore(fd, m); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func newProc(ns int, m *plan.Mount) (int, error) {
	fs, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetFd(fs, "pidns", ns); err != nil {
		return -1, err
	}
	if err := configure(fs, m.Data); err != nil {
		return -1, err
	}
	return createMount(fs, m.Set)
}

// copiedProc is the /proc of somebody in the process namespace.
func copiedProc(ns int) (fd int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread ends here: it has lost its working directory.
		runtime.LockOSThread()
		fd, err = copyProc(ns)
	}()
	<-done
	return fd, err
}

func copyProc(ns int) (int, error) {
	own, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(own)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return -1, err
	}
	var want unix.Stat_t
	if err := unix.Fstat(ns, &want); err != nil {
		return -1, err
	}
	for _, e := range entries {
		var its unix.Stat_t
		if unix.Stat("/proc/"+e.Name()+"/ns/pid", &its) != nil || its.Ino != want.Ino || its.Dev != want.Dev {
			continue
		}
		mounts, err := unix.Open("/proc/"+e.Name()+"/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		fd, err := TreeOf(mounts, own, "/proc")
		_ = unix.Close(mounts)
		if err == nil && shows(fd, ns) {
			return fd, nil
		}
		if err == nil {
			_ = unix.Close(fd)
		}
	}
	return -1, errors.New("nobody in the process namespace has a /proc of it, and this kernel, older than 6.18, makes none from outside")
}

// shows tells whether a mount is a procfs that shows a process namespace: its
// process 1 is in that one. What else is mounted in such a place may be the
// host's.
func shows(fd, ns int) bool {
	var fs unix.Statfs_t
	var want, its unix.Stat_t
	return unix.Fstatfs(fd, &fs) == nil && fs.Type == unix.PROC_SUPER_MAGIC &&
		unix.Fstat(ns, &want) == nil && unix.Fstatat(fd, "1/ns/pid", &its, 0) == nil &&
		its.Ino == want.Ino && its.Dev == want.Dev
}
