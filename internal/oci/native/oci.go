package native

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/plan"
)

// foreign names what of the spec nobody here carries out.
func foreign(s *specs.Spec) error {
	l := s.Linux
	switch {
	case s.Solaris != nil:
		return unsupported("solaris")
	case s.Windows != nil:
		return unsupported("windows")
	case s.VM != nil:
		return unsupported("vm")
	case s.ZOS != nil:
		return unsupported("zos")
	case s.FreeBSD != nil:
		return unsupported("freebsd")
	// An empty one asks for a class of its own without any limit in it. runc takes
	// it where the kernel has no classes, too.
	case l.IntelRdt != nil && !reflect.DeepEqual(*l.IntelRdt, specs.LinuxIntelRdt{}):
		return unsupported("linux.intelRdt")
	}
	return nil
}

// outside compiles what only the OCI runtime's program carries out. What it
// does itself, before and after, are ID maps, namespaces by path, network
// devices and idmapped mounts.
func outside(s *specs.Spec) (*plan.OCI, error) {
	if err := foreign(s); err != nil {
		return nil, err
	}
	l := s.Linux
	o, err := ofProcess(s.Process)
	if err != nil {
		return nil, err
	}
	switch strings.TrimPrefix(l.RootfsPropagation, "r") {
	case "private":
		o.Propagation = unix.MS_PRIVATE
	case "slave":
		o.Propagation = unix.MS_SLAVE
	case "shared":
		o.Propagation = unix.MS_SHARED
	case "unbindable":
		o.Propagation = unix.MS_UNBINDABLE
	}
	if strings.HasPrefix(l.RootfsPropagation, "r") {
		o.Propagation |= unix.MS_REC
	}
	o.Chroot = !slices.ContainsFunc(l.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.MountNamespace })
	if o.Personality, err = personality(l.Personality); err != nil {
		return nil, err
	}
	if o.MemoryPolicy, err = memoryPolicy(l.MemoryPolicy); err != nil {
		return nil, err
	}
	time := slices.IndexFunc(l.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.TimeNamespace })
	o.TimeNS = time >= 0 && l.Namespaces[time].Path == ""
	for _, clock := range slices.Sorted(maps.Keys(l.TimeOffsets)) {
		if !o.TimeNS {
			return nil, invalid("linux.timeOffsets: there is no new time namespace")
		}
		if clock != "monotonic" && clock != "boottime" {
			return nil, invalid("linux.timeOffsets: %q is not a clock that can be set", clock)
		}
		t := l.TimeOffsets[clock]
		o.TimeOffsets = append(o.TimeOffsets, fmt.Sprintf("%s %d %d\n", clock, t.Secs, t.Nanosecs))
	}
	if l.Seccomp != nil {
		o.NotifyMetadata = l.Seccomp.ListenerMetadata
	}
	return o, nil
}

// ofProcess compiles what a process, of init or exec, has beyond [Process].
func ofProcess(p *specs.Process) (*plan.OCI, error) {
	o := &plan.OCI{}
	if s := p.Scheduler; s != nil {
		policy, ok := policies[s.Policy]
		if !ok {
			return nil, invalid("process.scheduler.policy: %q is not a policy", s.Policy)
		}
		if s.Nice < -20 || s.Nice > 19 { // which the kernel would cut off
			return nil, invalid("process.scheduler.nice: %d is not -20 to 19", s.Nice)
		}
		o.Scheduler = &plan.Sched{
			Policy: policy, Nice: s.Nice, Priority: uint32(s.Priority), Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period,
		}
		for _, f := range s.Flags {
			bit, ok := schedFlags[f]
			if !ok {
				return nil, invalid("process.scheduler.flags: %q is not a flag", f)
			}
			o.Scheduler.Flags |= bit
		}
	}
	if i := p.IOPriority; i != nil {
		class, ok := map[specs.IOPriorityClass]int{specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3}[i.Class]
		if !ok {
			return nil, invalid("process.ioPriority.class: %q is not a class", i.Class)
		}
		if i.Priority < 0 || i.Priority > 7 {
			return nil, invalid("process.ioPriority.priority: %d is not 0 to 7", i.Priority)
		}
		value := class<<13 | i.Priority // ioprio_set(2)
		o.IOPriority = &value
	}
	return o, nil
}

// ExecOCI is what an exec's process has beyond [Process].
func ExecOCI(p *specs.Process) (*plan.OCI, error) {
	o, err := ofProcess(p)
	if err == nil && p.ExecCPUAffinity != nil {
		o.Affinity, err = CPUs(p.ExecCPUAffinity.Final)
	}
	return o, err
}

var policies = map[specs.LinuxSchedulerPolicy]uint32{
	specs.SchedOther: unix.SCHED_NORMAL, specs.SchedFIFO: unix.SCHED_FIFO, specs.SchedRR: unix.SCHED_RR,
	specs.SchedBatch: unix.SCHED_BATCH, specs.SchedIdle: unix.SCHED_IDLE, specs.SchedDeadline: unix.SCHED_DEADLINE,
}

