// Package seccomp turns the seccomp section of an OCI runtime spec into a
// classic BPF program for seccomp(2), resolves profiles (the default one,
// docker's and OCI's JSON formats) into such sections, and keeps compiled
// programs in a folder. It is pure Go: no libseccomp, no cgo.
//
// # Verdicts
//
// They are those of runc with libseccomp, save for the differences below.
// For one system call and one ABI:
//
//   - a rule whose action is the default action is ignored;
//   - a rule without conditions beats all rules with conditions; of several,
//     the first counts;
//   - conditions of one rule must all hold, but when two of them look at the
//     same argument each condition is a rule of its own (so they are ORed);
//   - arguments are compared as 64-bit values, and by their low 32 bits in
//     32-bit ABIs, x32 among them;
//   - names that an ABI does not have are ignored.
//
// The native ABI is always part of the program. A call through an ABI that
// the profile does not name kills the process. When the default action is not
// a permissive one, calls with a number above the highest that the profile
// names get ENOSYS, so that programs fall back to older calls.
//
// Intended differences:
//
//   - a foreign ABI kills the process; libseccomp kills the thread;
//   - where several rules with conditions hold, the most restrictive action
//     wins, in the kernel's order (seccomp(2)), then the first; in libseccomp
//     it depends on the layout of its tree, and some rules that contradict
//     each other are an error; a mask of zero is a condition that holds, not
//     none;
//   - an errnoRet that the action cannot carry is refused, not cut or ignored;
//   - ABIs that the machine cannot execute are left out, and s390 (31 bits),
//     for which there is no table;
//   - socketcall(2) and ipc(2) of i386, s390x and ppc64le: a rule on a call
//     that they multiplex extends to them only as far as they can be checked:
//     a permissive rule with conditions does not, a restrictive one counts
//     for every argument;
//   - ENOSYS for newer calls also without a list of architectures, and on ARM
//     below its private numbers.
package seccomp

//go:generate go run gen.go

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	cove "github.com/cove-engine/cove"
)

// x32Bit marks a system call number as one of the x32 ABI.
const x32Bit = 0x40000000

// number is one system call of an ABI.
type number struct {
	name string
	nr   uint32
}

// abi is one way to make system calls.
type abi struct {
	arch   specs.Arch
	audit  uint32   // seccomp_data.arch
	narrow bool     // arguments are compared by their low 32 bits
	table  []number // sorted by name
	limit  uint32   // the first number beyond the ABI's own range; 0: none
	mux    bool     // has socketcall and ipc
}

// lookup gives the number of the call name.
func (a *abi) lookup(name string) (uint32, bool) {
	i, ok := slices.BinarySearchFunc(a.table, name, func(n number, name string) int {
		return strings.Compare(n.name, name)
	})
	if !ok {
		return 0, false
	}
	return a.table[i].nr, true
}

// machine is what a kernel of a Go architecture can execute, the native ABI
// first.
type machine struct {
	abis  []abi
	order byteOrder
}

type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// machineOf gives the machine of arch, a GOARCH name.
func machineOf(arch string) (machine, error) {
	le := binary.LittleEndian
	switch arch {
	case "amd64":
		return machine{[]abi{
			{arch: specs.ArchX86_64, audit: unix.AUDIT_ARCH_X86_64, table: numbersAMD64[:], limit: x32Bit},
			{arch: specs.ArchX86, audit: unix.AUDIT_ARCH_I386, narrow: true, table: numbers386[:], mux: true},
			{arch: specs.ArchX32, audit: unix.AUDIT_ARCH_X86_64, narrow: true, table: numbersX32[:]},
		}, le}, nil
	case "386":
		return machine{[]abi{
			{arch: specs.ArchX86, audit: unix.AUDIT_ARCH_I386, narrow: true, table: numbers386[:], mux: true},
		}, le}, nil
	case "arm64":
		return machine{[]abi{
			{arch: specs.ArchAARCH64, audit: unix.AUDIT_ARCH_AARCH64, table: numbersARM64[:]},
			{arch: specs.ArchARM, audit: unix.AUDIT_ARCH_ARM, narrow: true, table: numbersARM[:], limit: armPrivate},
		}, le}, nil
	case "arm":
		return machine{[]abi{
			{arch: specs.ArchARM, audit: unix.AUDIT_ARCH_ARM, narrow: true, table: numbersARM[:], limit: armPrivate},
		}, le}, nil
	case "riscv64":
		return machine{[]abi{
			{arch: specs.ArchRISCV64, audit: unix.AUDIT_ARCH_RISCV64, table: numbersRISCV64[:]},
		}, le}, nil
	case "ppc64le":
		return machine{[]abi{
			{arch: specs.ArchPPC64LE, audit: unix.AUDIT_ARCH_PPC64LE, table: numbersPPC64LE[:], mux: true},
		}, le}, nil
	case "s390x":
		return machine{[]abi{
			{arch: specs.ArchS390X, audit: unix.AUDIT_ARCH_S390X, table: numbersS390X[:], mux: true},
		}, binary.BigEndian}, nil
	}
	return machine{}, cove.E("seccomp", arch, cove.Unsupported,
		errors.New("no system call table for this architecture"))
}

// armPrivate is where ARM's private calls begin (__ARM_NR_BASE).
const armPrivate = 0xf0000

// known are the architecture names of the runtime spec; anything else in a
// profile is a mistake.
const known = " X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE" +
	" S390 S390X PARISC PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB "

// native is what libseccomp's tokens call the architecture in use.
const native specs.Arch = "SCMP_ARCH_NATIVE"

// pick gives the ABIs of m that are native or named by archs.
func (m machine) pick(archs []specs.Arch) ([]abi, error) {
	for _, a := range archs {
		name, ok := strings.CutPrefix(string(a), "SCMP_ARCH_")
		if a != native && (!ok || !strings.Contains(known, " "+name+" ")) {
			return nil, invalid(fmt.Errorf("unknown architecture %q", a))
		}
	}
	var picked []abi
	for i, a := range m.abis {
		if i == 0 || slices.Contains(archs, a.arch) {
			picked = append(picked, a)
		}
	}
	return picked, nil
}

// invalid is the error of a malformed profile.
func invalid(cause error) error { return cove.E("seccomp", "profile", cove.Invalid, cause) }

// muxCall says which sub-call of socketcall (102) or ipc (117) the call name
// is; both numbers are the same on all ABIs that have them.
func muxCall(name string) (mux, sub uint32, ok bool) {
	for i, list := range [...]string{
		"socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom" +
			" shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg",
		"semop semget semctl semtimedop - - - - - - msgsnd msgrcv msgget msgctl - - - - - - shmat shmdt shmget shmctl",
	} {
		if j := slices.Index(strings.Fields(list), name); j >= 0 && name != "-" {
			return [...]uint32{102, 117}[i], uint32(j + 1), true
		}
	}
	return 0, 0, false
}
