package cgroup

import (
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// Born calls f, which forks a process that is to be born in the set's cgroups:
// f is given the descriptor of the one of version 2, -1 without one, for
// CLONE_INTO_CGROUP, and runs on a thread that is in those of version 1. It
// tells in which the process was not to be born; it has to join them itself.
// The cgroups exist.
//
// It costs some tens of microseconds. To move a process afterwards takes a
// lock against all forks and exits of the system, and that one takes the
// kernel about ten milliseconds to get; the thread that moves itself alone
// does without (cgroup_procs_write_start in kernel/cgroup/cgroup.c).
func (l Layout) Born(s Set, f func(unified int) error) (rest []string, err error) {
	unified := -1
	if s.Unified != "" {
		if unified, err = open(s.Unified, unix.O_PATH|unix.O_DIRECTORY); err != nil {
			rest, unified = append(rest, s.Unified), -1
		} else {
			defer unix.Close(unified)
		}
	}
	runtime.LockOSThread()
	var back []string
	for _, h := range l.Hierarchies {
		i := slices.IndexFunc(s.Dirs, func(d string) bool { return len(d) > len(h.Mount) && d[:len(h.Mount)+1] == h.Mount+"/" })
		if i < 0 {
			continue
		}
		if h.Own == "" || writeFile(s.Dirs[i]+"/tasks", "0") != nil {
			rest = append(rest, s.Dirs[i])
			continue
		}
		back = append(back, h.Own)
	}
	err = f(unified)
	for _, own := range back {
		if writeFile(own+"/tasks", "0") != nil {
			return rest, err // the thread stays this goroutine's, and ends with it
		}
	}
	runtime.UnlockOSThread()
	return rest, err
}
