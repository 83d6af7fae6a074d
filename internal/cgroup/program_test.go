package cgroup

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// insn is one decoded instruction.
type insn struct {
	code     uint8
	dst, src uint8
	off      int16
	imm      int32
}

func decode(code []byte) []insn {
	var out []insn
	for ; len(code) >= insnSize; code = code[insnSize:] {
		out = append(out, insn{code[0], code[1] & 15, code[1] >> 4,
			int16(binary.LittleEndian.Uint16(code[2:])), int32(binary.LittleEndian.Uint32(code[4:]))})
	}
	return out
}

var opNames = map[uint8]string{
	unix.BPF_LDX | unix.BPF_W | unix.BPF_MEM:  "r%[1]d = *(u32 *)(r%[2]d + %[3]d)",
	unix.BPF_ALU | unix.BPF_MOV | unix.BPF_X:  "w%[1]d = w%[2]d",
	unix.BPF_ALU | unix.BPF_MOV | unix.BPF_K:  "w%[1]d = %[4]d",
	unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:  "w%[1]d &= %[4]d",
	unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K:  "w%[1]d >>= %[4]d",
	unix.BPF_JMP | unix.BPF_JNE | unix.BPF_K:  "if r%[1]d != %[4]d goto %[5]d",
	unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K: "if r%[1]d & %[4]d goto %[5]d",
	unix.BPF_JMP | unix.BPF_JA:                "goto %[5]d",
	unix.BPF_JMP | unix.BPF_EXIT:              "exit",
}

func listing(code []byte) string {
	var b strings.Builder
	for i, in := range decode(code) {
		format, ok := opNames[in.code]
		if !ok {
			format = "?"
		}
		line := fmt.Sprintf(format, in.dst, in.src, in.off, in.imm, i+1+int(in.off))
		line, _, _ = strings.Cut(line, "%!(EXTRA")
		fmt.Fprintf(&b, "%3d: %s\n", i, line)
	}
	return b.String()
}

// run interprets a program, as strictly as the verifier where that is cheap.
func run(t *testing.T, code []byte, access, kind, major, minor uint32) bool {
	t.Helper()
	var r [11]uint64
	var set [11]bool
	set[ctx] = true
	prog := decode(code)
	for pc := 0; ; pc++ {
		if pc < 0 || pc >= len(prog) {
			t.Fatal("ran off the end")
		}
		in := prog[pc]
		use := func(reg uint8) uint64 {
			if !set[reg] {
				t.Fatalf("%d: register %d is read before it is set", pc, reg)
			}
			return r[reg]
		}
		switch in.code {
		case unix.BPF_LDX | unix.BPF_W | unix.BPF_MEM:
			if in.src != ctx {
				t.Fatal("not from the context")
			}
			r[in.dst], set[in.dst] = uint64(map[int16]uint32{0: access<<16 | kind, 4: major, 8: minor}[in.off]), true
		case unix.BPF_ALU | unix.BPF_MOV | unix.BPF_X:
			r[in.dst], set[in.dst] = use(in.src), true
		case unix.BPF_ALU | unix.BPF_MOV | unix.BPF_K:
			r[in.dst], set[in.dst] = uint64(uint32(in.imm)), true
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			r[in.dst] = uint64(uint32(use(in.dst)) & uint32(in.imm))
		case unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K:
			r[in.dst] = uint64(uint32(use(in.dst)) >> uint32(in.imm))
		case unix.BPF_JMP | unix.BPF_JNE | unix.BPF_K:
			if use(in.dst) != uint64(int64(in.imm)) {
				pc += int(in.off)
			}
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			if use(in.dst)&uint64(int64(in.imm)) != 0 {
				pc += int(in.off)
			}
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.off)
		case unix.BPF_JMP | unix.BPF_EXIT:
			return use(result) == 1
		default:
			t.Fatalf("%d: unknown code %#x", pc, in.code)
		}
	}
}

// reachable checks what the verifier does: no dead code, no jump outside.
func reachable(t *testing.T, code []byte) {
	t.Helper()
	prog := decode(code)
	seen := make([]bool, len(prog))
	var visit func(pc int)
	visit = func(pc int) {
		if pc < 0 || pc >= len(prog) {
			t.Fatal("jump outside of the program")
		}
		if seen[pc] {
			return
		}
		seen[pc] = true
		switch prog[pc].code {
		case unix.BPF_JMP | unix.BPF_EXIT:
			return
		case unix.BPF_JMP | unix.BPF_JA:
			visit(pc + 1 + int(prog[pc].off))
			return
		case unix.BPF_JMP | unix.BPF_JNE | unix.BPF_K, unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			visit(pc + 1 + int(prog[pc].off))
		}
		visit(pc + 1)
	}
	visit(0)
	for i, s := range seen {
		if !s {
			t.Fatalf("instruction %d cannot be reached:\n%s", i, listing(code))
		}
	}
}

// allowed is the meaning of rules in the simplest words: for each kind of
// access the last rule that matches decides.
func allowed(rules []rule, access, kind, major, minor uint32) bool {
	for bit := uint32(1); bit <= 4; bit <<= 1 {
		if access&bit == 0 {
			continue
		}
		verdict := false
		for _, r := range rules {
			k := uint32(kindChar)
			if r.kind == 'b' {
				k = kindBlock
			}
			if (r.all() || k == kind) && (r.major == anything || uint32(r.major) == major) &&
				(r.minor == anything || uint32(r.minor) == minor) && uint32(accessMask(r.access))&bit != 0 {
				verdict = r.allow
			}
		}
		if !verdict {
			return false
		}
	}
	return true
}

