package runtime

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/cgroup"
)

// Event is one line of events, in runc's form.
type Event struct {
	Type string `json:"type"` // stats, oom
	ID   string `json:"id"`
	Data *Stats `json:"data,omitempty"`
}

// Stats are what a container uses. What this host does not count is 0 or left
// out, as it is by runc.
type Stats struct {
	CPU struct {
		Usage struct {
			Total     uint64   `json:"total,omitempty"` // nanoseconds, as all of these
			PerCPU    []uint64 `json:"percpu,omitempty"`
			PerKernel []uint64 `json:"percpu_kernel,omitempty"`
			PerUser   []uint64 `json:"percpu_user,omitempty"`
			Kernel    uint64   `json:"kernel"`
			User      uint64   `json:"user"`
		} `json:"usage"`
		Throttling struct {
			Periods   uint64 `json:"periods,omitempty"`
			Throttled uint64 `json:"throttledPeriods,omitempty"`
			Time      uint64 `json:"throttledTime,omitempty"` // nanoseconds
		} `json:"throttling"`
		PSI *PSI `json:"psi,omitempty"`
	} `json:"cpu"`
	CPUSet struct {
		CPUs                  []int `json:"cpus,omitempty"`
		CPUExclusive          int64 `json:"cpu_exclusive"`
		Mems                  []int `json:"mems,omitempty"`
		MemHardwall           int64 `json:"mem_hardwall"`
		MemExclusive          int64 `json:"mem_exclusive"`
		MemoryMigrate         int64 `json:"memory_migrate"`
		MemorySpreadPage      int64 `json:"memory_spread_page"`
		MemorySpreadSlab      int64 `json:"memory_spread_slab"`
		MemoryPressure        int64 `json:"memory_pressure"`
		SchedLoadBalance      int64 `json:"sched_load_balance"`
		SchedRelaxDomainLevel int64 `json:"sched_relax_domain_level"`
	} `json:"cpuset"`
	Memory struct {
		Cache uint64 `json:"cache,omitempty"`
		Usage Memory `json:"usage"`
		// Swap is memory and swap together, as runc's.
		Swap      *Memory `json:"swap,omitempty"`
		Kernel    *Memory `json:"kernel,omitempty"`
		KernelTCP *Memory `json:"kernelTCP,omitempty"`
		// Raw is memory.stat.
		Raw map[string]uint64 `json:"raw,omitempty"`
		PSI *PSI              `json:"psi,omitempty"`
	} `json:"memory"`
	Pids struct {
		Current uint64 `json:"current,omitempty"`
		Limit   uint64 `json:"limit,omitempty"`
	} `json:"pids"`
	Blkio struct {
		Bytes []IO `json:"ioServiceBytesRecursive,omitempty"`
		Count []IO `json:"ioServicedRecursive,omitempty"`
		PSI   *PSI `json:"psi,omitempty"`
	} `json:"blkio"`
	Huge map[string]Huge `json:"hugetlb"` // by page size, as in "2MB"
	// IntelRdt and Interfaces are always empty: groups of Intel's RDT and
	// networks are not made here.
	IntelRdt   struct{} `json:"intel_rdt"`
	Interfaces []any    `json:"network_interfaces"`
}

// PSI is a [cgroup.Pressure].
type PSI struct {
	Some Stall `json:"some,omitzero"`
	Full Stall `json:"full,omitzero"`
}

// Stall is a [cgroup.Stall].
type Stall struct {
	Avg10  float64 `json:"avg10"`
	Avg60  float64 `json:"avg60"`
	Avg300 float64 `json:"avg300"`
	Total  uint64  `json:"total"`
}

// Memory is in bytes.
type Memory struct {
	Limit  uint64 `json:"limit"`
	Usage  uint64 `json:"usage,omitempty"`
	Max    uint64 `json:"max,omitempty"`
	Failed uint64 `json:"failcnt"` // how often it came to its limit
}

// Huge is [Memory] of huge pages, of which no limit is told.
type Huge struct {
	Usage  uint64 `json:"usage,omitempty"`
	Max    uint64 `json:"max,omitempty"`
	Failed uint64 `json:"failcnt"`
}

// IO is what was done with a device, in bytes or operations.
type IO struct {
	Major uint64 `json:"major,omitempty"`
	Minor uint64 `json:"minor,omitempty"`
	Op    string `json:"op,omitempty"`
	Value uint64 `json:"value,omitempty"`
}

