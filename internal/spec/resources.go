package spec

import (
	"maps"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove"
)

func limitText(v uint64) string {
	if v == math.MaxUint64 {
		return "unlimited"
	}
	return strconv.FormatUint(v, 10)
}

// lacks reports, with a warning, that the host misses feature.
func (b *builder) lacks(f Feature, what string) bool {
	if !b.host.Missing[f] {
		return false
	}
	b.warn("Your kernel does not support %s or the cgroup is not mounted. %s", f.sentence(), what)
	return true
}

func (f Feature) sentence() string {
	switch f {
	case Memory:
		return "memory limit capabilities"
	case Swap:
		return "swap limit capabilities"
	case MemorySwappiness:
		return "memory swappiness capabilities"
	case MemoryReservation:
		return "memory soft limit capabilities"
	case Pids:
		return "pids limit capabilities"
	case CPUShares:
		return "CPU shares"
	case CPUPeriod:
		return "CPU cfs period"
	case CPUQuota:
		return "CPU cfs quota"
	case BlkioWeight:
		return "Block I/O weight"
	case CPURealtime:
		return "CPU real-time limits"
	}
	return string(f)
}

// resources sets the cgroup limits.
func (b *builder) resources() error {
	if b.host.Rootless && !b.host.CgroupV2 {
		// Nobody delegates v1 cgroups to users.
		if b.askedResources() || len(b.conf.CgroupConf) > 0 {
			b.warn("Resource limits are not supported and ignored on cgroups V1 rootless systems")
		}
		return nil
	}
	for _, step := range []func() error{b.memory, b.cpu, b.pids, b.blockIO} {
		if err := step(); err != nil {
			return err
		}
	}
	unified := maps.Clone(b.conf.CgroupConf)
	if len(b.in.Resources.CgroupConf) > 0 {
		if unified == nil {
			unified = map[string]string{}
		}
		maps.Copy(unified, b.in.Resources.CgroupConf)
	}
	b.out.Linux.Resources.Unified = unified
	return nil
}

func (b *builder) askedResources() bool {
	r := b.in.Resources
	return r.Memory != 0 || r.MemoryReservation != 0 || r.MemorySwap != 0 || r.MemorySwappiness != nil ||
		r.CPUPeriod != 0 || r.CPUQuota != 0 || r.CPUs != 0 || r.CPUShares != 0 || r.CpusetCPUs != "" ||
		r.CpusetMems != "" || r.PidsLimit != nil || r.BlkioWeight != 0 || r.OOMKillDisable ||
		r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0 || len(r.BlockDevices) > 0 || len(r.CgroupConf) > 0
}