func random(rnd *rand.Rand) []rule {
	accesses := []string{"r", "w", "m", "rw", "rm", "wm", "rwm"}
	num := func() int64 { return []int64{anything, 1, 2, 4000000000}[rnd.IntN(4)] }
	rules := []rule{{allow: rnd.IntN(2) == 0, kind: 'a', major: anything, minor: anything, access: "rwm"}}
	for range rnd.IntN(7) {
		rules = append(rules, rule{rnd.IntN(2) == 0, "bc"[rnd.IntN(2)], num(), num(), accesses[rnd.IntN(7)]})
	}
	return rules
}

// every calls each for all requests that the rules of random can tell apart.
func every(each func(access, kind, major, minor uint32)) {
	for access := uint32(1); access <= 7; access++ {
		for kind := uint32(1); kind <= 2; kind++ {
			for _, major := range []uint32{1, 2, 3} {
				for _, minor := range []uint32{1, 2, 3} {
					each(access, kind, major, minor)
				}
			}
		}
	}
}

func TestProgramMeaning(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		rules := random(rnd)
		code := program(rules)
		reachable(t, code)
		every(func(access, kind, major, minor uint32) {
			if got, want := run(t, code, access, kind, major, minor), allowed(rules, access, kind, major, minor); got != want {
				t.Fatalf("%v: access %d kind %d %d:%d: got %v\n%s", rules, access, kind, major, minor, got, listing(code))
			}
		})
	}
}

// kernelV1 is the devices controller of version 1: a default and exceptions.
type kernelV1 struct {
	allow      bool
	exceptions []rule
}

func (k *kernelV1) write(r rule) {
	if r.all() {
		k.allow, k.exceptions = r.allow, nil
		return
	}
	for i := range k.exceptions {
		e := &k.exceptions[i]
		if e.kind != r.kind || e.major != r.major || e.minor != r.minor {
			continue
		}
		mask := accessMask(e.access) | accessMask(r.access)
		if r.allow == k.allow {
			mask = accessMask(e.access) &^ accessMask(r.access)
		}
		e.access = ""
		for bit, letter := range map[int32]string{accessMake: "m", accessRead: "r", accessWrite: "w"} {
			if mask&bit != 0 {
				e.access += letter
			}
		}
		return
	}
	if r.allow != k.allow {
		k.exceptions = append(k.exceptions, r)
	}
}

// TestLegacyMeaning: what version 1 is given has the rules' meaning, or is
// refused. Requests for one kind of access: the kernel wants a single
// exception to grant all that is asked at once.
func TestLegacyMeaning(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	accepted := 0
	for range 5000 {
		rules := random(rnd)
		if !(&plan{}).exact(rules) {
			continue
		}
		accepted++
		k := kernelV1{}
		for _, r := range rules {
			k.write(r)
		}
		every(func(access, kind, major, minor uint32) {
			if access&(access-1) != 0 {
				return
			}
			hit := allowed(append([]rule{{kind: 'a', major: anything, minor: anything, access: "rwm"}},
				granted(k.exceptions)...), access, kind, major, minor)
			if got, want := hit != k.allow, allowed(rules, access, kind, major, minor); got != want {
				t.Fatalf("%v: access %d kind %d %d:%d: got %v", rules, access, kind, major, minor, got)
			}
		})
	}
	if accepted < 1000 {
		t.Errorf("only %d accepted", accepted)
	}
}

func granted(rules []rule) []rule {
	out := append([]rule(nil), rules...)
	for i := range out {
		out[i].allow = true
	}
	return out
}

func TestRules(t *testing.T) {
	for _, c := range []struct {
		devices []specs.LinuxDeviceCgroup
		want    string
	}{
		{nil, ""},
		{[]specs.LinuxDeviceCgroup{{Allow: true}}, "+a"},
		{[]specs.LinuxDeviceCgroup{{Allow: true, Type: "a", Major: p(int64(-1)), Minor: p(int64(-1)), Access: "mwr"}}, "+a"},
		{[]specs.LinuxDeviceCgroup{{Allow: true}, {Type: "b", Access: "mw"}}, "+a,-b *:* wm"},
		{[]specs.LinuxDeviceCgroup{{Type: "b"}, {Allow: true}, {Type: "c", Major: p(int64(4))}}, "+a,-c 4:* rwm"},
	} {
		pl := plan{r: &specs.LinuxResources{Devices: c.devices}}
		var got []string
		for _, r := range pl.rules() {
			sign := "-"
			if r.allow {
				sign = "+"
			}
			got = append(got, sign+r.String())
		}
		if s := strings.Join(got, ","); s != c.want || pl.err != nil {
			t.Errorf("%v: %q, %v", c.devices, s, pl.err)
		}
	}
	if n := len(DefaultDevices()); n != len(defaults()) {
		t.Error(n)
	}
	// Asked alone, a permission is one on top of nothing.
	pl := plan{r: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Major: p(int64(10))}}}}
	if r := pl.rules(); len(r) != 2+len(defaults()) || r[0].allow || r[1].String() != "c 10:* rwm" {
		t.Error(r)
	}
}
