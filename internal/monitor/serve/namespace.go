package serve

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// An ordinary user has power over the namespaces that were made in his user
// namespace, and none over the host's: what of the latter is left cannot be
// entered again. ordinary tells, once asked, whether that is so here.
func (m *Monitor) ordinary() bool {
	if m.power == 0 {
		m.power = ofRoot
		own, err := unix.Open("/proc/thread-self/ns/pid_for_children", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			if unix.Setns(own, unix.CLONE_NEWPID) == unix.EPERM {
				m.power = ofUser
			}
			_ = unix.Close(own)
		}
	}
	return m.power == ofUser
}

type power byte

const (
	ofRoot power = 1 + iota
	ofUser
)

// space is the namespace of a kind that the container shares or that was made
// for it, -1 when there is none.
func (m *Monitor) space(flag int) int {
	for _, ns := range m.spaces {
		if ns.flag == flag {
			return ns.fd
		}
	}
	return -1
}

// joins are the namespaces that an exec has to enter.
func (m *Monitor) joins() int {
	pid := 0
	if m.flags&unix.CLONE_NEWPID != 0 || m.space(unix.CLONE_NEWPID) >= 0 {
		pid = unix.CLONE_NEWPID
	}
	if !m.ordinary() {
		return joined | pid // those shared with the host are entered again, harmlessly
	}
	flags := unix.CLONE_NEWNS | pid
	for kind, flag := range map[string]int{"uts": unix.CLONE_NEWUTS, "ipc": unix.CLONE_NEWIPC, "net": unix.CLONE_NEWNET, "cgroup": unix.CLONE_NEWCGROUP} {
		if !m.shares(kind) {
			flags |= flag
		}
	}
	return flags
}

// shares tells whether init is in the same namespace as the monitor.
func (m *Monitor) shares(kind string) bool {
	own, err := os.Readlink("/proc/self/ns/" + kind)
	its, err2 := os.Readlink("/proc/" + strconv.Itoa(m.init.pid) + "/ns/" + kind)
	return err == nil && err2 == nil && own == its
}