// Events calls each with what the container uses, every interval until it
// stops, and with each time that its memory ran out; once is the first of
// them alone.
func (r *Runtime) Events(id string, interval time.Duration, once bool, each func(Event) error) error {
	if interval <= 0 {
		return invalid("--interval: must be more than 0")
	}
	c, err := r.Open(id)
	if err != nil {
		return err
	}
	init, err := c.hold()
	if err != nil {
		return err
	}
	defer unix.Close(init)
	ooms := c.ooms()
	for {
		u, err := cgroup.Stats(c.Cgroups)
		if err != nil {
			return err
		}
		more, err := cgroup.Details(c.Cgroups)
		if err != nil {
			return err
		}
		if err := each(Event{Type: "stats", ID: id, Data: stats(u, more)}); err != nil || once {
			return err
		}
		for next := time.Now().Add(interval); time.Until(next) > 0; {
			wait := min(time.Until(next), 500*time.Millisecond)
			fds := []unix.PollFd{{Fd: int32(init), Events: unix.POLLIN}}
			ended, _ := unix.Poll(fds, int(wait.Milliseconds())+1)
			for now := c.ooms(); ooms < now; ooms++ {
				if err := each(Event{Type: "oom", ID: id}); err != nil {
					return err
				}
			}
			if ended > 0 {
				return nil
			}
		}
	}
}

func stats(u cgroup.Usage, more cgroup.Detail) *Stats {
	s := new(Stats)
	s.CPU.Usage.Total, s.CPU.Usage.Kernel, s.CPU.Usage.User = u.CPU, u.CPUKernel, u.CPUUser
	s.CPU.Usage.PerCPU, s.CPU.Usage.PerKernel, s.CPU.Usage.PerUser = u.PerCPU, more.CPUKernel, more.CPUUser
	s.CPU.Throttling.Periods, s.CPU.Throttling.Throttled, s.CPU.Throttling.Time = more.Periods, more.ThrottledPeriods, more.ThrottledTime
	set, number := &s.CPUSet, more.Cpuset
	set.CPUs, set.Mems = members(more.CPUs), members(more.Nodes)
	set.CPUExclusive, set.MemExclusive, set.MemHardwall = number["cpu_exclusive"], number["mem_exclusive"], number["mem_hardwall"]
	set.MemoryMigrate, set.MemoryPressure = number["memory_migrate"], number["memory_pressure"]
	set.MemorySpreadPage, set.MemorySpreadSlab = number["memory_spread_page"], number["memory_spread_slab"]
	set.SchedLoadBalance, set.SchedRelaxDomainLevel = number["sched_load_balance"], number["sched_relax_domain_level"]
	s.Memory.Raw = more.MemoryStat
	// By the kernel's name in version 1 and in version 2.
	s.Memory.Cache = max(more.MemoryStat["cache"], more.MemoryStat["file"])
	s.Memory.Usage = *memory(more.Memory)
	if u.SwapLimit != 0 {
		s.Memory.Swap = memory(more.Swap)
		s.Memory.Swap.Limit, s.Memory.Swap.Usage = u.SwapLimit, u.MemoryTotal+u.Swap
	}
	if more.Kernel.Limit != 0 {
		s.Memory.Kernel, s.Memory.KernelTCP = memory(more.Kernel), memory(more.KernelTCP)
	}
	s.Pids.Current, s.Pids.Limit = u.Pids, u.PidsLimit
	s.Blkio.Bytes, s.Blkio.Count = devicesIO(more.IOBytes), devicesIO(more.IOs)
	s.CPU.PSI, s.Memory.PSI, s.Blkio.PSI = pressure(more.CPUPressure), pressure(more.MemoryPressure), pressure(more.IOPressure)
	s.Huge = map[string]Huge{}
	for size, c := range more.Huge {
		s.Huge[size] = Huge{Usage: c.Usage, Max: c.Peak, Failed: c.Failed}
	}
	return s
}

func memory(c cgroup.Counter) *Memory {
	return &Memory{Limit: c.Limit, Usage: c.Usage, Max: c.Peak, Failed: c.Failed}
}

func pressure(p *cgroup.Pressure) *PSI {
	if p == nil {
		return nil
	}
	return &PSI{Some: Stall(p.Some), Full: Stall(p.Full)}
}

func devicesIO(from []cgroup.IO) []IO {
	var all []IO
	for _, io := range from {
		all = append(all, IO(io))
	}
	return all
}

// members are those of a list as the kernel writes it, "0-2,7"; nil for none.
func members(list string) (all []int) {
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		from, err := strconv.Atoi(first)
		to := from
		if isRange && err == nil {
			to, err = strconv.Atoi(last)
		}
		if err != nil {
			return all
		}
		for ; from <= to; from++ {
			all = append(all, from)
		}
	}
	return all
}

// ooms counts the processes that the kernel has killed for want of memory.
func (c *Container) ooms() (n uint64) {
	for _, d := range c.Cgroups {
		for _, file := range []string{"/memory.oom_control", "/memory.events"} {
			text, err := os.ReadFile(d + file)
			if err != nil {
				continue
			}
			for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
				if value, ok := bytes.CutPrefix(s.Bytes(), []byte("oom_kill ")); ok {
					v, _ := strconv.ParseUint(string(value), 10, 64)
					n += v
				}
			}
		}
	}
	return n
}
