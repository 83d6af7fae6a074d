package seccomp

import (
	"runtime"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// What profiles may say, for those who ask.

// Architectures are the ABIs that filters for this machine can tell apart.
func Architectures() []specs.Arch {
	m, err := machineOf(runtime.GOARCH)
	if err != nil {
		return nil
	}
	var all []specs.Arch
	for _, a := range m.abis {
		all = append(all, a.arch)
	}
	return all
}

// Actions are those of rules.
func Actions() []specs.LinuxSeccompAction {
	return []specs.LinuxSeccompAction{
		specs.ActAllow, specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActLog, specs.ActNotify, specs.ActTrace, specs.ActTrap,
	}
}

// Operators are those of conditions.
func Operators() []specs.LinuxSeccompOperator {
	return []specs.LinuxSeccompOperator{
		specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpLessEqual, specs.OpLessThan, specs.OpMaskedEqual, specs.OpNotEqual,
	}
}

// Flags are those of filters.
func Flags() []specs.LinuxSeccompFlag {
	return []specs.LinuxSeccompFlag{
		"SECCOMP_FILTER_FLAG_TSYNC", specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow, specs.LinuxSeccompFlagWaitKillableRecv,
	}
}

// Numbers are the system calls of this machine's own ABI, by name.
func Numbers() map[string]uint32 {
	m, err := machineOf(runtime.GOARCH)
	if err != nil {
		return nil
	}
	all := map[string]uint32{}
	for _, n := range m.abis[0].table {
		all[n.name] = n.nr
	}
	return all
}

// AuditArch is what filters see as this machine's own ABI.
func AuditArch() uint32 {
	m, err := machineOf(runtime.GOARCH)
	if err != nil {
		return 0
	}
	return m.abis[0].audit
}
