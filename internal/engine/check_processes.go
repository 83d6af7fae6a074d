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
		id, err := k.e.monitorOf(pid)
		k.fail(err)
		if id == "" || k.records[id] != nil {
			continue
		}
		k.suspicions = append(k.suspicions, suspicion{
			Difference: Difference{Kind: "process", Object: strconv.Itoa(pid), Owner: id, Problem: "a monitor whose container has no record"},
			kind:       lock.Container, id: id, live: true,
			still: func() (bool, error) {
				now, err := k.now(id)
				return err == nil && now == nil && k.e.watches(pid, id), err
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
// when it is no monitor or another store's. An error tells that it may be one.
func (e *Engine) monitorOf(pid int) (string, error) {
	argv, err := commandLine(pid)
	watches := filepath.Base(argv[0]) == "conmon"
	if err != nil || !watches && argv[0] != "cove-monitor" {
		return "", err
	}
	if ours, err := hasOurRights(pid); err != nil || !ours {
		return "", err
	}
	if watches {
		return e.conmonOf(argv), nil
	}
	names, err := opened(pid)
	for _, target := range names {
		target = strings.TrimSuffix(target, " (deleted)")
		parent, id := filepath.Split(filepath.Dir(target))
		parent = filepath.Clean(parent)
		if filepath.Base(target) == runfile.Name && isID(id) && (parent == e.conf.Containers() || parent == e.conf.Removed()) {
			return id, nil
		}
	}
	return "", err
}

// watches tells whether a process certainly monitors a container of ours.
func (e *Engine) watches(pid int, id string) bool {
	other, err := e.monitorOf(pid)
	return err == nil && other == id
}

// hasOurRights tells whether a process is our user's and has our root directory, as no
// container's process has. What words a process has and what files of which name, anybody
// can bring about in a mount namespace of his own.
func hasOurRights(pid int) (bool, error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	var own, its unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, "/", unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &own); err != nil {
		return false, err
	}
	// Of a root directory of FUSE no server is asked, which might be dead or never answer.
	err := unix.Statx(unix.AT_FDCWD, dir+"root", unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &its)
	if err != nil || own.Dev_major != its.Dev_major || own.Dev_minor != its.Dev_minor || own.Ino != its.Ino {
		return false, ofOurs(err)
	}
	status, err := procfs.Read(dir+"status", 64<<10)
	uids := fmt.Sprintf("\nUid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\n", os.Geteuid())
	return bytes.Contains(status, []byte(uids)), ofOurs(err)
}

// ofOurs is the error of a look at a process that may be one of ours: our own want, of
// descriptors or memory, which tells nothing of the process. It is nil of any other: our
// own can be read, whatever user namespace we are in, and a container can bring about many.
func ofOurs(err error) error {
	for _, want := range []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		if errors.Is(err, want) {
			return err
		}
	}
	return nil
}

// commandLine gives a process's words; one that is gone has an empty one.
func commandLine(pid int) ([]string, error) {
	text, err := procfs.Read(fmt.Sprintf("/proc/%d/cmdline", pid), 64<<10)
	return strings.Split(string(text), "\x00"), ofOurs(err)
}

// opened lists what a process has open, by name.
func opened(pid int) (names []string, err error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := dirNames(dir)
	for _, fd := range fds {
		name, lerr := os.Readlink(dir + "/" + fd)
		if lerr == nil {
			names = append(names, name)
		} else if err == nil {
			err = lerr
		}
	}
	return names, ofOurs(err)
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
	if !e.watches(pid, id) { // it was another process when we opened it
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
