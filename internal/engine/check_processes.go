package engine

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/procfs"
)

// processes looks for monitors of containers that have no record, and for
// processes in the root file systems of containers that do not run. Which
// container a monitor is for, and of which store, its liveness lock tells.
func (k *survey) processes() {
	pids, err := processes()
	k.fail(err)
	strays := map[string]bool{}
	for _, pid := range pids {
		if id := k.e.rootOf(pid); id != "" && k.traces[id] && !k.running[id] && !strays[id] {
			strays[id] = true
			k.leftover("process", strconv.Itoa(pid), id,
				// This one may be the init that settling its run has ended.
				func() (bool, error) {
					pids, err := processes()
					return slices.ContainsFunc(pids, func(pid int) bool { return k.e.rootOf(pid) == id }), err
				},
				func() error { return k.e.endStrays(id) })
		}
		id := k.e.monitorOf(pid)
		if id == "" || k.records[id] != nil {
			continue
		}
		k.suspicions = append(k.suspicions, suspicion{
			Difference: Difference{Kind: "process", Object: strconv.Itoa(pid), Owner: id, Problem: "a monitor whose container has no record"},
			kind:       lock.Container, id: id, live: true,
			still: func() (bool, error) {
				now, err := k.now(id)
				return err == nil && now == nil && k.e.monitorOf(pid) == id, err
			},
			repair: func() error {
				if k.replaced {
					return errReplaced
				}
				return k.e.endMonitor(pid, id)
			},
		})
	}
}

// processes lists the process IDs that there are.
func processes() (pids []int, err error) {
	names, err := dirNames("/proc")
	for _, text := range names {
		if pid, err := strconv.Atoi(text); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// monitorOf gives the ID of the container of ours that a process monitors, ""
// when it is no monitor or another store's.
func (e *Engine) monitorOf(pid int) string {
	argv := commandLine(pid)
	watches := filepath.Base(argv[0]) == "conmon"
	if !watches && argv[0] != "cove-monitor" || !hasOurRights(pid) {
		return ""
	}
	if watches {
		return e.conmonOf(argv)
	}
	for _, target := range opened(pid) {
		target = strings.TrimSuffix(target, " (deleted)")
		parent, id := filepath.Split(filepath.Dir(target))
		parent = filepath.Clean(parent)
		if filepath.Base(target) == runfile.Name && isID(id) && (parent == e.conf.Containers() || parent == e.conf.Removed()) {
			return id
		}
	}
	return ""
}

// hasOurRights tells whether a process is our user's and has our root directory, as no
// container's process has. What words a process has and what files of which name, anybody
// can bring about in a mount namespace of his own.
func hasOurRights(pid int) bool {
	var own, its unix.Stat_t
	dir := fmt.Sprintf("/proc/%d/", pid)
	if unix.Stat("/", &own) != nil || unix.Stat(dir+"root", &its) != nil || own.Dev != its.Dev || own.Ino != its.Ino {
		return false
	}
	status, err := procfs.Read(dir+"status", 64<<10)
	uids := fmt.Sprintf("\nUid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\n", os.Geteuid())
	return err == nil && bytes.Contains(status, []byte(uids))
}

// commandLine gives a process's words; one that is gone has an empty one.
func commandLine(pid int) []string {
	text, _ := procfs.Read(fmt.Sprintf("/proc/%d/cmdline", pid), 64<<10)
	return strings.Split(string(text), "\x00")
}

// opened lists what a process has open, by name.
func opened(pid int) (names []string) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, _ := dirNames(dir)
	for _, fd := range fds {
		if name, err := os.Readlink(dir + "/" + fd); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// conmonOf gives the ID of the container that a conmon of this command line
// watches for this store, "" for another's. What it has open it closes before its
// exit command runs.
func (e *Engine) conmonOf(argv []string) string {
	value := func(flag string) string {
		if i := slices.Index(argv, flag); i >= 0 && i+1 < len(argv) {
			return argv[i+1]
		}
		return ""
	}
	if id := value("--cid"); isID(id) && value("--exit-dir") == e.exits(id) {
		return id
	}
	return ""
}

// endMonitor kills a monitor; its init dies with it, and what is left in the
// cgroup is the cgroup's own difference of the next check.
func (e *Engine) endMonitor(pid int, id string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if e.monitorOf(pid) != id { // it was another process when we opened it
		return nil
	}
	return endProcess(fd, 5*time.Second)
}

// endProcess kills a process and waits until it is gone.
func endProcess(pidfd int, limit time.Duration) error {
	if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return err
	}
	wait := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for end := time.Now().Add(limit); time.Now().Before(end); {
		if n, err := unix.Poll(wait, int(time.Until(end).Milliseconds())+1); n > 0 && err == nil {
			return nil
		}
	}
	return errors.New("it does not die")
}
