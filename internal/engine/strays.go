package engine

import (
	"errors"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/rootfs"
)

// A container's processes are found by its cgroups, or go with its process
// namespace. An ordinary user's may have neither (--pid=host, and no cgroup
// delegated): what such a container leaves when its monitor is killed is known
// by its root file system, whose mount names the container's directory.

// rootOf gives the ID of the container of ours in whose root file system a
// process lives, "" for any other process.
func (e *Engine) rootOf(pid int) string {
	rest, _ := strings.CutPrefix(rootfs.UpperOf(pid), e.conf.Containers()+"/")
	if id, ok := strings.CutSuffix(rest, "/diff"); ok && isID(id) {
		return id
	}
	return ""
}

// endStrays kills the processes that live in a container's root file system.
func (e *Engine) endStrays(id string) error {
	return endEach(func(pid int) (bool, error) { return e.rootOf(pid) == id, nil })
}

// endEach kills the processes that are meant until there are none. Each that
// dies may have been forking. An error of meant's, which may mean a process then, is its own.
func endEach(meant func(pid int) (bool, error)) error {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		pids, err := processes()
		if err != nil {
			return err
		}
		found := false
		for _, pid := range pids {
			is, err := meant(pid)
			if err != nil {
				return err
			}
			if is {
				found = true
				if err := endOne(pid, meant); err != nil {
					return err
				}
			}
		}
		if !found {
			return nil
		}
	}
	return cove.E("", "", cove.Unavailable, errors.New("processes do not end"))
}

// endOne kills one, if it is still the same process.
func endOne(pid int, meant func(pid int) (bool, error)) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil // it is gone
	}
	defer unix.Close(fd)
	if is, err := meant(pid); err != nil || !is {
		return err
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return err
	}
	return nil
}
