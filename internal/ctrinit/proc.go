package ctrinit

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
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
