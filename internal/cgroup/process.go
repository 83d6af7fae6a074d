package cgroup

import (
	"bytes"
	"maps"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// Pids gives the processes of the cgroups and of all below them, ascending, as
// the caller's pid namespace numbers them; those outside of it are left out.
// Cgroups that do not exist have none.
func Pids(dirs []string) ([]int, error) {
	m, err := members(dirs)
	if err != nil {
		return nil, err
	}
	delete(m, 0)
	return slices.Sorted(maps.Keys(m)), nil
}

// members gives every process; 0 stands for all that the caller's pid
// namespace has no number for.
func members(dirs []string) (map[int]bool, error) {
	found := map[int]bool{}
	for _, d := range dirs {
		err := walk(d, func(fd int) error { return listed(fd, found) })
		if err != nil {
			return nil, cove.E("list processes", d, kind(err), err)
		}
	}
	return found, nil
}

// mostPids is more text than pid_max (4194304) processes make.
const mostPids = 64 << 20

// listed adds the members of the cgroup open as dir.
func listed(dir int, found map[int]bool) error {
	fd, err := openat(dir, "cgroup.procs", unix.O_RDONLY)
	if err != nil {
		return absent(err)
	}
	defer unix.Close(fd)
	text, err := readAll(fd, mostPids)
	if err == unix.EOPNOTSUPP {
		return nil // a threaded cgroup: its domain, above, lists them
	}
	if err != nil {
		return absent(err)
	}
	for f := range bytes.FieldsSeq(text) {
		pid, err := strconv.Atoi(string(f))
		if err != nil {
			return err
		}
		found[pid] = true
	}
	return nil
}

// absent drops what the kernel says of a cgroup that was removed meanwhile.
func absent(err error) error {
	if err == unix.ENOENT || err == unix.ENODEV {
		return nil
	}
	return err
}

// walk calls visit with an open descriptor for dir and every cgroup below it,
// from the top. It goes by descriptors: a container can nest cgroups deeper
// than any path is long.
func walk(dir string, visit func(fd int) error) error {
	fd, err := open(dir, unix.O_DIRECTORY|unix.O_RDONLY)
	if err != nil {
		return absent(err)
	}
	return walkFD(fd, dir, visit)
}

func walkFD(fd int, name string, visit func(fd int) error) error {
	// Two links, and one for each directory in it.
	var st unix.Stat_t
	err := visit(fd)
	if err != nil || unix.Fstat(fd, &st) == nil && st.Nlink == 2 {
		_ = unix.Close(fd)
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	names, err := children(f)
	if err != nil {
		return err
	}
	for _, n := range names {
		child, err := openat(fd, n, unix.O_DIRECTORY|unix.O_RDONLY)
		if err != nil {
			if absent(err) == nil {
				continue
			}
			return err
		}
		if err := walkFD(child, n, visit); err != nil {
			return err
		}
	}
	return nil
}

// EnterThread puts one thread into cgroups of version 1. Those that a process has
// beside its first thread end with its exec.
func EnterThread(dirs []string, tid int) error {
	for _, d := range dirs {
		if err := writeFile(d+"/tasks", strconv.Itoa(tid)); err != nil {
			return cove.E("join cgroup", d, kind(err), err)
		}
	}
	return nil
}

// Enter puts a process into the cgroups.
func Enter(dirs []string, pid int) error {
	for _, d := range dirs {
		if err := writeFile(d+"/cgroup.procs", strconv.Itoa(pid)); err != nil {
			return cove.E("join cgroup", d, kind(err), err)
		}
	}
	return nil
}
