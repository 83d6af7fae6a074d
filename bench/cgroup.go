package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// hierarchy is a mounted cgroup hierarchy and the cgroup that a house has in
// it.
type hierarchy struct {
	Name    string // of its directory below /sys/fs/cgroup; empty: there itself
	V2      bool
	CPU     bool // accounts processor time
	Dir     string
	Aliases []string // other names, links to Name
}

const cgroupRoot = "/sys/fs/cgroup"

// commandGroup is the child cgroup in which a house's commands and daemons
// are: version 2 wants the upper one empty before it passes on controllers.
const commandGroup = "commands"

// makeCgroups makes cgroups called name in every hierarchy. In version 1 they
// lie below this process's own; in version 2 below the root, because this
// process stands in the way of controllers in its own.
func makeCgroups(name string) ([]hierarchy, error) {
	own := map[string]string{} // by controllers, as /proc/self/cgroup has them
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 {
			own[f[1]] = f[2]
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var all []hierarchy
	for line := range strings.Lines(string(mounts)) {
		left, right, _ := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if len(l) < 5 || len(r) < 3 || r[0] != "cgroup" && r[0] != "cgroup2" || l[4] != cgroupRoot && filepath.Dir(l[4]) != cgroupRoot {
			continue
		}
		h := hierarchy{V2: r[0] == "cgroup2"}
		if l[4] != cgroupRoot {
			h.Name = filepath.Base(l[4])
		}
		parent := l[4]
		if !h.V2 {
			for controllers, path := range own {
				// A mount's super options are controllers, name=… and others.
				if options := strings.Split(r[2], ","); controllers != "" && !slices.ContainsFunc(strings.Split(controllers, ","), func(c string) bool { return !slices.Contains(options, c) }) {
					parent = filepath.Join(l[4], path)
					h.CPU = slices.Contains(options, "cpuacct")
				}
			}
			if _, err := os.Stat(parent); err != nil {
				parent = l[4]
			}
		}
		h.Dir = filepath.Join(parent, name)
		all = append(all, h)
		for _, dir := range []string{h.Dir, filepath.Join(h.Dir, commandGroup)} {
			if err := os.Mkdir(dir, 0o755); err != nil {
				return all, err
			}
			furnishCpuset(dir)
		}
	}
	if !slices.ContainsFunc(all, func(h hierarchy) bool { return h.CPU }) {
		for i := range all {
			all[i].CPU = all[i].V2
		}
	}
	return all, aliases(all)
}

// furnishCpuset makes a new cgroup of version 1 able to take processes.
func furnishCpuset(dir string) {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		if value, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file)); err == nil {
			_ = os.WriteFile(filepath.Join(dir, file), value, 0) // not there in other hierarchies
		}
	}
}

// delegate passes on controllers where version 2 is alone. It comes after the
// house's processes have left the upper cgroup. A controller that the kernel
// refuses is left: engines then say what they miss.
func delegate(all []hierarchy) {
	for _, h := range all {
		if !h.V2 || h.Name != "" {
			continue
		}
		for _, dir := range []string{filepath.Dir(h.Dir), h.Dir} {
			names, _ := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
			for name := range strings.FieldsSeq(string(names)) {
				_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+name), 0)
			}
		}
	}
}

// aliases finds links such as cpu -> cpu,cpuacct.
func aliases(all []hierarchy) error {
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return err
	}
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(cgroupRoot, e.Name()))
		if err != nil {
			continue
		}
		for i := range all {
			if all[i].Name == filepath.Base(to) {
				all[i].Aliases = append(all[i].Aliases, e.Name())
			}
		}
	}
	return nil
}

// removeCgroups waits for their last process to go.
func removeCgroups(all []hierarchy) error {
	var failed error
	for _, h := range all {
		var err error
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			if err = removeTree(h.Dir); err == nil || time.Now().After(deadline) {
				break
			}
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

func removeTree(dir string) error {
	var dirs []string
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return nil
	})
	var failed error
	for _, d := range slices.Backward(dirs) {
		if err := syscall.Rmdir(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = &os.PathError{Op: "rmdir", Path: d, Err: err}
		}
	}
	return failed
}

// usage is the processor time of everything that has ever run in the cgroup
// and below it, also in cgroups that are gone.
func usage(all []hierarchy) (time.Duration, error) {
	for _, h := range all {
		if !h.CPU {
			continue
		}
		if !h.V2 {
			data, err := os.ReadFile(filepath.Join(h.Dir, "cpuacct.usage"))
			if err != nil {
				return 0, err
			}
			ns, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
			return time.Duration(ns), err
		}
		data, err := os.ReadFile(filepath.Join(h.Dir, "cpu.stat"))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(data)) {
			var us int64
			if _, err := fmt.Sscanf(line, "usage_usec %d", &us); err == nil {
				return time.Duration(us) * time.Microsecond, nil
			}
		}
	}
	return 0, errors.New("no cgroup hierarchy accounts processor time")
}

// settled is usage when the processes that an engine leaves behind after its
// answer have done their work: for 40 ms they have used no more than a hundredth
// of a processor, or a second is over.
func settled(all []hierarchy) (time.Duration, error) {
	last, err := usage(all)
	for quiet, tries := 0, 0; err == nil && quiet < 2 && tries < 50; tries++ {
		time.Sleep(20 * time.Millisecond)
		var now time.Duration
		now, err = usage(all)
		if quiet++; now-last > 200*time.Microsecond {
			quiet = 0
		}
		last = now
	}
	return last, err
}
