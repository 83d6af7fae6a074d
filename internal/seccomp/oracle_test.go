package seccomp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// oracle is a program linked to libseccomp, the reference.
func oracle(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("the comparison with libseccomp needs gcc")
	}
	path := filepath.Join(t.TempDir(), "oracle")
	out, err := exec.Command("gcc", "-O1", "-o", path, "testdata/oracle.c", "-lseccomp").CombinedOutput()
	if err != nil {
		if bytes.Contains(out, []byte("seccomp.h")) || bytes.Contains(out, []byte("-lseccomp")) {
			t.Skip("the comparison with libseccomp needs its headers (libseccomp-dev)")
		}
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// token is libseccomp's number of an ABI.
func token(a abi) uint32 {
	if a.arch == specs.ArchX32 {
		return a.audit &^ 0x80000000 // not an architecture of the kernel's
	}
	return a.audit
}

var opNumber = map[specs.LinuxSeccompOperator]int{
	specs.OpNotEqual: 1, specs.OpLessThan: 2, specs.OpLessEqual: 3, specs.OpEqualTo: 4,
	specs.OpGreaterEqual: 5, specs.OpGreaterThan: 6, specs.OpMaskedEqual: 7,
}

// reference compiles s with libseccomp, in the way of runc. The names that
// libseccomp does not know, or rules that it refuses, are given back.
func reference(t *testing.T, bin string, s *specs.LinuxSeccomp, arch string) (code machineCode, unknown, refused map[string]bool) {
	t.Helper()
	m, err := machineOf(arch)
	if err != nil {
		t.Fatal(err)
	}
	abis, err := m.pick(s.Architectures)
	if err != nil {
		t.Fatal(err)
	}
	var in strings.Builder
	fallback, err := retOf(s.DefaultAction, s.DefaultErrnoRet)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&in, "D %d\nN\n", fallback)
	for _, a := range abis {
		fmt.Fprintf(&in, "A %d\n", token(a))
	}
	for _, call := range s.Syscalls {
		ret, err := retOf(call.Action, call.ErrnoRet)
		if err != nil {
			t.Fatal(err)
		}
		if ret == fallback {
			continue
		}
		list := [][]specs.LinuxSeccompArg{call.Args}
		seen := map[uint]bool{}
		for _, a := range call.Args {
			if seen[a.Index] {
				list = nil
				for _, b := range call.Args {
					list = append(list, []specs.LinuxSeccompArg{b})
				}
				break
			}
			seen[a.Index] = true
		}
		for _, name := range call.Names {
			for _, args := range list {
				fmt.Fprintf(&in, "R %d %s %d", ret, name, len(args))
				for _, a := range args {
					fmt.Fprintf(&in, " %d %d %d %d", a.Index, opNumber[a.Op], a.Value, a.ValueTwo)
				}
				in.WriteByte('\n')
			}
		}
	}
	cmd := exec.Command(bin)
	cmd.Stdin = strings.NewReader(in.String())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("oracle: %v\n%s", err, &stderr)
	}
	unknown, refused = map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(stderr.String()) {
		what, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		map[string]map[string]bool{"unknown": unknown, "refused": refused}[what][name] = true
	}
	code = check(t, out, m.order)
	for i, in := range code.code {
		// Making a long program for the other byte order, libseccomp
		// 2.5.4 swaps the value of some returns twice.
		if in.Code == unix.BPF_RET|unix.BPF_K && m.order == byteOrder(binary.BigEndian) && !action(in.K) {
			code.code[i].K = bits.ReverseBytes32(in.K)
		}
	}
	return code, unknown, refused
}

// action says whether a filter may return ret.
func action(ret uint32) bool {
	switch ret & unix.SECCOMP_RET_ACTION_FULL {
	case unix.SECCOMP_RET_KILL_PROCESS, unix.SECCOMP_RET_ERRNO, unix.SECCOMP_RET_TRAP,
		unix.SECCOMP_RET_USER_NOTIF, unix.SECCOMP_RET_TRACE, unix.SECCOMP_RET_LOG, unix.SECCOMP_RET_ALLOW:
		return true
	}
	return ret == unix.SECCOMP_RET_KILL_THREAD
}

// without leaves the names out of s.
func without(s *specs.LinuxSeccomp, names map[string]bool) *specs.LinuxSeccomp {
	c := *s
	c.Syscalls = nil
	for _, call := range s.Syscalls {
		call.Names = slices.DeleteFunc(slices.Clone(call.Names), func(n string) bool { return names[n] })
		if len(call.Names) > 0 {
			c.Syscalls = append(c.Syscalls, call)
		}
	}
	return &c
}

