package serve

import (
	"os"
	"runtime"
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

// inPidNamespace runs f with its thread's children born in a pid namespace,
// given by a descriptor of it or of one of its processes.
func (m *Monitor) inPidNamespace(ns int, f func() error) error {
	if m.ordinary() {
		return m.onward(ns, f)
	}
	own, err := unix.Open("/proc/thread-self/ns/pid_for_children", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(own)
	if err := unix.Setns(ns, unix.CLONE_NEWPID); err != nil {
		return err
	}
	err = f()
	if back := unix.Setns(own, unix.CLONE_NEWPID); back != nil {
		// Every later child would land in a container's namespace.
		os.Exit(1)
	}
	return err
}

// onward is for a thread that could not come back: f runs on one that need
// not. It lives as long as the monitor, since the death of its parent's
// thread is what a child is told of.
func (m *Monitor) onward(ns int, f func() error) error {
	if m.forward == nil {
		m.forward = make(chan func(), 1)
		go func() {
			runtime.LockOSThread()
			for do := range m.forward {
				do()
			}
		}()
	}
	done := make(chan error)
	m.forward <- func() {
		// A container that shares the host's processes has none of its own.
		err := unix.Setns(ns, unix.CLONE_NEWPID)
		if err == unix.EPERM && ns == m.init.pidfd && m.shares("pid") {
			err = nil
		}
		if err == nil {
			err = f()
		}
		done <- err
	}
	return <-done
}

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
	if !m.ordinary() {
		return joined // those shared with the host are entered again, harmlessly
	}
	flags := unix.CLONE_NEWNS
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
