package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// Kill ends every process of the cgroups and of all below them, frozen ones
// too, and returns when there is none any more, or at the deadline with an
// error of kind InUse. It refuses when the caller is among them. Cgroups
// that do not exist are empty.
func Kill(dirs []string, deadline time.Time) error {
	for try := 0; ; try++ {
		m, err := members(dirs)
		if err != nil {
			return err
		}
		if len(m) == 0 {
			return nil
		}
		if m[os.Getpid()] {
			return cove.E("kill cgroup", dirs[0], cove.InUse, errors.New("the caller is in it"))
		}
		if err := killOnce(dirs, try); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return cove.E("kill cgroup", dirs[0], cove.InUse, fmt.Errorf("%d processes do not end", len(m)))
		}
		time.Sleep(min(100*time.Microsecond<<min(try, 10), 10*time.Millisecond))
	}
}

// killOnce sends SIGKILL to all that are there.
func killOnce(dirs []string, try int) error {
	all := false
	for _, d := range dirs {
		// From Linux 5.14 on, in version 2 only: forks included.
		all = writeFile(d+"/cgroup.kill", "1") == nil || all
	}
	// On a hybrid host some may be in a version 1 hierarchy only, or frozen
	// there: the second way follows soon. It is not repeated at once, because
	// it stops again what is just dying.
	if all {
		try++
	}
	if all && len(dirs) == 1 || try%4 != 0 {
		return nil
	}
	// A frozen process does not fork. On version 1 it does not die either, so
	// everything is thawed before anything is waited for, what the container
	// froze itself included.
	for _, d := range dirs {
		_ = writeFile(d+"/freezer.state", "FROZEN")
	}
	err := signalAll(dirs)
	if try > 4 {
		err = errors.Join(err, bringHome(dirs))
	}
	return errors.Join(err, Release(dirs))
}

// bringHome puts into the container's own freezer of version 1 who has left it for
// another one and stands still there: a container that may mount the host's cgroups may
// do so. The other one may be others', and stays as it is.
func bringHome(dirs []string) error {
	f, ok := findFreezer(dirs)
	if !ok || f.unified { // version 2 kills frozen processes
		return nil
	}
	home, err := members([]string{f.dir})
	if err != nil {
		return err
	}
	all, err := members(dirs)
	if err != nil {
		return err
	}
	for pid := range all {
		if home[pid] || !waits(pid) {
			continue
		}
		// Nobody else gets its number as long as it is frozen.
		if still, err := members(dirs); err == nil && still[pid] {
			_ = writeFile(f.dir+"/cgroup.procs", strconv.Itoa(pid))
		}
	}
	return nil
}

// waits tells whether a process is in the state in which frozen ones of version 1 are,
// among others: D of proc_pid_stat(5).
func waits(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	state := data[bytes.LastIndexByte(data, ')')+1:]
	return err == nil && bytes.HasPrefix(state, []byte(" D"))
}

// batch is how many processes are held by descriptor at a time.
const batch = 256

// signalAll sends SIGKILL. A pid is only a number, which the next process may
// have got: a member is held by descriptor first, then found to be a member
// still.
func signalAll(dirs []string) error {
	first, err := Pids(dirs)
	if err != nil {
		return err
	}
	for len(first) > 0 {
		n := min(batch, len(first))
		if err := signalBatch(dirs, first[:n]); err != nil {
			return err
		}
		first = first[n:]
	}
	return nil
}

func signalBatch(dirs []string, pids []int) error {
	held := map[int]int{} // pid to descriptor
	defer func() {
		for _, fd := range held {
			_ = unix.Close(fd)
		}
	}()
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err == unix.ESRCH {
			continue
		}
		if err != nil {
			return cove.E("kill cgroup", dirs[0], kind(err), err)
		}
		held[pid] = fd
	}
	still, err := members(dirs)
	if err != nil {
		return err
	}
	for pid, fd := range held {
		if !still[pid] {
			continue
		}
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
			return cove.E("kill cgroup", dirs[0], kind(err), err)
		}
	}
	return nil
}