// samples are the values of arguments worth trying with s: around each value
// that a condition names, with other high halves, and the extremes.
func samples(s *specs.LinuxSeccomp) []uint64 {
	set := map[uint64]bool{0: true, 1: true, 2: true, ^uint64(0): true, 1 << 31: true, 1 << 32: true, 1 << 63: true, 1<<32 - 1: true}
	for _, c := range s.Syscalls {
		for _, a := range c.Args {
			for _, v := range []uint64{a.Value, a.ValueTwo, a.Value & a.ValueTwo, a.Value | a.ValueTwo} {
				for _, w := range []uint64{v, v - 1, v + 1, v + 1<<32, v - 1<<32, v & 0xffffffff, v &^ 0xffffffff, ^v} {
					set[w] = true
				}
			}
		}
	}
	var list []uint64
	for v := range set {
		list = append(list, v)
	}
	slices.Sort(list)
	return list
}

// compare runs both programs over every number, ABI and sample. The intended
// differences are modelled here, from the profile and not from the compiler:
// newer calls get ENOSYS, and foreign ABIs kill the process.
func compare(t *testing.T, bin string, s *specs.LinuxSeccomp, arch string) {
	t.Helper()
	_, unknown, refused := reference(t, bin, s, arch)
	if len(refused) > 0 {
		t.Fatalf("libseccomp refuses rules on %v", refused)
	}
	s = without(s, unknown)
	ref, _, _ := reference(t, bin, s, arch)
	p, err := Compile(s, arch)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := machineOf(arch)
	ours := check(t, p.BPF, m.order)
	abis, _ := m.pick(s.Architectures)
	fallback, _ := retOf(s.DefaultAction, s.DefaultErrnoRet)

	conditional := map[string]bool{}
	highest := map[specs.Arch]uint32{}
	listed := map[uint32]bool{}
	for _, a := range abis {
		listed[a.audit] = true
		for _, call := range s.Syscalls {
			for _, name := range call.Names {
				conditional[name] = conditional[name] || len(call.Args) > 0
				if nr, ok := a.lookup(name); ok && (a.arch != specs.ArchARM || nr < armPrivate) {
					highest[a.arch] = max(highest[a.arch], nr)
				}
			}
		}
	}
	x32 := slices.ContainsFunc(abis, func(a abi) bool { return a.arch == specs.ArchX32 })

	want := func(d *data) uint32 {
		ret, _ := ref.run(d)
		if !listed[d.arch] {
			return unix.SECCOMP_RET_KILL_PROCESS
		}
		var a abi
		for _, b := range abis {
			if b.audit == d.arch && (b.arch == specs.ArchX32) == (d.nr >= x32Bit && x32 && d.arch == unix.AUDIT_ARCH_X86_64) {
				a = b
			}
		}
		if d.arch == unix.AUDIT_ARCH_X86_64 && d.nr >= x32Bit && !x32 && d.nr != ^uint32(0) {
			return unix.SECCOMP_RET_KILL_PROCESS
		}
		top, named := highest[a.arch]
		if named && !permissive(fallback) && (d.nr > top || a.arch == specs.ArchS390X && d.nr == 0) && (a.arch != specs.ArchARM || d.nr < armPrivate) {
			return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
		}
		return ret
	}
	bad, most, sum, runs := 0, 0, 0, 0
	try := func(d data) {
		got, steps := ours.run(&d)
		most, sum, runs = max(most, steps), sum+steps, runs+1
		if w := want(&d); got != w && bad < 10 {
			bad++
			t.Errorf("arch %#x nr %#x args %#x: %#x, libseccomp %#x", d.arch, d.nr, d.args, got, w)
		}
	}
	values := samples(s)
	nrs := func(yield func(uint32) bool) {
		for nr := range uint32(1100) {
			if !yield(nr) || !yield(nr|x32Bit) {
				return
			}
		}
		for _, nr := range []uint32{0xf0000, 0xf0001, 0xf0002, 0xf0005, 0xf0006, 0xf0007, x32Bit - 1, 1 << 31, 1<<31 | 1, 0xbfffffff, 0xfffffffe, 0xffffffff} {
			if !yield(nr) {
				return
			}
		}
	}
	for _, audit := range []uint32{abis[0].audit, abis[len(abis)-1].audit, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_MIPS, 0, ^uint32(0)} {
		// Which numbers have conditions at all decides how much is tried.
		hot := map[uint32]bool{}
		for _, a := range abis {
			if a.audit != audit {
				continue
			}
			for name := range conditional {
				if nr, ok := a.lookup(name); ok && conditional[name] {
					hot[nr] = true
				}
			}
		}
		for nr := range nrs {
			d := data{nr: nr, arch: audit}
			try(d)
			d.args = [6]uint64{^uint64(0), 16, 9, 40, 1 << 40, 3}
			try(d)
			if !hot[nr] {
				continue
			}
			for _, v := range values {
				for i := range 6 {
					d.args = [6]uint64{}
					d.args[i] = v
					try(d)
				}
				for range 40 {
					for i := range 6 {
						d.args[i] = values[rand.IntN(len(values))]
					}
					try(d)
				}
				for range min(len(values), 60) {
					w := values[rand.IntN(len(values))]
					d.args = [6]uint64{v, w, w, v, w, v}
					try(d)
				}
			}
		}
	}
	t.Logf("%d instructions (libseccomp %d), %d cases, at most %d steps, %.1f on average; unknown to libseccomp: %d names",
		len(ours.code), len(ref.code), runs, most, float64(sum)/float64(runs), len(unknown))
}

