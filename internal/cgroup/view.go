package cgroup

import (
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// Subsystems gives the container's own view of version 1 for its
// /sys/fs/cgroup: name there, directory on the host. Controllers that share a
// hierarchy ("cpu,cpuacct") have further names (cpu, cpuacct) with the same
// directory, after it: those may be links or binds. Version 2 has none. A
// container that cannot have cgroups of its own sees its caller's, where it
// stays.
func (l Layout) Subsystems(dirs []string) [][2]string {
	var out [][2]string
	for _, h := range l.Hierarchies {
		i := slices.IndexFunc(dirs, func(d string) bool { return strings.HasPrefix(d, h.Mount+"/") })
		dir := h.Own
		if i >= 0 {
			dir = dirs[i]
		} else if dir == "" || h.Writable && len(dirs) > 0 {
			continue
		}
		out = append(out, [2]string{h.Name, dir})
		if len(h.Controllers) < 2 {
			continue
		}
		for _, c := range h.Controllers {
			if c != h.Name {
				out = append(out, [2]string{c, dir})
			}
		}
	}
	return out
}

// List gives the names of the cgroups directly below parent ("/cove") in any
// hierarchy, sorted: what recovery compares with the records.
func (l Layout) List(parent string) ([]string, error) {
	if err := checkPath(parent); err != nil {
		return nil, err
	}
	var tops []string
	// Where this caller cannot make any, those that are there are others'.
	for _, h := range l.Hierarchies {
		if h.Writable {
			tops = append(tops, h.Mount)
		}
	}
	if l.Mount != "" && l.Writable {
		tops = append(tops, l.Mount+l.Base)
	}
	found := map[string]bool{}
	for _, top := range tops {
		names, err := list(top + parent)
		if err != nil {
			return nil, cove.E("list cgroups", top+parent, kind(err), err)
		}
		for _, n := range names {
			found[n] = true
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

func list(dir string) ([]string, error) {
	fd, err := open(dir, unix.O_DIRECTORY|unix.O_RDONLY)
	if err != nil {
		return nil, absent(err)
	}
	f := os.NewFile(uintptr(fd), dir)
	defer f.Close()
	return children(f)
}

// At gives the directories that the cgroup at path p has or would have, with
// no limits planned: for recovery of what List found.
func (l Layout) At(p string) ([]string, error) {
	if err := checkPath(p); err != nil {
		return nil, err
	}
	var dirs []string
	for _, h := range l.Hierarchies {
		if h.Writable {
			dirs = append(dirs, h.Mount+p)
		}
	}
	if l.Mount != "" && l.Writable {
		dirs = append(dirs, l.Mount+l.Base+p)
	}
	return dirs, nil
}

// Available gives the controllers that a container can be limited with here.
// Version 2 freezes, and restricts devices for root, without a controller.
func (l Layout) Available() map[string]bool {
	have := map[string]bool{}
	if l.Unified {
		if !l.Writable {
			return have
		}
		for _, c := range l.Controllers {
			have[c] = true
		}
		have["freezer"] = true
		have["devices"] = !l.Rootless
		return have
	}
	for _, h := range l.Hierarchies {
		if !h.Writable {
			continue
		}
		for _, c := range h.Controllers {
			have[c] = true
		}
	}
	return have
}

// Missing names the limits of containers that this host cannot set, in the
// words of the warnings about them: memory, swap, memory swappiness, memory
// reservation, oom kill disable, pids, cpu shares, cpu period, cpu quota,
// cpu real-time, cpuset, blkio weight. It reads a few files' names.
func (l Layout) Missing() map[string]bool {
	have := l.Available()
	missing := map[string]bool{}
	need := func(feature, controller, file string) {
		ok := have[controller]
		if h, v1 := l.hierarchy(controller); ok && v1 && file != "" {
			ok = unix.Access(h.Mount+"/"+file, unix.F_OK) == nil
		}
		if !ok {
			missing[feature] = true
		}
	}
	need("memory", "memory", "memory.limit_in_bytes")
	need("swap", "memory", "memory.memsw.limit_in_bytes")
	need("memory reservation", "memory", "memory.soft_limit_in_bytes")
	need("pids", "pids", "")
	need("cpu shares", "cpu", "cpu.shares")
	need("cpu period", "cpu", "cpu.cfs_period_us")
	need("cpu quota", "cpu", "cpu.cfs_quota_us")
	need("cpuset", "cpuset", "cpuset.cpus")
	if l.Unified {
		missing["memory swappiness"], missing["oom kill disable"], missing["cpu real-time"] = true, true, true
		need("blkio weight", "io", "")
		if unix.Access("/proc/swaps", unix.F_OK) != nil {
			missing["swap"] = true
		}
		return missing
	}
	need("cpu real-time", "cpu", "cpu.rt_runtime_us")
	need("memory swappiness", "memory", "memory.swappiness")
	need("oom kill disable", "memory", "memory.oom_control")
	// The root has no weight, but BFQ's counters.
	need("blkio weight", "blkio", "blkio.bfq.io_service_bytes")
	if missing["blkio weight"] {
		if h, ok := l.hierarchy("blkio"); ok && h.Writable && unix.Access(h.Mount+"/blkio.weight", unix.F_OK) == nil {
			delete(missing, "blkio weight")
		}
	}
	return missing
}
