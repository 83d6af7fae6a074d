package ctrinit

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/plan"
)

// schedule sets what a spec says of the thread that becomes the command:
// personality(2), sched_setattr(2), ioprio_set(2), set_mempolicy(2).
func (p *process) schedule() *wire.Failure {
	o := p.plan.OCI
	if o.Personality != nil {
		if _, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, uintptr(*o.Personality), 0, 0); errno != 0 {
			return wire.Fail("set personality", errno)
		}
	}
	if !p.descends { // a child need not inherit it, sched(7)
		if err := SetScheduler(0, o.Scheduler); err != nil {
			return wire.Fail("set scheduler", err)
		}
	}
	if o.IOPriority != nil {
		const process = 1 // IOPRIO_WHO_PROCESS
		if _, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_SET, process, 0, uintptr(*o.IOPriority)); errno != 0 {
			return wire.Fail("set I/O priority", errno)
		}
	}
	if m := o.MemoryPolicy; m != nil {
		var mask [16]uint64 // 1,024 nodes, the kernel's most
		var first unsafe.Pointer
		var size uintptr
		for _, n := range m.Nodes {
			mask[n/64] |= 1 << (n % 64)
			first, size = unsafe.Pointer(&mask[0]), uintptr(64*len(mask))
		}
		_, _, errno := unix.RawSyscall(unix.SYS_SET_MEMPOLICY, uintptr(m.Mode), uintptr(first), size)
		runtime.KeepAlive(&mask)
		if errno == unix.ENOSYS {
			return &wire.Failure{Step: "set memory policy", Text: "this kernel has none: it was built without NUMA"}
		}
		if errno != 0 {
			return wire.Fail("set memory policy", errno)
		}
	}
	if len(o.Affinity) > 0 {
		var set unix.CPUSet
		for _, c := range o.Affinity {
			set.Set(c)
		}
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return wire.Fail("set CPU affinity", err)
		}
	}
	return nil
}

// SetScheduler sets how a process is scheduled, 0 for the calling thread; nil
// leaves it.
func SetScheduler(pid int, s *plan.Sched) error {
	if s == nil {
		return nil
	}
	return unix.SchedSetAttr(pid, &unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: s.Policy, Flags: s.Flags, Nice: s.Nice, Priority: s.Priority,
		Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period,
	}, 0)
}

// setgroups sets this thread's groups alone.
func setgroups(gids []uint32) unix.Errno {
	var first unsafe.Pointer
	if len(gids) > 0 {
		first = unsafe.Pointer(&gids[0])
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(gids)), uintptr(first), 0)
	return errno
}
