package serve

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Without cgroups (an ordinary user has none unless they are delegated to him)
// and without a process namespace of its own (--pid=host), nothing but descent
// tells which processes are the container's: those that lose their parent
// become the monitor's children.

// keepOrphans makes the monitor their new parent, if that is needed.
func (m *Monitor) keepOrphans() {
	// The processes of another OCI runtime come to us when it has made them.
	if !m.foreign && (len(m.env.Cgroups) > 0 || m.flags&unix.CLONE_NEWPID != 0) {
		return
	}
	m.orphans = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == nil
}

// strays lists the children that are neither init nor any other that somebody
// waits for.
func (m *Monitor) strays() (pids []int) {
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, t := range tasks {
		list, _ := os.ReadFile("/proc/self/task/" + t.Name() + "/children")
		for word := range strings.FieldsSeq(string(list)) {
			pid, err := strconv.Atoi(word)
			if err == nil && pid != m.init.pid && pid != m.uplink.pid && pid != m.driver.pid &&
				(m.dump == nil || pid != m.dump.pid) && (m.hook == nil || pid != m.hook.PID) && !m.executes(pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// executes tells whether a child is that of an exec.
func (m *Monitor) executes(pid int) bool {
	for _, e := range m.execs {
		if e.pid == pid || e.maker.pid == pid {
			return true
		}
	}
	return false
}

// reapStrays takes note of those that have ended.
func (m *Monitor) reapStrays() {
	if m.expecting() {
		return
	}
	for _, pid := range m.strays() {
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
}

// expecting tells whether an exec's process may be ours already without our
// knowing.
func (m *Monitor) expecting() bool {
	for _, e := range m.execs {
		if e.socket >= 0 {
			return true
		}
	}
	return false
}

// endUntold ends the children whose makers have ended, killed, before they could
// tell of them. Nobody else reaps them, and a process namespace, and so the
// container, does not end as long as one of its processes is not reaped.
func (m *Monitor) endUntold() {
	if !m.untold || m.orphans || m.expecting() {
		return
	}
	m.untold = false
	for _, pid := range m.strays() {
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		m.watch(pidfd, unix.EPOLLIN, func(uint32) {
			_ = unix.Waitid(unix.P_PIDFD, pidfd, nil, unix.WEXITED|unix.WNOHANG, nil)
			m.forget(pidfd)
		})
	}
}

// killStrays ends what init has left behind, and the execs: each that dies may
// leave others to us.
func (m *Monitor) killStrays() {
	if !m.orphans {
		return
	}
	for _, e := range m.execs {
		e.kill()
	}
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); {
		pids := m.strays()
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = unix.Wait4(pid, nil, 0, nil)
		}
	}
}