func capSets() map[string][]string {
	sets := map[string][]string{
		"none":   nil,
		"podman": {"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"},
	}
	single := []string{"CAP_AUDIT_WRITE", "CAP_BPF", "CAP_DAC_READ_SEARCH", "CAP_PERFMON", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_CHROOT", "CAP_SYS_MODULE",
		"CAP_SYS_NICE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG"}
	for _, c := range single {
		sets[c] = []string{c}
	}
	sets["all"] = single
	return sets
}

func TestDefaultAgainstLibseccomp(t *testing.T) {
	bin := oracle(t)
	for _, arch := range []string{"amd64", "386", "arm64", "arm", "ppc64le", "s390x", "riscv64"} {
		for name, caps := range capSets() {
			if arch != "amd64" && name != "podman" && name != "all" {
				continue
			}
			t.Run(arch+"/"+name, func(t *testing.T) {
				s, err := Default(Target{Arch: arch, Caps: caps})
				if err != nil {
					t.Fatal(err)
				}
				compare(t, bin, s, arch)
			})
		}
	}
}

func errno(n uint) *uint { return &n }

func call(action specs.LinuxSeccompAction, names string, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: strings.Fields(names), Action: action, Args: args}
}

func arg(i uint, op specs.LinuxSeccompOperator, v uint64, two ...uint64) specs.LinuxSeccompArg {
	a := specs.LinuxSeccompArg{Index: i, Op: op, Value: v}
	if len(two) > 0 {
		a.ValueTwo = two[0]
	}
	return a
}

var operators = []specs.LinuxSeccompOperator{
	specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual,
	specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpMaskedEqual,
}

// profiles are rule sets without contradictions, so that libseccomp's verdict
// does not depend on the layout of its tree.
func profiles() map[string]*specs.LinuxSeccomp {
	all := map[string]*specs.LinuxSeccomp{
		"deny": {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
			call(specs.ActErrno, "mkdir mkdirat"), call(specs.ActKillProcess, "reboot"), call(specs.ActKill, "swapon"),
			call(specs.ActKillThread, "swapoff"), call(specs.ActTrap, "acct"), call(specs.ActTrace, "ptrace"), call(specs.ActLog, "getpid"),
			{Names: []string{"chroot"}, Action: specs.ActErrno, ErrnoRet: errno(95)},
			{Names: []string{"getppid"}, Action: specs.ActTrace, ErrnoRet: errno(4242)}, call(specs.ActNotify, "mount umount2"),
		}},
		"allow": {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
			call(specs.ActAllow, "read write exit exit_group no_such_call clone3 set_tls semop socketcall ipc"),
		}},
		"kill by default": {DefaultAction: specs.ActKillProcess, Syscalls: []specs.LinuxSyscall{call(specs.ActAllow, "read openat2")}},
		"log by default":  {DefaultAction: specs.ActLog, Syscalls: []specs.LinuxSyscall{call(specs.ActErrno, "read openat2")}},
		"no rules":        {DefaultAction: specs.ActErrno},
		"redundant":       {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{call(specs.ActErrno, "read mount_setattr"), call(specs.ActAllow, "read write")}},
		"unconditional wins": {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
			call(specs.ActTrap, "read", arg(0, specs.OpEqualTo, 3)), call(specs.ActAllow, "read"), call(specs.ActTrap, "read"),
			call(specs.ActLog, "read", arg(1, specs.OpEqualTo, 3)),
		}},
		"anded": {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
			call(specs.ActAllow, "prctl", arg(0, specs.OpEqualTo, 4), arg(1, specs.OpNotEqual, 1<<33|5), arg(5, specs.OpLessThan, 1<<40)),
			call(specs.ActAllow, "fcntl", arg(2, specs.OpGreaterThan, 7<<32), arg(0, specs.OpMaskedEqual, 0xff00000000ff, 0x120000000034)),
		}},
		"same argument twice": {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
			call(specs.ActAllow, "prctl", arg(0, specs.OpEqualTo, 4), arg(0, specs.OpEqualTo, 77), arg(2, specs.OpEqualTo, 9)),
		}},
		"docker's clone": {DefaultAction: specs.ActErrno, DefaultErrnoRet: errno(1), Syscalls: []specs.LinuxSyscall{
			call(specs.ActAllow, "clone", arg(0, specs.OpMaskedEqual, 2114060288, 0)),
			{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: errno(38)},
			call(specs.ActAllow, "personality", arg(0, specs.OpEqualTo, 0xffffffff)), call(specs.ActAllow, "personality", arg(0, specs.OpEqualTo, 8)),
		}},
		"multiplexed": {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
			call(specs.ActAllow, "bind connect accept4 recvmmsg shmat msgget semctl"), call(specs.ActTrap, "listen semop"),
		}},
	}
	for _, op := range operators {
		for _, v := range []uint64{0, 5, 1<<32 - 1, 1 << 32, 0x123456789, 1<<63 | 1, ^uint64(0)} {
			two := uint64(0)
			if op == specs.OpMaskedEqual {
				two = v & 0xf0f0f0f0f0f0f0f0
			}
			all[fmt.Sprintf("%s %#x", op, v)] = &specs.LinuxSeccomp{
				DefaultAction: specs.ActTrap,
				Syscalls:      []specs.LinuxSyscall{call(specs.ActAllow, "prctl", arg(3, op, v, two))},
			}
		}
	}
	return all
}

