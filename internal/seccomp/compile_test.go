package seccomp

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	cove "github.com/cove-engine/cove"
)

func TestFlags(t *testing.T) {
	notify := []specs.LinuxSyscall{call(specs.ActNotify, "mount")}
	for _, c := range []struct {
		flags  string
		rules  []specs.LinuxSyscall
		want   uint
		notify bool
	}{
		{"", nil, 0, false},
		{"TSYNC", nil, 1, false},
		{"LOG SPEC_ALLOW", nil, 6, false},
		{"WAIT_KILLABLE_RECV", nil, 0, false},
		{"", notify, 8, true},
		{"WAIT_KILLABLE_RECV LOG", notify, 0x20 | 8 | 2, true},
		{"TSYNC", notify, 1 | 8 | 0x10, true},
	} {
		s := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: c.rules}
		for _, f := range strings.Fields(c.flags) {
			s.Flags = append(s.Flags, specs.LinuxSeccompFlag("SECCOMP_FILTER_FLAG_"+f))
		}
		p, err := Compile(s, "amd64")
		if err != nil || p.Flags != c.want || p.Notify != c.notify {
			t.Errorf("%q: flags %#x notify %v, %v; want %#x %v", c.flags, p.Flags, p.Notify, err, c.want, c.notify)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	many := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	for i := range uint64(1000) {
		many.Syscalls = append(many.Syscalls, call(specs.ActAllow, "prctl", arg(0, specs.OpEqualTo, i*i), arg(1, specs.OpLessThan, i)))
	}
	rule := func(c specs.LinuxSyscall) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{c}}
	}
	for name, c := range map[string]struct {
		s    *specs.LinuxSeccomp
		arch string
		kind cove.Kind
		text string
	}{
		"nil":            {nil, "amd64", cove.Invalid, "empty"},
		"no default":     {&specs.LinuxSeccomp{}, "amd64", cove.Invalid, "defaultAction"},
		"machine":        {rule(call(specs.ActAllow, "read")), "mips", cove.Unsupported, "mips"},
		"architecture":   {&specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{"SCMP_ARCH_Z80"}}, "amd64", cove.Invalid, "Z80"},
		"architecture 2": {&specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{""}}, "amd64", cove.Invalid, `""`},
		"default notify": {&specs.LinuxSeccomp{DefaultAction: specs.ActNotify}, "amd64", cove.Invalid, "NOTIFY"},
		"default errno":  {&specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: errno(4096)}, "amd64", cove.Invalid, "4096"},
		"write notify":   {rule(call(specs.ActNotify, "write")), "amd64", cove.Invalid, "write"},
		"action":         {rule(call("SCMP_ACT_MAYBE", "read")), "amd64", cove.Invalid, "MAYBE"},
		"errno of allow": {rule(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActAllow, ErrnoRet: errno(1)}), "amd64", cove.Invalid, "errnoRet"},
		"no names":       {rule(call(specs.ActAllow, "")), "amd64", cove.Invalid, "names"},
		"empty name":     {rule(specs.LinuxSyscall{Names: []string{""}, Action: specs.ActAllow}), "amd64", cove.Invalid, "name"},
		"index":          {rule(call(specs.ActAllow, "read", arg(6, specs.OpEqualTo, 0))), "amd64", cove.Invalid, "index 6"},
		"operator":       {rule(call(specs.ActAllow, "read", arg(0, "SCMP_CMP_ISH", 0))), "amd64", cove.Invalid, "ISH"},
		"flag":           {&specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Flags: []specs.LinuxSeccompFlag{"FAST"}}, "amd64", cove.Invalid, "FAST"},
		"too long":       {many, "amd64", cove.Unsupported, "4096"},
	} {
		p, err := Compile(c.s, c.arch)
		if !cove.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) || p.BPF != nil {
			t.Errorf("%s: %v (kind %d), %d bytes", name, err, cove.KindOf(err), len(p.BPF))
		}
	}
}

