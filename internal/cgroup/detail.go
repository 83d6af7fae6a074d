package cgroup

import "github.com/cove-engine/cove"

// Detail is what the kernel counts beyond [Usage], for who wants it as it is. What
// this host does not count is 0 or nil.
type Detail struct {
	// Memory is memory.stat, by the kernel's names.
	Memory map[string]uint64
	// MemoryLimit is in bytes; no limit is the largest that the kernel counts.
	MemoryLimit uint64
	// MemoryPeak is the most that there was of it, in bytes; MemoryFailed counts
	// how often it came to its limit.
	MemoryPeak, MemoryFailed uint64
	// Periods are those in which a quota of CPU time was looked at,
	// ThrottledPeriods those in which it was used up, and ThrottledTime, in
	// nanoseconds, is how long it was waited for the next.
	Periods, ThrottledPeriods, ThrottledTime uint64
	// CPUs and Nodes are lists as in "0-2,7".
	CPUs, Nodes string
}

// Details measures. Cgroups that are gone count nothing.
func Details(dirs []string) (Detail, error) {
	d := Detail{Memory: map[string]uint64{}}
	for _, dir := range dirs {
		read := reader{dir: dir}
		for _, file := range []string{"memory.limit_in_bytes", "memory.max"} {
			read.number(file, &d.MemoryLimit)
		}
		for _, file := range []string{"memory.max_usage_in_bytes", "memory.peak"} {
			read.number(file, &d.MemoryPeak)
		}
		read.number("memory.failcnt", &d.MemoryFailed)
		read.keys("memory.events", func(key string, v uint64) {
			if key == "max" {
				d.MemoryFailed = v
			}
		})
		read.keys("memory.stat", func(key string, v uint64) { d.Memory[key] = v })
		read.keys("cpu.stat", func(key string, v uint64) {
			switch key {
			case "nr_periods":
				d.Periods = v
			case "nr_throttled":
				d.ThrottledPeriods = v
			case "throttled_time":
				d.ThrottledTime = v
			case "throttled_usec":
				d.ThrottledTime = 1000 * v
			}
		})
		for _, file := range []string{"cpuset.cpus", "cpuset.cpus.effective"} {
			read.line(file, &d.CPUs)
		}
		for _, file := range []string{"cpuset.mems", "cpuset.mems.effective"} {
			read.line(file, &d.Nodes)
		}
		if read.err != nil {
			return Detail{}, cove.E("measure cgroup", dir, kind(read.err), read.err)
		}
	}
	return d, nil
}
