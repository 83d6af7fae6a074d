package engine

import (
	"errors"
	"path/filepath"
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
// Each that dies may have been forking.
func (e *Engine) endStrays(id string) error {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		pids, err := processes()
		if err != nil {
			return err
		}
		found := false
		for _, pid := range pids {
			if e.rootOf(pid) == id {
				found = true
				if err := e.endStray(pid, id); err != nil {
					return err
				}
			}
		}
		if !found {
			return nil
		}
	}
	return cove.E("end processes in", filepath.Join(e.dir(id), "diff"), cove.Unavailable, errors.New("they do not end"))
}

// endStray kills one, if it is still the same process.
func (e *Engine) endStray(pid int, id string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil // it is gone
	}
	defer unix.Close(fd)
	if e.rootOf(pid) != id {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return err
	}
	return nil
}
