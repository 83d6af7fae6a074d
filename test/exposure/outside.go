package main

import (
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/seccomp"
)

func outside(text string) error {
	pid, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts", "time"} {
		its, err := os.Readlink("/proc/" + text + "/ns/" + ns)
		if err != nil {
			return err
		}
		if ours, err := os.Readlink("/proc/self/ns/" + ns); err == nil && ours == its {
			fmt.Println("host's namespace", ns)
		}
	}
	filters, err := filtersOf(pid)
	if err != nil {
		return err
	}
	calls := seccomp.Numbers()
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		for _, arg := range probes[name] {
			if allowed(filters, calls[name], arg) {
				fmt.Printf("syscall %s(%#x)\n", name, arg)
			}
		}
		if probes[name] == nil && allowed(filters, calls[name], 0) {
			fmt.Println("syscall", name)
		}
	}
	return nil
}

// probes are first arguments to try where profiles look at them.
var probes = map[string][]uint64{
	"clone":       {0, unix.CLONE_NEWUSER, unix.CLONE_NEWNS, unix.CLONE_NEWNET, unix.CLONE_NEWPID, unix.CLONE_NEWIPC, unix.CLONE_NEWUTS, unix.CLONE_NEWCGROUP},
	"personality": {0, 8, 0x20000, 0x20008, 0xffffffff, 0x0400000},
	"socket":      {unix.AF_UNIX, unix.AF_INET, unix.AF_NETLINK, unix.AF_PACKET, unix.AF_ALG, unix.AF_VSOCK},
}

// filtersOf reads the filters of a process's main thread, ptrace(2),
// PTRACE_SECCOMP_GET_FILTER.
func filtersOf(pid int) ([][]unix.SockFilter, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.PtraceSeize(pid); err != nil {
		return nil, os.NewSyscallError("ptrace seize", err)
	}
	if err := unix.PtraceInterrupt(pid); err != nil {
		return nil, os.NewSyscallError("ptrace interrupt", err)
	}
	defer func() { _ = unix.PtraceDetach(pid) }()
	if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != nil {
		return nil, os.NewSyscallError("wait", err)
	}
	var all [][]unix.SockFilter
	for n := uintptr(0); ; n++ {
		size, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SECCOMP_GET_FILTER, uintptr(pid), n, 0, 0, 0)
		if errno == unix.ENOENT || errno == unix.EINVAL && n == 0 {
			return all, nil // no more, or none at all
		}
		if errno != 0 {
			return nil, os.NewSyscallError("ptrace get filter", errno)
		}
		filter := make([]unix.SockFilter, size)
		if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SECCOMP_GET_FILTER, uintptr(pid), n, uintptr(unsafe.Pointer(&filter[0])), 0, 0); errno != 0 {
			return nil, os.NewSyscallError("ptrace get filter", errno)
		}
		all = append(all, filter)
	}
}

// allowed reports whether all filters let a call through.
func allowed(filters [][]unix.SockFilter, nr uint32, arg uint64) bool {
	// struct seccomp_data: nr, arch, instruction pointer, six arguments.
	data := make([]byte, 64)
	binary.NativeEndian.PutUint32(data, nr)
	binary.NativeEndian.PutUint32(data[4:], seccomp.AuditArch())
	binary.NativeEndian.PutUint64(data[16:], arg)
	for _, f := range filters {
		switch verdict(f, data) & unix.SECCOMP_RET_ACTION_FULL {
		case unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_LOG, unix.SECCOMP_RET_USER_NOTIF, unix.SECCOMP_RET_TRACE:
		default:
			return false
		}
	}
	return true
}

// verdict runs a filter: the classic BPF that seccomp allows, seccomp(2).
func verdict(f []unix.SockFilter, data []byte) uint32 {
	var a, x uint32
	var mem [16]uint32
	for pc := 0; pc < len(f); pc++ {
		i := f[pc]
		operand := i.K
		if i.Code&unix.BPF_X != 0 {
			operand = x
		}
		switch i.Code & 0x07 {
		case unix.BPF_LD:
			switch i.Code & 0xe0 {
			case unix.BPF_ABS:
				a = binary.NativeEndian.Uint32(data[i.K:])
			case unix.BPF_IMM:
				a = i.K
			case unix.BPF_MEM:
				a = mem[i.K]
			case unix.BPF_LEN:
				a = uint32(len(data))
			}
		case unix.BPF_LDX:
			x = i.K
			if i.Code&0xe0 == unix.BPF_MEM {
				x = mem[i.K]
			}
		case unix.BPF_ST:
			mem[i.K] = a
		case unix.BPF_STX:
			mem[i.K] = x
		case unix.BPF_ALU:
			switch i.Code & 0xf0 {
			case unix.BPF_ADD:
				a += operand
			case unix.BPF_SUB:
				a -= operand
			case unix.BPF_AND:
				a &= operand
			case unix.BPF_OR:
				a |= operand
			case unix.BPF_XOR:
				a ^= operand
			case unix.BPF_LSH:
				a <<= operand
			case unix.BPF_RSH:
				a >>= operand
			case unix.BPF_NEG:
				a = -a
			}
		case unix.BPF_JMP:
			if i.Code&0xf0 == unix.BPF_JA {
				pc += int(i.K)
				continue
			}
			var holds bool
			switch i.Code & 0xf0 {
			case unix.BPF_JEQ:
				holds = a == operand
			case unix.BPF_JGT:
				holds = a > operand
			case unix.BPF_JGE:
				holds = a >= operand
			case unix.BPF_JSET:
				holds = a&operand != 0
			}
			if holds {
				pc += int(i.Jt)
			} else {
				pc += int(i.Jf)
			}
		case unix.BPF_RET:
			if i.Code&0x18 == unix.BPF_A {
				return a
			}
			return i.K
		case unix.BPF_MISC:
			if i.Code&0xf8 == unix.BPF_TAX {
				x = a
			} else {
				a = x
			}
		}
	}
	return unix.SECCOMP_RET_KILL_PROCESS
}
