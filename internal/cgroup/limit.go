package cgroup

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

func number(v int64) string    { return strconv.FormatInt(v, 10) }
func unsigned(v uint64) string { return strconv.FormatUint(v, 10) }

// orMax words a limit for version 2, where -1 is "max".
func orMax(v int64) string {
	if v < 0 {
		return "max"
	}
	return number(v)
}

// given gives the value of an optional number; 0 is "not asked" in every
// field that this is used for, as in runc and crun.
func given(v *int64) int64 {
	if v == nil {
		return 0
	}
	return *v
}

// checkMemory refuses what neither version can set.
func (p *plan) checkMemory() (limit, reservation, swap int64) {
	m := p.r.Memory
	limit, reservation, swap = given(m.Limit), given(m.Reservation), given(m.Swap)
	for _, f := range []struct {
		name  string
		value int64
	}{{"limit", limit}, {"reservation", reservation}, {"swap", swap}} {
		if f.value < -1 {
			p.invalid("memory."+f.name, "%d is neither a number of bytes nor -1 (unlimited)", f.value)
		}
	}
	if swap > 0 && limit > 0 && swap < limit {
		p.invalid("memory.swap", "%d is less than linux.resources.memory.limit, %d; it is the sum of memory and swap", swap, limit)
	}
	if swap > 0 && limit == -1 && !p.l.Unified {
		p.invalid("memory.swap", "%d is less than linux.resources.memory.limit, unlimited", swap)
	}
	if m.Swappiness != nil && *m.Swappiness > 100 {
		p.invalid("memory.swappiness", "%d is not in 0 to 100", *m.Swappiness)
	}
	//lint:ignore SA1019 specs of old tools still carry it
	if given(m.Kernel) != 0 {
		p.warn("memory.kernel", "kernels no longer limit kernel memory by itself; ignored")
	}
	if given(m.KernelTCP) != 0 {
		p.warn("memory.kernelTCP", "is deprecated; ignored")
	}
	if m.CheckBeforeUpdate != nil && *m.CheckBeforeUpdate && limit > 0 {
		p.set.MemoryBelow = limit
	}
	return limit, reservation, swap
}

// checkCPU refuses what neither version can set. Without a quota asked, quota
// is 0; none is -1.
func (p *plan) checkCPU() (quota int64, period uint64) {
	c := p.r.CPU
	if quota = given(c.Quota); quota < 0 {
		quota = -1
	} else if quota > 0 && quota < 1000 {
		p.invalid("cpu.quota", "%d is less than 1000 microseconds", quota)
	}
	if c.Period != nil {
		period = *c.Period
	}
	if period != 0 && (period < 1000 || period > 1000000) {
		p.invalid("cpu.period", "%d is not in 1000 to 1000000 microseconds", period)
	}
	if c.Idle != nil && *c.Idle != 0 && *c.Idle != 1 {
		p.invalid("cpu.idle", "%d is neither 0 nor 1", *c.Idle)
	}
	return quota, period
}

// cpusets limits processors and memory nodes; both versions name them alike.
func (p *plan) cpusets() {
	if p.r.CPU == nil {
		return
	}
	for _, s := range []struct{ name, value string }{{"cpus", p.r.CPU.Cpus}, {"mems", p.r.CPU.Mems}} {
		if s.value == "" {
			continue
		}
		if strings.Trim(s.value, "0123456789,-") != "" {
			p.invalid("cpu."+s.name, "%q is not a list such as 0-3,8", s.value)
			return
		}
		p.put("cpuset", "cpu."+s.name, "cpuset."+s.name, s.value)
	}
}

// pids limits the number of tasks; any negative number is no limit, and so is 0, as
// for podman.
func (p *plan) pids() {
	if p.r.Pids == nil || p.r.Pids.Limit == nil {
		return
	}
	limit := *p.r.Pids.Limit
	if limit == 0 {
		limit = -1
	}
	p.put("pids", "pids.limit", pidsMax, orMax(limit))
}

// hugepages limits use and, where the kernel counts them, reservations.
func (p *plan) hugepages(suffix string) {
	for _, h := range p.r.HugepageLimits {
		digits := strings.TrimRight(h.Pagesize, "KMGB")
		unit := h.Pagesize[len(digits):]
		if digits == "" || strings.Trim(digits, "0123456789") != "" || unit != "KB" && unit != "MB" && unit != "GB" {
			p.invalid("hugepageLimits", "the page size %q is not like 64KB, 2MB or 1GB", h.Pagesize)
			return
		}
		p.put("hugetlb", "hugepageLimits", "hugetlb."+h.Pagesize+"."+suffix, unsigned(h.Limit))
		p.put("hugetlb", "hugepageLimits", "hugetlb."+h.Pagesize+".rsvd."+suffix, unsigned(h.Limit)).Optional = true
	}
}

// rdma limits handles and objects per adapter, alike in both versions.
func (p *plan) rdma() {
	for _, name := range slices.Sorted(maps.Keys(p.r.Rdma)) {
		if name == "" || strings.ContainsAny(name, " \t\n") {
			p.invalid("rdma", "%q is not the name of a device", name)
			return
		}
		limit, value := p.r.Rdma[name], name
		if limit.HcaHandles != nil {
			value += " hca_handle=" + unsigned(uint64(*limit.HcaHandles))
		}
		if limit.HcaObjects != nil {
			value += " hca_object=" + unsigned(uint64(*limit.HcaObjects))
		}
		if value != name {
			p.put("rdma", "rdma", "rdma.max", value)
		}
	}
}

// weight checks a block I/O weight; 0 is "not asked".
func (p *plan) weight(field string, w *uint16) uint64 {
	if w == nil || *w == 0 {
		return 0
	}
	if *w < 10 || *w > 1000 {
		p.invalid(field, "%d is not in 10 to 1000", *w)
	}
	return uint64(*w)
}
