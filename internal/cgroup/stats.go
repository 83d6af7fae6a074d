package cgroup

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// Usage is what a container's cgroups have used. What this host does not
// count is 0.
type Usage struct {
	CPU       uint64 // nanoseconds, both of the following and what is not split
	CPUUser   uint64 // nanoseconds
	CPUKernel uint64 // nanoseconds
	// PerCPU is CPU by processor; version 1 alone knows.
	PerCPU []uint64
	// Memory is in bytes without file pages that are not in active use, as
	// podman and docker show it; MemoryTotal is with them.
	Memory, MemoryTotal uint64
	// MemoryHeld is without any file pages: the kernel drops those for a limit.
	MemoryHeld uint64
	// MemoryLimit is in bytes, the host's memory if that is less.
	MemoryLimit uint64
	Swap        uint64 // bytes
	// SwapLimit is in bytes of memory and swap together, as version 1 counts;
	// 0 where swap is not counted.
	SwapLimit uint64
	Pids      uint64 // tasks: processes and threads
	PidsLimit uint64 // 0 is none
	// BlockIn and BlockOut are bytes read from and written to block devices.
	BlockIn, BlockOut uint64
}

// most is how much is read of one statistics file.
const most = 1 << 20

// Stats measures. Cgroups that are all gone are NoFile.
func Stats(dirs []string) (Usage, error) {
	var u Usage
	var swapAndMemory, inactive, active uint64
	alive := false
	for _, d := range dirs {
		if unix.Access(d+"/cgroup.procs", unix.F_OK) != nil {
			continue
		}
		alive = true
		read := reader{dir: d}
		// Version 1, each in its hierarchy.
		read.number("cpuacct.usage", &u.CPU)
		read.number("cpuacct.usage_user", &u.CPUUser)
		read.number("cpuacct.usage_sys", &u.CPUKernel)
		read.numbers("cpuacct.usage_percpu", &u.PerCPU)
		read.number("memory.usage_in_bytes", &u.MemoryTotal)
		read.number("memory.limit_in_bytes", &u.MemoryLimit)
		read.number("memory.memsw.usage_in_bytes", &swapAndMemory)
		read.number("memory.memsw.limit_in_bytes", &u.SwapLimit)
		read.io("blkio.throttle.io_service_bytes_recursive", &u)
		// Version 2. A hybrid host's has a cpu.stat without a controller.
		if u.CPU == 0 {
			read.keys("cpu.stat", func(key string, v uint64) {
				switch key {
				case "usage_usec":
					u.CPU = 1000 * v
				case "user_usec":
					u.CPUUser = 1000 * v
				case "system_usec":
					u.CPUKernel = 1000 * v
				}
			})
		}
		read.number("memory.current", &u.MemoryTotal)
		read.number("memory.max", &u.MemoryLimit)
		read.number("memory.swap.current", &u.Swap)
		if read.number("memory.swap.max", &u.SwapLimit) {
			u.SwapLimit += min(u.MemoryLimit, ^uint64(0)-u.SwapLimit)
		}
		read.io("io.stat", &u)
		// Both.
		read.number("pids.current", &u.Pids)
		read.number("pids.max", &u.PidsLimit)
		read.keys("memory.stat", func(key string, v uint64) {
			// Version 1 has the sum with all below under total_.
			if key == "inactive_file" && inactive == 0 || key == "total_inactive_file" {
				inactive = v
			}
			if key == "active_file" && active == 0 || key == "total_active_file" {
				active = v
			}
		})
		if read.err != nil {
			return Usage{}, cove.E("measure cgroup", d, kind(read.err), read.err)
		}
	}
	if !alive {
		object := ""
		if len(dirs) > 0 {
			object = dirs[0]
		}
		return Usage{}, cove.E("measure cgroup", object, cove.NoFile, errors.New("there is no such cgroup"))
	}
	u.Memory = u.MemoryTotal - min(inactive, u.MemoryTotal)
	u.MemoryHeld = u.Memory - min(active, u.Memory)
	if swapAndMemory > u.MemoryTotal {
		u.Swap = swapAndMemory - u.MemoryTotal
	}
	if u.PidsLimit == ^uint64(0) {
		u.PidsLimit = 0
	}
	if host := hostMemory(); host != 0 && (u.MemoryLimit == 0 || u.MemoryLimit > host) {
		u.MemoryLimit = host
	}
	return u, nil
}

func hostMemory() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}

// reader reads one cgroup's files; those that it does not have are left out.
// The first error stays.
type reader struct {
	dir string
	err error
}

func (r *reader) text(file string) (string, bool) {
	if r.err != nil {
		return "", false
	}
	text, err := readFile(r.dir+"/"+file, most)
	if err != nil {
		// EOPNOTSUPP: swap accounting is compiled in and off.
		if err != unix.EOPNOTSUPP {
			r.err = absent(err)
		}
		return "", false
	}
	return string(text), true
}

// line reads what is in a file of one line, unless that is empty.
func (r *reader) line(file string, into *string) {
	if text, _ := r.text(file); strings.TrimSpace(text) != "" {
		*into = strings.TrimSpace(text)
	}
}

// number tells whether there is one.
func (r *reader) number(file string, into *uint64) bool {
	text, ok := r.text(file)
	if !ok {
		return false
	}
	text = strings.TrimSpace(text)
	if text == "max" {
		*into = ^uint64(0)
		return true
	}
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		r.err = err
		return false
	}
	*into = v
	return true
}

// numbers reads numbers in one line.
func (r *reader) numbers(file string, into *[]uint64) {
	text, _ := r.text(file)
	for word := range strings.FieldsSeq(text) {
		v, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			r.err = err
			return
		}
		*into = append(*into, v)
	}
}

// keys reads lines of a word and a number.
func (r *reader) keys(file string, each func(key string, v uint64)) {
	text, _ := r.text(file)
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if v, err := strconv.ParseUint(value, 10, 64); ok && err == nil {
			each(key, v)
		}
	}
}

// io adds up the devices: "8:0 Read 4096" a line in version 1, "8:0
// rbytes=4096 wbytes=0 …" in version 2.
func (r *reader) io(file string, u *Usage) {
	text, _ := r.text(file)
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 3 && (f[1] == "Read" || f[1] == "Write") {
			f = []string{f[0], f[1] + "=" + f[2]}
		}
		for _, field := range f[min(1, len(f)):] {
			key, value, _ := strings.Cut(field, "=")
			v, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				continue
			}
			switch key {
			case "Read", "rbytes":
				u.BlockIn += v
			case "Write", "wbytes":
				u.BlockOut += v
			}
		}
	}
}