var schedFlags = map[specs.LinuxSchedulerFlag]uint64{
	specs.SchedFlagResetOnFork: unix.SCHED_FLAG_RESET_ON_FORK, specs.SchedFlagReclaim: unix.SCHED_FLAG_RECLAIM,
	specs.SchedFlagDLOverrun: unix.SCHED_FLAG_DL_OVERRUN, specs.SchedFlagKeepPolicy: unix.SCHED_FLAG_KEEP_POLICY,
	specs.SchedFlagKeepParams: unix.SCHED_FLAG_KEEP_PARAMS, specs.SchedFlagUtilClampMin: unix.SCHED_FLAG_UTIL_CLAMP_MIN,
	specs.SchedFlagUtilClampMax: unix.SCHED_FLAG_UTIL_CLAMP_MAX,
}

func personality(p *specs.LinuxPersonality) (*uint64, error) {
	if p == nil {
		return nil, nil
	}
	if len(p.Flags) > 0 {
		return nil, unsupported("linux.personality.flags: %s", p.Flags[0])
	}
	var domain uint64
	switch p.Domain {
	case specs.PerLinux:
	case specs.PerLinux32:
		domain = 8 // PER_LINUX32 of linux/personality.h
	default:
		return nil, invalid("linux.personality.domain: %q is not a domain", p.Domain)
	}
	return &domain, nil
}

// MemoryModes and MemoryFlags are the names of linux/mempolicy.h.
var (
	MemoryModes = map[specs.MemoryPolicyModeType]int{
		specs.MpolDefault: 0, specs.MpolPreferred: 1, specs.MpolBind: 2, specs.MpolInterleave: 3, specs.MpolLocal: 4,
		specs.MpolPreferredMany: 5, specs.MpolWeightedInterleave: 6,
	}
	MemoryFlags = map[specs.MemoryPolicyFlagType]int{
		specs.MpolFStaticNodes: 1 << 15, specs.MpolFRelativeNodes: 1 << 14, specs.MpolFNumaBalancing: 1 << 13,
	}
)

func memoryPolicy(m *specs.LinuxMemoryPolicy) (*plan.MemoryPolicy, error) {
	if m == nil {
		return nil, nil
	}
	mode, ok := MemoryModes[m.Mode]
	if !ok {
		return nil, invalid("linux.memoryPolicy.mode: %q is not a mode", m.Mode)
	}
	for _, f := range m.Flags {
		bit, ok := MemoryFlags[f]
		if !ok {
			return nil, invalid("linux.memoryPolicy.flags: %q is not a flag", f)
		}
		mode |= bit
	}
	nodes, err := CPUs(m.Nodes)
	if err != nil {
		return nil, invalid("linux.memoryPolicy.nodes: %q is not a list", m.Nodes)
	}
	return &plan.MemoryPolicy{Mode: mode, Nodes: nodes}, nil
}

// CPUs reads a list such as "0-3,8".
func CPUs(list string) ([]int, error) {
	var all []int
	if list == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		from, to, ok := strings.Cut(strings.TrimSpace(part), "-")
		if !ok {
			to = from
		}
		a, err1 := strconv.ParseUint(from, 10, 10)
		b, err2 := strconv.ParseUint(to, 10, 10)
		if err1 != nil || err2 != nil || b < a {
			return nil, invalid("%q is not a list of numbers", list)
		}
		for n := a; n <= b; n++ {
			all = append(all, int(n))
		}
	}
	return all, nil
}

// Hooks turns a spec's hooks into the plan's; nil for none. What they read is
// the caller's to say.
func Hooks(h *specs.Hooks) *plan.Hooks {
	if h == nil {
		return nil
	}
	out := &plan.Hooks{
		//lint:ignore SA1019 Prestart is old and still used
		Prestart: hooks(h.Prestart), CreateRuntime: hooks(h.CreateRuntime), CreateContainer: hooks(h.CreateContainer),
		StartContainer: hooks(h.StartContainer), Poststart: hooks(h.Poststart), Poststop: hooks(h.Poststop),
	}
	if len(out.Prestart)+len(out.CreateRuntime)+len(out.CreateContainer)+len(out.StartContainer)+len(out.Poststart)+len(out.Poststop) == 0 {
		return nil
	}
	return out
}

func hooks(from []specs.Hook) []plan.Hook {
	var all []plan.Hook
	for _, h := range from {
		p := plan.Hook{Path: h.Path, Args: h.Args, Env: h.Env}
		if h.Timeout != nil {
			p.Timeout = *h.Timeout
		}
		all = append(all, p)
	}
	return all
}

func ranges(from []specs.LinuxIDMapping) []plan.IDMap {
	var all []plan.IDMap
	for _, m := range from {
		all = append(all, plan.IDMap{Inside: m.ContainerID, Outside: m.HostID, Size: m.Size})
	}
	return all
}

// Namespaces are the kinds that a spec may name.
func Namespaces() []string {
	var all []string
	for kind := range namespaceFlags {
		all = append(all, string(kind))
	}
	slices.Sort(all)
	return all
}
