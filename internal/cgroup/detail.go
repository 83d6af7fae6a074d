package cgroup

import (
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cove-engine/cove"
)

// Detail is what the kernel counts beyond [Usage], for who wants it as it is. What
// this host does not count is 0 or nil.
type Detail struct {
	// MemoryStat is memory.stat, by the kernel's names.
	MemoryStat map[string]uint64
	Memory     Counter
	// Swap is memory and swap together; Kernel and KernelTCP are parts of memory.
	// Version 1 alone has them.
	Swap, Kernel, KernelTCP Counter
	// Huge is by the size of pages, as in "2MB".
	Huge map[string]Counter
	// Periods are those in which a quota of CPU time was looked at,
	// ThrottledPeriods those in which it was used up, and ThrottledTime, in
	// nanoseconds, is how long it was waited for the next.
	Periods, ThrottledPeriods, ThrottledTime uint64
	// CPUKernel and CPUUser are nanoseconds by processor; version 1 alone knows.
	CPUKernel, CPUUser []uint64
	// CPUs and Nodes are lists as in "0-2,7".
	CPUs, Nodes string
	// Cpuset are the other files of that controller with a number, of version 1.
	Cpuset map[string]int64
	// IOBytes and IOs are bytes and operations by device and kind.
	IOBytes, IOs []IO
	// Nil is not counted; version 2 alone does, of hybrid hosts too.
	CPUPressure, MemoryPressure, IOPressure *Pressure
}

// Pressure is how much was waited for something, by some tasks and by all at once.
type Pressure struct{ Some, Full Stall }

// Stall is time spent waiting: Total in microseconds, the others in percent of the
// last 10, 60 and 300 seconds.
type Stall struct {
	Avg10, Avg60, Avg300 float64
	Total                uint64
}

// Counter is what there is of something, in bytes.
type Counter struct {
	Limit  uint64 // no limit is the largest that the kernel counts
	Usage  uint64
	Peak   uint64 // the most that there was
	Failed uint64 // how often it came to its limit
}

// IO is what was done with a device.
type IO struct {
	Major, Minor uint64
	Op           string // Read, Write, and what else the kernel tells apart
	Value        uint64
}

// cpusetNumbers are the files that Cpuset is of.
var cpusetNumbers = []string{
	"cpu_exclusive", "mem_exclusive", "mem_hardwall", "memory_migrate", "memory_pressure", "memory_spread_page", "memory_spread_slab",
	"sched_load_balance", "sched_relax_domain_level",
}

// Details measures. Cgroups that are gone count nothing.
func Details(dirs []string) (Detail, error) {
	d := Detail{MemoryStat: map[string]uint64{}, Huge: map[string]Counter{}, Cpuset: map[string]int64{}}
	for _, dir := range dirs {
		read := reader{dir: dir}
		d.memory(&read)
		d.cpu(&read)
		d.io(&read)
		for file, into := range map[string]**Pressure{"cpu": &d.CPUPressure, "memory": &d.MemoryPressure, "io": &d.IOPressure} {
			read.pressure(file+".pressure", into)
		}
		if read.err != nil {
			return Detail{}, cove.E("measure cgroup", dir, kind(read.err), read.err)
		}
	}
	return d, nil
}

func (d *Detail) memory(read *reader) {
	for name, into := range map[string]*Counter{"memory": &d.Memory, "memory.memsw": &d.Swap, "memory.kmem": &d.Kernel, "memory.kmem.tcp": &d.KernelTCP} {
		read.counter(name, into)
	}
	read.number("memory.max", &d.Memory.Limit)
	read.number("memory.current", &d.Memory.Usage)
	read.number("memory.peak", &d.Memory.Peak)
	read.keys("memory.events", func(key string, v uint64) {
		if key == "max" {
			d.Memory.Failed = v
		}
	})
	read.keys("memory.stat", func(key string, v uint64) { d.MemoryStat[key] = v })
	// Of version 1 and of version 2.
	for _, usage := range []string{".usage_in_bytes", ".current"} {
		files, _ := filepath.Glob(filepath.Join(read.dir, "hugetlb.*B"+usage))
		for _, file := range files {
			name := strings.TrimSuffix(filepath.Base(file), usage)
			var c Counter
			read.counter(name, &c)
			read.number(name+".max", &c.Limit)
			read.number(name+".current", &c.Usage)
			read.keys(name+".events", func(_ string, v uint64) { c.Failed = v })
			d.Huge[strings.TrimPrefix(name, "hugetlb.")] = c
		}
	}
}

