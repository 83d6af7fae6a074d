package cgroup

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func (p *plan) legacyMemory() {
	m := p.r.Memory
	if m == nil {
		return
	}
	limit, reservation, swap := p.checkMemory()
	const sum = "memory.memsw.limit_in_bytes"
	if limit != 0 {
		p.put("memory", "memory.limit", "memory.limit_in_bytes", number(limit))
	}
	switch {
	case swap != 0:
		p.put("memory", "memory.swap", sum, number(swap))
	case limit == -1:
		// Unlimited memory means unlimited memory and swap, as in runc; a
		// kernel without swap accounting has no such file.
		p.put("memory", "memory.limit", sum, "-1").Optional = true
	}
	if reservation != 0 {
		p.put("memory", "memory.reservation", "memory.soft_limit_in_bytes", number(reservation))
	}
	if m.Swappiness != nil {
		p.put("memory", "memory.swappiness", "memory.swappiness", unsigned(*m.Swappiness))
	}
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		p.put("memory", "memory.disableOOMKiller", "memory.oom_control", "1")
	}
	if m.UseHierarchy != nil && *m.UseHierarchy {
		// Always on, and no longer to be changed, since Linux 5.11.
		p.put("memory", "memory.useHierarchy", "memory.use_hierarchy", "1").Optional = true
	}
}

func (p *plan) legacyCPU() {
	c := p.r.CPU
	if c == nil {
		return
	}
	quota, period := p.checkCPU()
	if c.Idle != nil {
		p.put("cpu", "cpu.idle", "cpu.idle", number(*c.Idle))
	}
	if s := c.Shares; s != nil && *s != 0 {
		// The kernel would silently take the nearest.
		switch {
		case *s < 2:
			p.invalid("cpu.shares", "the minimum allowed cpu-shares is 2")
		case *s > 262144:
			p.invalid("cpu.shares", "the maximum allowed cpu-shares is 262144")
		}
		p.put("cpu", "cpu.shares", "cpu.shares", unsigned(*s))
	}
	if period != 0 {
		p.put("cpu", "cpu.period", "cpu.cfs_period_us", unsigned(period))
	}
	if quota != 0 {
		p.put("cpu", "cpu.quota", "cpu.cfs_quota_us", number(quota))
	}
	if c.Burst != nil {
		p.put("cpu", "cpu.burst", "cpu.cfs_burst_us", unsigned(*c.Burst))
	}
	if c.RealtimePeriod != nil && *c.RealtimePeriod != 0 {
		p.put("cpu", "cpu.realtimePeriod", "cpu.rt_period_us", unsigned(*c.RealtimePeriod))
	}
	if given(c.RealtimeRuntime) != 0 {
		p.put("cpu", "cpu.realtimeRuntime", "cpu.rt_runtime_us", number(*c.RealtimeRuntime))
	}
}

func (p *plan) legacyIO() {
	b := p.r.BlockIO
	if b == nil {
		return
	}
	// The weights of BFQ; those of CFQ, without "bfq", ended with Linux 5.0.
	if w := p.weight("blockIO.weight", b.Weight); w != 0 {
		p.alternative(p.put("blkio", "blockIO.weight", "blkio.bfq.weight", unsigned(w)), "blkio.weight")
	}
	if b.LeafWeight != nil && *b.LeafWeight != 0 {
		p.unable("blockIO.leafWeight", "no kernel has leaf weights any more")
	}
	for _, d := range b.WeightDevice {
		if d.LeafWeight != nil && *d.LeafWeight != 0 {
			p.unable("blockIO.weightDevice", "no kernel has leaf weights any more")
		}
		if w := p.weight("blockIO.weightDevice", d.Weight); w != 0 {
			p.alternative(p.put("blkio", "blockIO.weightDevice", "blkio.bfq.weight_device",
				fmt.Sprintf("%d:%d %d", d.Major, d.Minor, w)), "blkio.weight_device")
		}
	}
	for _, t := range []struct {
		field, file string
		devices     []specs.LinuxThrottleDevice
	}{
		{"throttleReadBpsDevice", "read_bps_device", b.ThrottleReadBpsDevice},
		{"throttleWriteBpsDevice", "write_bps_device", b.ThrottleWriteBpsDevice},
		{"throttleReadIOPSDevice", "read_iops_device", b.ThrottleReadIOPSDevice},
		{"throttleWriteIOPSDevice", "write_iops_device", b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range t.devices {
			p.put("blkio", "blockIO."+t.field, "blkio.throttle."+t.file, fmt.Sprintf("%d:%d %d", d.Major, d.Minor, d.Rate))
		}
	}
}

// alternative gives w a file of the same directory for kernels without its
// own. Where they lack both, the write fails: the caller wanted a limit.
func (p *plan) alternative(w *Write, file string) {
	if w.File == "" {
		return
	}
	dir := w.File[:strings.LastIndexByte(w.File, '/')+1]
	w.Else = &Write{File: dir + file, Value: w.Value, Field: w.Field}
}

func (p *plan) network() {
	n := p.r.Network
	if n == nil {
		return
	}
	if n.ClassID != nil && *n.ClassID != 0 {
		p.put("net_cls", "network.classID", "net_cls.classid", unsigned(uint64(*n.ClassID)))
	}
	for _, i := range n.Priorities {
		if i.Name == "" || len(i.Name) > 15 || strings.ContainsAny(i.Name, "/ \t\n") {
			p.invalid("network.priorities", "%q is not the name of an interface", i.Name)
			return
		}
		p.put("net_prio", "network.priorities", "net_prio.ifpriomap", i.Name+" "+unsigned(uint64(i.Priority)))
	}
}