// Long jumps: a program close to the limit still gives the right verdicts.
func TestLongProgram(t *testing.T) {
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	for i := range uint(550) {
		s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{
			Names: []string{"prctl"}, Action: specs.ActTrace, ErrnoRet: errno(1000 + i),
			Args: []specs.LinuxSeccompArg{arg(0, specs.OpEqualTo, uint64(i)<<32|uint64(i))},
		})
	}
	top := uint32(0)
	for i, n := range numbersAMD64 {
		if n.name != "prctl" && i%2 == 0 {
			top = max(top, n.nr)
			s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{Names: []string{n.name}, Action: specs.ActErrno, ErrnoRet: errno(2 + uint(i))})
		}
	}
	p, err := Compile(s, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d instructions", len(p.BPF)/8)
	code := check(t, p.BPF, binary.LittleEndian)
	for i := range uint64(560) {
		want := uint32(unix.SECCOMP_RET_TRACE | 1000 + i)
		if i >= 550 {
			want = unix.SECCOMP_RET_ERRNO | 1
		}
		if got, _ := code.run(&data{nr: unix.SYS_PRCTL, arch: unix.AUDIT_ARCH_X86_64, args: [6]uint64{i<<32 | i}}); got != want {
			t.Fatalf("prctl %d: %#x, want %#x", i, got, want)
		}
	}
	for i, n := range numbersAMD64 {
		if n.name == "prctl" {
			continue
		}
		want := uint32(unix.SECCOMP_RET_ERRNO | 1)
		if i%2 == 0 {
			want = unix.SECCOMP_RET_ERRNO | 2 + uint32(i)
		}
		if n.nr > top {
			want = unix.SECCOMP_RET_ERRNO | 38
		}
		if got, _ := code.run(&data{nr: n.nr, arch: unix.AUDIT_ARCH_X86_64}); got != want {
			t.Fatalf("%s: %#x, want %#x", n.name, got, want)
		}
	}
}

// holds is what a condition means.
func holds(a specs.LinuxSeccompArg, v uint64, narrow bool) bool {
	x, y := a.Value, a.ValueTwo
	if narrow {
		x, y, v = x&0xffffffff, y&0xffffffff, v&0xffffffff
	}
	switch a.Op {
	case specs.OpEqualTo:
		return v == x
	case specs.OpNotEqual:
		return v != x
	case specs.OpLessThan:
		return v < x
	case specs.OpLessEqual:
		return v <= x
	case specs.OpGreaterThan:
		return v > x
	case specs.OpGreaterEqual:
		return v >= x
	}
	return v&x == y&x
}

// Random rule sets, contradictions and all, against the package comment's
// words.
func TestRandom(t *testing.T) {
	names := []string{"read", "write", "prctl", "openat2", "getpid", "mount_setattr", "mmap2", "nonsense"}
	actions := []specs.LinuxSeccompAction{specs.ActKillProcess, specs.ActKillThread, specs.ActTrap, specs.ActErrno, specs.ActNotify, specs.ActTrace, specs.ActLog, specs.ActAllow}
	values := []uint64{0, 1, 2, 1 << 31, 1<<32 - 1, 1 << 32, 1<<32 + 1, 1 << 63, ^uint64(0)}
	pick := func() uint64 { return values[rand.IntN(len(values))] }
	for round := range 400 {
		s := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86}}
		for range rand.IntN(40) {
			c := call(actions[rand.IntN(len(actions))], names[2+rand.IntN(len(names)-2)])
			for _, i := range rand.Perm(6)[:1+rand.IntN(3)] {
				c.Args = append(c.Args, arg(uint(i), operators[rand.IntN(len(operators))], pick(), pick()))
			}
			s.Syscalls = append(s.Syscalls, c)
		}
		p, err := Compile(s, "amd64")
		if err != nil {
			t.Fatal(err)
		}
		code := check(t, p.BPF, binary.LittleEndian)
		m, _ := machineOf("amd64")
		for _, a := range m.abis[:2] {
			for _, name := range names {
				nr, ok := a.lookup(name)
				if !ok {
					continue
				}
				for range 60 {
					d := data{nr: nr, arch: a.audit, args: [6]uint64{pick(), pick(), pick(), pick(), pick(), pick()}}
					best := len(actions)
					top := uint32(0)
					for _, c := range s.Syscalls {
						n, ok := a.lookup(c.Names[0])
						if ok {
							top = max(top, n)
						}
						if ok && n == nr && c.Action != specs.ActErrno && !slices.ContainsFunc(c.Args, func(x specs.LinuxSeccompArg) bool { return !holds(x, d.args[x.Index], a.narrow) }) {
							best = min(best, slices.Index(actions, c.Action))
						}
					}
					want, _ := retOf(specs.ActErrno, nil)
					if top > 0 && nr > top {
						want = unix.SECCOMP_RET_ERRNO | 38
					} else if best < len(actions) {
						want, _ = retOf(actions[best], nil)
					}
					if got, _ := code.run(&d); got != want {
						t.Fatalf("round %d: %s on %s %#x: %#x, want %#x\n%+v", round, name, a.arch, d.args, got, want, s.Syscalls)
					}
				}
			}
		}
	}
}