// counter reads files of version 1.
func (r *reader) counter(name string, into *Counter) {
	r.number(name+".limit_in_bytes", &into.Limit)
	r.number(name+".usage_in_bytes", &into.Usage)
	r.number(name+".max_usage_in_bytes", &into.Peak)
	r.number(name+".failcnt", &into.Failed)
}

// pressure reads lines such as "some avg10=0.00 avg60=0.00 avg300=0.00 total=0".
func (r *reader) pressure(file string, into **Pressure) {
	text, ok := r.text(file)
	if !ok {
		return
	}
	p := new(Pressure)
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		var stall *Stall
		switch {
		case len(f) > 0 && f[0] == "some":
			stall = &p.Some
		case len(f) > 0 && f[0] == "full":
			stall = &p.Full
		default:
			continue
		}
		averages := map[string]*float64{"avg10": &stall.Avg10, "avg60": &stall.Avg60, "avg300": &stall.Avg300}
		for _, pair := range f[1:] {
			key, value, _ := strings.Cut(pair, "=")
			var err error
			if into := averages[key]; into != nil {
				*into, err = strconv.ParseFloat(value, 64)
			} else if key == "total" {
				stall.Total, err = strconv.ParseUint(value, 10, 64)
			}
			if err != nil {
				r.err = err
				return
			}
		}
	}
	*into = p
}

func (d *Detail) cpu(read *reader) {
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
	read.numbers("cpuacct.usage_percpu_sys", &d.CPUKernel)
	read.numbers("cpuacct.usage_percpu_user", &d.CPUUser)
	for _, file := range []string{"cpuset.cpus", "cpuset.cpus.effective"} {
		read.line(file, &d.CPUs)
	}
	for _, file := range []string{"cpuset.mems", "cpuset.mems.effective"} {
		read.line(file, &d.Nodes)
	}
	for _, name := range cpusetNumbers {
		var text string
		read.line("cpuset."+name, &text)
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			d.Cpuset[name] = n
		}
	}
}

func (d *Detail) io(read *reader) {
	// Version 1: "8:0 Read 4096".
	for file, into := range map[string]*[]IO{"blkio.throttle.io_service_bytes_recursive": &d.IOBytes, "blkio.throttle.io_serviced_recursive": &d.IOs} {
		text, _ := read.text(file)
		for line := range strings.Lines(text) {
			f := strings.Fields(line)
			if len(f) == 3 {
				*into = appendIO(*into, f[0], f[1], f[2])
			}
		}
	}
	// Version 2: "8:0 rbytes=4096 wbytes=0 rios=1 …".
	text, _ := read.text("io.stat")
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		for _, pair := range f[min(1, len(f)):] {
			switch key, value, _ := strings.Cut(pair, "="); key {
			case "rbytes":
				d.IOBytes = appendIO(d.IOBytes, f[0], "Read", value)
			case "wbytes":
				d.IOBytes = appendIO(d.IOBytes, f[0], "Write", value)
			case "rios":
				d.IOs = appendIO(d.IOs, f[0], "Read", value)
			case "wios":
				d.IOs = appendIO(d.IOs, f[0], "Write", value)
			}
		}
	}
}

func appendIO(all []IO, device, op, value string) []IO {
	major, minor, _ := strings.Cut(device, ":")
	a, err1 := strconv.ParseUint(major, 10, 64)
	b, err2 := strconv.ParseUint(minor, 10, 64)
	v, err3 := strconv.ParseUint(value, 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return all
	}
	return append(all, IO{a, b, op, v})
}
