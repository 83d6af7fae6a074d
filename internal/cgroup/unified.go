package cgroup

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func (p *plan) unifiedMemory() {
	m := p.r.Memory
	if m == nil {
		return
	}
	limit, reservation, swap := p.checkMemory()
	// Version 1 counts memory and swap together, version 2 swap alone.
	switch {
	case swap > 0 && limit == 0:
		p.invalid("memory.swap", "needs linux.resources.memory.limit: it is the sum of memory and swap")
	case swap > 0 && limit > 0:
		p.put("memory", "memory.swap", "memory.swap.max", number(swap-limit))
	case swap != 0:
		p.put("memory", "memory.swap", "memory.swap.max", orMax(swap))
	case limit == -1:
		p.put("memory", "memory.limit", "memory.swap.max", "max").Optional = true
	}
	if limit != 0 {
		p.put("memory", "memory.limit", "memory.max", orMax(limit))
	}
	if reservation != 0 {
		p.put("memory", "memory.reservation", "memory.low", orMax(reservation))
	}
	if m.Swappiness != nil {
		p.unable("memory.swappiness", "cgroup version 2 has no swappiness")
	}
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		p.unable("memory.disableOOMKiller", "cgroup version 2 cannot disable the OOM killer")
	}
}

func (p *plan) unifiedCPU() {
	c := p.r.CPU
	if c == nil {
		return
	}
	quota, period := p.checkCPU()
	if c.Idle != nil {
		p.put("cpu", "cpu.idle", "cpu.idle", number(*c.Idle))
	}
	if c.Shares != nil && *c.Shares != 0 {
		p.put("cpu", "cpu.shares", "cpu.weight", unsigned(Weight(*c.Shares)))
	}
	if quota != 0 || period != 0 {
		// A quota alone keeps the period that there is, 100 ms at first; a
		// period alone lifts the quota, as in runc.
		value := "max"
		if quota > 0 {
			value = number(quota)
		}
		field := "cpu.quota"
		if period != 0 {
			value += " " + unsigned(period)
			if quota == 0 {
				field = "cpu.period"
			}
		}
		p.put("cpu", field, "cpu.max", value)
	}
	if c.Burst != nil {
		p.put("cpu", "cpu.burst", "cpu.max.burst", unsigned(*c.Burst))
	}
	if given(c.RealtimeRuntime) != 0 || c.RealtimePeriod != nil && *c.RealtimePeriod != 0 {
		p.unable("cpu.realtimeRuntime", "cgroup version 2 has no real-time limits")
	}
}

// Weight is the cpu.weight of version 2, 1 to 10000, for the cpu.shares of
// version 1: the quadratic curve of logarithms that maps the smallest (2), the
// default (1024) and the greatest (262144) to 1, 100 and 10000, on which runc
// and crun agreed in 2025. 0 shares, "not asked", are weight 0.
func Weight(shares uint64) uint64 {
	switch {
	case shares == 0:
		return 0
	case shares <= 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

func (p *plan) unifiedIO() {
	b := p.r.BlockIO
	if b == nil {
		return
	}
	if w := p.weight("blockIO.weight", b.Weight); w != 0 {
		bfq := p.put("io", "blockIO.weight", "io.bfq.weight", unsigned(w))
		if p.alternative(bfq, "io.weight"); bfq.Else != nil {
			// 10 to 1000 becomes 1 to 10000, in a straight line.
			bfq.Else.Value = unsigned(1 + (w-10)*9999/990)
		}
	}
	if b.LeafWeight != nil && *b.LeafWeight != 0 {
		p.unable("blockIO.leafWeight", "no kernel has leaf weights any more")
	}
	for _, d := range b.WeightDevice {
		if d.LeafWeight != nil && *d.LeafWeight != 0 {
			p.unable("blockIO.weightDevice", "no kernel has leaf weights any more")
		}
		if w := p.weight("blockIO.weightDevice", d.Weight); w != 0 {
			p.put("io", "blockIO.weightDevice", "io.bfq.weight", fmt.Sprintf("%d:%d %d", d.Major, d.Minor, w))
		}
	}
	for _, t := range []struct {
		field, key string
		devices    []specs.LinuxThrottleDevice
	}{
		{"throttleReadBpsDevice", "rbps", b.ThrottleReadBpsDevice},
		{"throttleWriteBpsDevice", "wbps", b.ThrottleWriteBpsDevice},
		{"throttleReadIOPSDevice", "riops", b.ThrottleReadIOPSDevice},
		{"throttleWriteIOPSDevice", "wiops", b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range t.devices {
			rate := unsigned(d.Rate)
			if d.Rate == 0 {
				rate = "max" // version 1's word for no limit
			}
			p.put("io", "blockIO."+t.field, "io.max", fmt.Sprintf("%d:%d %s=%s", d.Major, d.Minor, t.key, rate))
		}
	}
}

// unifiedMap sets files of version 2 by name.
func (p *plan) unifiedMap() {
	for _, file := range slices.Sorted(maps.Keys(p.r.Unified)) {
		controller, _, ok := strings.Cut(file, ".")
		switch {
		case !ok || controller == "" || strings.ContainsAny(file, "/\x00"):
			p.invalid("unified", "%q is not the name of a cgroup file", file)
			return
		case controller == "cgroup" && file != "cgroup.max.depth" && file != "cgroup.max.descendants":
			// cgroup.procs and the like are no resources.
			p.invalid("unified", "%q is not a resource", file)
			return
		case controller == "cgroup":
			if len(p.set.Dirs) > 0 {
				p.set.Writes = append(p.set.Writes, Write{File: p.set.Dirs[0] + "/" + file, Value: p.r.Unified[file], Field: resources + "unified"})
			}
			continue
		}
		p.put(controller, "unified", file, p.r.Unified[file])
	}
}