// The tables are sorted, without doubles, and the kernel's.
func TestTables(t *testing.T) {
	for _, arch := range []string{"amd64", "386", "arm64", "arm", "riscv64", "ppc64le", "s390x"} {
		m, err := machineOf(arch)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range m.abis {
			if !slices.IsSortedFunc(a.table, func(x, y number) int { return strings.Compare(x.name, y.name) }) {
				t.Errorf("%s: not sorted", a.arch)
			}
			byNr := map[uint32]string{}
			for _, n := range a.table {
				if byNr[n.nr] != "" {
					t.Errorf("%s: %s and %s are both %d", a.arch, n.name, byNr[n.nr], n.nr)
				}
				byNr[n.nr] = n.name
			}
		}
	}
	for file, table := range map[string][]number{"unistd_64.h": numbersAMD64[:], "unistd_32.h": numbers386[:], "unistd_x32.h": numbersX32[:]} {
		f, err := os.Open("/usr/include/x86_64-linux-gnu/asm/" + file)
		if err != nil {
			t.Skip("needs the kernel's headers: ", err)
		}
		defer f.Close()
		define := regexp.MustCompile(`^#define __NR_(\w+) (\(__X32_SYSCALL_BIT \+ )?(\d+)`)
		seen := 0
		for lines := bufio.NewScanner(f); lines.Scan(); {
			m := define.FindStringSubmatch(lines.Text())
			if m == nil {
				continue
			}
			nr, _ := strconv.ParseUint(m[3], 10, 32)
			if m[2] != "" {
				nr |= x32Bit
			}
			a := abi{table: table}
			if got, ok := a.lookup(m[1]); !ok || got != uint32(nr) {
				t.Errorf("%s: %s is %d, here %d %v", file, m[1], nr, got, ok)
			}
			seen++
		}
		if seen < 300 {
			t.Errorf("%s: only %d calls", file, seen)
		}
	}
}

// TestLive loads filters into children and lets them try.
func TestLive(t *testing.T) {
	switch os.Getenv("SECCOMP_LIVE") {
	case "":
	case "default":
		liveDefault()
	case "notify":
		liveNotify()
	}
	if _, err := machineOf(runtime.GOARCH); err != nil {
		t.Skip(err)
	}
	for _, what := range []string{"default", "notify"} {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestLive$")
		cmd.Env = append(os.Environ(), "SECCOMP_LIVE="+what)
		out, err := cmd.CombinedOutput()
		if string(out) == "no seccomp\n" {
			t.Skip("this kernel, or a filter above us, does not let us load one")
		}
		if err != nil || string(out) != "good\n" {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
	}
}

func install(p Program) uintptr {
	prog := unix.SockFprog{Len: uint16(len(p.BPF) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(&p.BPF[0]))}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		fmt.Println("no seccomp")
		os.Exit(0)
	}
	r, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(p.Flags), uintptr(unsafe.Pointer(&prog)))
	if e == unix.EPERM || e == unix.ENOSYS {
		fmt.Println("no seccomp")
		os.Exit(0)
	} else if e != 0 {
		fmt.Println("seccomp:", e)
		os.Exit(1)
	}
	return r
}

func liveDefault() {
	runtime.LockOSThread()
	s, err := Default(Target{Arch: runtime.GOARCH})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	s.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow}
	p, err := Compile(s, runtime.GOARCH)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	install(p)
	for _, c := range []struct {
		name    string
		nr      uintptr
		a, b, c uintptr
		want    unix.Errno
	}{
		{"getpid", unix.SYS_GETPID, 0, 0, 0, 0},
		{"socket unix", unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM | unix.SOCK_CLOEXEC, 0, 0},
		{"socket vsock", unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, 0, unix.EPERM},
		{"socket audit", unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT, unix.EINVAL},
		{"chroot", unix.SYS_CHROOT, 0, 0, 0, unix.EPERM},
		{"swapoff", unix.SYS_SWAPOFF, 0, 0, 0, unix.EPERM},
		{"personality", unix.SYS_PERSONALITY, 0xffffffff, 0, 0, 0},
		{"personality 1", unix.SYS_PERSONALITY, 1, 0, 0, unix.ENOSYS},
		{"newer", 999, 0, 0, 0, unix.ENOSYS},
	} {
		if _, _, e := unix.RawSyscall(c.nr, c.a, c.b, c.c); e != c.want {
			fmt.Printf("%s: %v, want %v\n", c.name, e, c.want)
			os.Exit(1)
		}
	}
	fmt.Println("good")
	os.Exit(0)
}

func liveNotify() {
	runtime.LockOSThread()
	p, err := Compile(&specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{call(specs.ActNotify, "chroot")},
		Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC", specs.LinuxSeccompFlagWaitKillableRecv},
	}, runtime.GOARCH)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fd := install(p)
	if link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil || !strings.Contains(link, "seccomp") {
		fmt.Println("no listener:", link, err)
		os.Exit(1)
	}
	fmt.Println("good")
	os.Exit(0)
}