func (b *builder) memory() error {
	r := b.in.Resources
	if r.Memory < 0 || r.MemoryReservation < 0 || r.MemorySwap < -1 {
		return invalid("memory limits must not be negative")
	}
	var m specs.LinuxMemory
	limited := r.Memory > 0
	if limited && b.lacks(Memory, "Limitation discarded.") {
		limited = false
	} else if !limited && r.MemorySwap != 0 {
		return invalid("you should always set a memory limit when using a memoryswap limit, see usage")
	}
	if limited {
		m.Limit = &r.Memory
		swap := r.MemorySwap
		if swap == 0 && r.Memory <= math.MaxInt64/2 {
			swap = 2 * r.Memory
		}
		if swap > 0 && swap < r.Memory {
			return invalid("minimum memoryswap limit should be larger than memory limit, see usage")
		}
		if swap != 0 && !b.lacks(Swap, "Memory limited without swap.") {
			m.Swap = &swap
		}
	}
	if r.MemoryReservation > 0 && !b.lacks(MemoryReservation, "Limitation discarded.") {
		if limited && r.Memory < r.MemoryReservation {
			return invalid("minimum memory limit cannot be less than memory reservation limit, see usage")
		}
		m.Reservation = &r.MemoryReservation
	}
	if s := r.MemorySwappiness; s != nil {
		switch {
		case *s > 100:
			return invalid("invalid value: %d, valid memory swappiness range is 0-100", *s)
		case b.host.CgroupV2:
			b.warn("Memory swappiness is only supported on cgroups V1. Memory swappiness discarded.")
		case !b.lacks(MemorySwappiness, "Memory swappiness discarded."):
			m.Swappiness = s
		}
	}
	if r.OOMKillDisable {
		if b.host.CgroupV2 || b.host.Missing[OOMKillDisable] {
			b.warn("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
		} else {
			m.DisableOOMKiller = &r.OOMKillDisable
		}
	}
	if m != (specs.LinuxMemory{}) {
		b.out.Linux.Resources.Memory = &m
	}
	return nil
}

// cpuPeriod is the period that --cpus counts in, microseconds.
const cpuPeriod = 100000

func (b *builder) cpu() error {
	r := b.in.Resources
	period, quota := r.CPUPeriod, r.CPUQuota
	if r.CPUs != 0 {
		switch {
		case r.CPUPeriod != 0:
			return invalid("--cpu-period and --cpus cannot be set together")
		case r.CPUQuota != 0:
			return invalid("--cpu-quota and --cpus cannot be set together")
		case !(r.CPUs > 0) || r.CPUs > 1<<20: // also NaN
			return invalid("invalid number of CPUs %v", r.CPUs)
		}
		period, quota = cpuPeriod, int64(r.CPUs*cpuPeriod)
	}
	var c specs.LinuxCPU
	if r.CPUShares != 0 && !b.lacks(CPUShares, "Shares discarded.") {
		c.Shares = &r.CPUShares
	}
	if period != 0 && !b.lacks(CPUPeriod, "Period discarded.") {
		if period < 1000 || period > 1000000 {
			return invalid("CPU cfs period cannot be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
		}
		c.Period = &period
	}
	// -1 is the kernel's word for no quota.
	if quota != 0 && !b.lacks(CPUQuota, "Quota discarded.") {
		if quota < 1000 && quota != -1 {
			return invalid("CPU cfs quota cannot be less than 1ms (i.e. 1000)")
		}
		c.Quota = &quota
	}
	if (r.CpusetCPUs != "" || r.CpusetMems != "") && !b.lacks(Cpuset, "CPUset discarded.") {
		if err := checkSet(r.CpusetCPUs, b.host.CPUs, "cpus", "CPUs"); err != nil {
			return err
		}
		if err := checkSet(r.CpusetMems, b.host.MemoryNodes, "mems", "memory nodes"); err != nil {
			return err
		}
		c.Cpus, c.Mems = r.CpusetCPUs, r.CpusetMems
	}
	if (r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0) && !b.lacks(CPURealtime, "Real-time limits discarded.") {
		if r.CPURealtimePeriod != 0 {
			c.RealtimePeriod = &r.CPURealtimePeriod
		}
		if r.CPURealtimeRuntime != 0 {
			c.RealtimeRuntime = &r.CPURealtimeRuntime
		}
	}
	if c != (specs.LinuxCPU{}) {
		b.out.Linux.Resources.CPU = &c
	}
	return nil
}

// checkSet compares a list of processors or memory nodes with those there are.
func checkSet(asked, have, flag, noun string) error {
	want, ok := parseSet(asked)
	if !ok {
		return invalid("invalid value %s for cpuset %s", asked, flag)
	}
	if have == "" {
		return nil
	}
	there, ok := parseSet(have)
	if !ok {
		return nil
	}
	for n := range want {
		if !there[n] {
			return invalid("requested %s are not available - requested %s, available: %s", noun, asked, have)
		}
	}
	return nil
}

// maxSet is more processors than any kernel is built for.
const maxSet = 8192

// parseSet reads "0-3,8".
func parseSet(s string) (map[int]bool, bool) {
	set := map[int]bool{}
	if s == "" {
		return set, true
	}
	for part := range strings.SplitSeq(s, ",") {
		from, to, span := strings.Cut(part, "-")
		a, err := strconv.ParseUint(from, 10, 16)
		if err != nil {
			return nil, false
		}
		z := a
		if span {
			if z, err = strconv.ParseUint(to, 10, 16); err != nil {
				return nil, false
			}
		}
		if a > z || z >= maxSet {
			return nil, false
		}
		for n := a; n <= z; n++ {
			set[int(n)] = true
		}
	}
	return set, true
}

func (b *builder) pids() error {
	limit := int64(cove.DefaultPidsLimit)
	if b.conf.PidsLimit != nil {
		limit = *b.conf.PidsLimit
	}
	asked := b.in.Resources.PidsLimit
	if asked != nil {
		limit = *asked
	}
	if limit < -1 {
		return invalid("invalid pids limit %d: must be -1 (unlimited) or above", limit)
	}
	if limit <= 0 {
		return nil
	}
	if b.host.Missing[Pids] {
		if asked != nil {
			b.lacks(Pids, "PIDs limit discarded.")
		}
		return nil
	}
	b.out.Linux.Resources.Pids = &specs.LinuxPids{Limit: &limit}
	return nil
}

func (b *builder) blockIO() error {
	var io specs.LinuxBlockIO
	w := b.in.Resources.BlkioWeight
	if w != 0 && (w < 10 || w > 1000) {
		return invalid("range of blkio weight is from 10 to 1000")
	}
	if w != 0 && !b.lacks(BlkioWeight, "Weight discarded.") {
		io.Weight = &w
	}
	for _, d := range b.in.Resources.BlockDevices {
		if err := b.deviceLimit(&io, d); err != nil {
			return err
		}
	}
	if !reflect.ValueOf(io).IsZero() {
		b.out.Linux.Resources.BlockIO = &io
	}
	return nil
}

// deviceLimit adds one limit on a block device of the host's.
func (b *builder) deviceLimit(io *specs.LinuxBlockIO, d cove.DeviceLimit) error {
	if d.Limit == "weight" && b.lacks(BlkioWeight, "Weight-device discarded.") {
		return nil
	}
	if b.host.Devices == nil {
		return unsupported("device %s: the host's devices are not known", d.Path)
	}
	nodes, err := b.host.Devices(d.Path)
	if err != nil {
		return err
	}
	if len(nodes) != 1 || nodes[0].Type != 'b' {
		return invalid("%s is not a block device", d.Path)
	}
	t := specs.LinuxThrottleDevice{Rate: d.Value}
	t.Major, t.Minor = nodes[0].Major, nodes[0].Minor
	switch d.Limit {
	case "rbps":
		io.ThrottleReadBpsDevice = append(io.ThrottleReadBpsDevice, t)
	case "wbps":
		io.ThrottleWriteBpsDevice = append(io.ThrottleWriteBpsDevice, t)
	case "riops":
		io.ThrottleReadIOPSDevice = append(io.ThrottleReadIOPSDevice, t)
	case "wiops":
		io.ThrottleWriteIOPSDevice = append(io.ThrottleWriteIOPSDevice, t)
	case "weight":
		weight := uint16(d.Value)
		wd := specs.LinuxWeightDevice{Weight: &weight}
		wd.Major, wd.Minor = t.Major, t.Minor
		io.WeightDevice = append(io.WeightDevice, wd)
	default:
		return invalid("limit %s of device %s is not known", d.Limit, d.Path)
	}
	return nil
}
