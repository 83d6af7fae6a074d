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

// Stats are what a container uses. What runc's form has and this host does not
// count is left out, and so are huge pages and the parts of kernel memory.
type Stats struct {
	CPU struct {
		Usage struct {
			Total  uint64   `json:"total"` // nanoseconds
			PerCPU []uint64 `json:"percpu,omitempty"`
			Kernel uint64   `json:"kernel"`
			User   uint64   `json:"user"`
		} `json:"usage"`
		Throttling struct {
			Periods   uint64 `json:"periods,omitempty"`
			Throttled uint64 `json:"throttledPeriods,omitempty"`
			Time      uint64 `json:"throttledTime,omitempty"` // nanoseconds
		} `json:"throttling"`
	} `json:"cpu"`
	CPUSet struct {
		CPUs []int `json:"cpus,omitempty"`
		Mems []int `json:"mems,omitempty"`
	} `json:"cpuset"`
	Memory struct {
		Cache uint64 `json:"cache"`
		Usage Memory `json:"usage"`
		// Swap is memory and swap together, as runc's.
		Swap *Memory `json:"swap,omitempty"`
		// Raw is memory.stat.
		Raw map[string]uint64 `json:"raw,omitempty"`
	} `json:"memory"`
	Pids struct {
		Current uint64 `json:"current"`
		Limit   uint64 `json:"limit"`
	} `json:"pids"`
	Blkio struct {
		Bytes []IO `json:"ioServiceBytesRecursive,omitempty"`
	} `json:"blkio"`
}

// Memory is in bytes.
type Memory struct {
	Limit  uint64 `json:"limit"`
	Usage  uint64 `json:"usage"`
	Max    uint64 `json:"max,omitempty"`
	Failed uint64 `json:"failcnt"` // how often it came to its limit
}

// IO is the sum over all devices.
type IO struct {
	Op    string `json:"op"`
	Value uint64 `json:"value"`
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
	s.CPU.Usage.PerCPU = u.PerCPU
	s.CPU.Throttling.Periods, s.CPU.Throttling.Throttled, s.CPU.Throttling.Time = more.Periods, more.ThrottledPeriods, more.ThrottledTime
	s.CPUSet.CPUs, s.CPUSet.Mems = members(more.CPUs), members(more.Nodes)
	s.Memory.Raw = more.Memory
	// By the kernel's name in version 1 and in version 2.
	s.Memory.Cache = max(more.Memory["cache"], more.Memory["file"])
	s.Memory.Usage = Memory{Limit: more.MemoryLimit, Usage: u.MemoryTotal, Max: more.MemoryPeak, Failed: more.MemoryFailed}
	if u.SwapLimit != 0 {
		s.Memory.Swap = &Memory{Limit: u.SwapLimit, Usage: u.MemoryTotal + u.Swap}
	}
	s.Pids.Current, s.Pids.Limit = u.Pids, u.PidsLimit
	if u.BlockIn+u.BlockOut > 0 {
		s.Blkio.Bytes = []IO{{"Read", u.BlockIn}, {"Write", u.BlockOut}}
	}
	return s
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