func TestProfilesAgainstLibseccomp(t *testing.T) {
	bin := oracle(t)
	for name, s := range profiles() {
		for arch, archs := range map[string][][]specs.Arch{
			"amd64": {nil, {specs.ArchX86}, {specs.ArchX86_64, specs.ArchX86, specs.ArchX32}},
			"arm64": {{specs.ArchARM}}, "s390x": {nil}, "ppc64le": {nil},
		} {
			for _, list := range archs {
				t.Run(fmt.Sprint(name, arch, list), func(t *testing.T) {
					s := *s
					s.Architectures = list
					compare(t, bin, &s, arch)
				})
			}
		}
	}
}

// Where libseccomp refuses or depends on its tree, the most restrictive
// action wins.
func TestContradictions(t *testing.T) {
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
		call(specs.ActAllow, "prctl", arg(0, specs.OpNotEqual, 16)),
		call(specs.ActTrap, "prctl", arg(0, specs.OpEqualTo, 40)),
		call(specs.ActKillProcess, "prctl", arg(0, specs.OpEqualTo, 41)),
		call(specs.ActLog, "prctl", arg(0, specs.OpEqualTo, 41)),
	}}
	p, err := Compile(s, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	m, _ := machineOf("amd64")
	code := check(t, p.BPF, m.order)
	for v, want := range map[uint64]uint32{
		16: unix.SECCOMP_RET_ERRNO | 1, 17: unix.SECCOMP_RET_ALLOW, 40: unix.SECCOMP_RET_TRAP, 41: unix.SECCOMP_RET_KILL_PROCESS,
	} {
		if got, _ := code.run(&data{nr: unix.SYS_PRCTL, arch: unix.AUDIT_ARCH_X86_64, args: [6]uint64{v}}); got != want {
			t.Errorf("%d: %#x, want %#x", v, got, want)
		}
	}
}

// A rule with conditions on a multiplexed call must not open socketcall(2).
func TestMultiplexerStaysShut(t *testing.T) {
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86}, Syscalls: []specs.LinuxSyscall{
		call(specs.ActAllow, "socket", arg(0, specs.OpEqualTo, 1)), call(specs.ActTrap, "bind", arg(1, specs.OpEqualTo, 1)), call(specs.ActAllow, "listen mount_setattr"),
	}}
	p, err := Compile(s, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	m, _ := machineOf("amd64")
	code := check(t, p.BPF, m.order)
	for sub, want := range map[uint64]uint32{
		1: unix.SECCOMP_RET_ERRNO | 1, 2: unix.SECCOMP_RET_TRAP, 3: unix.SECCOMP_RET_ERRNO | 1, 4: unix.SECCOMP_RET_ALLOW,
	} {
		if got, _ := code.run(&data{nr: 102, arch: unix.AUDIT_ARCH_I386, args: [6]uint64{sub, 1, 1}}); got != want {
			t.Errorf("socketcall %d: %#x, want %#x", sub, got, want)
		}
	}
}
