package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
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
		if err := killOnce(dirs, try, deadline); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return cove.E("kill cgroup", dirs[0], cove.InUse, fmt.Errorf("%d processes do not end", len(m)))
		}
		time.Sleep(min(100*time.Microsecond<<min(try, 10), 10*time.Millisecond))
	}
}

// killOnce sends SIGKILL to all that are there.
func killOnce(dirs []string, try int, deadline time.Time) error {
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
		err = errors.Join(err, bringHome(dirs, deadline))
	}
	return errors.Join(err, Release(dirs))
}

// bringHome puts into the container's own freezer of version 1 who has left it for
// another one and stands still there: a container that may mount the host's cgroups may
// do so. The other one may be others', and stays as it is. Nobody is brought after the
// deadline.
func bringHome(dirs []string, deadline time.Time) error {
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
	maps.DeleteFunc(all, func(pid int, _ bool) bool { return home[pid] || !waits(pid) })
	return hold(dirs, slices.Sorted(maps.Keys(all)), func(pid, fd int) error {
		if time.Now().After(deadline) {
			return nil
		}
		return f.adopt(pid, fd)
	})
}

// adopt puts the process that is held as fd into the freezer. A cgroup takes a pid only:
// if the process has ended meanwhile, another one may have been put there, who must not
// end with the container. Where that was is not known: it goes to the top of the
// hierarchy.
func (f freezer) adopt(pid, fd int) error {
	number := strconv.Itoa(pid)
	if writeFile(f.dir+"/cgroup.procs", number) != nil || unix.PidfdSendSignal(fd, 0, nil, 0) != unix.ESRCH {
		return nil
	}
	home, err := members([]string{f.dir})
	if err != nil || !home[pid] {
		return err
	}
	top := f.dir
	for unix.Access(path.Dir(top)+"/cgroup.procs", unix.F_OK) == nil {
		top = path.Dir(top)
	}
	if err := writeFile(top+"/cgroup.procs", number); err != nil && err != unix.ESRCH {
		return cove.E("put back a process in", top, kind(err), err)
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

// signalAll sends SIGKILL.
func signalAll(dirs []string) error {
	pids, err := Pids(dirs)
	if err != nil {
		return err
	}
	return hold(dirs, pids, func(_, fd int) error {
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
			return cove.E("kill cgroup", dirs[0], kind(err), err)
		}
		return nil
	})
}

// hold calls do with each of the processes that is a member, and with a descriptor of
// it. A pid is only a number, which the next process may have got: a member is held by
// descriptor first, then found to be a member still.
func hold(dirs []string, pids []int, do func(pid, fd int) error) error {
	for some := range slices.Chunk(pids, batch) {
		if err := holdBatch(dirs, some, do); err != nil {
			return err
		}
	}
	return nil
}

func holdBatch(dirs []string, pids []int, do func(pid, fd int) error) error {
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
		if err := do(pid, fd); err != nil {
			return err
		}
	}
	return nil
}
