package cgroup

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"
)

// What the kernel tells a device program: struct bpf_cgroup_dev_ctx of
// linux/bpf.h, three 32-bit words, the first being access << 16 | kind.
const (
	ctxAccess = 0
	ctxMajor  = 4
	ctxMinor  = 8

	kindBlock = 1
	kindChar  = 2

	accessMake  = 1
	accessRead  = 2
	accessWrite = 4
	accessAll   = accessMake | accessRead | accessWrite
)

// Registers of the program.
const (
	result = 0 // 1 allows
	ctx    = 1
	kindOf = 2
	wanted = 3 // access that no rule has decided about yet
	major  = 4
	minor  = 5
)

// program compiles rules to an array of struct bpf_insn. The last rule that
// matches decides about each kind of access by itself, so the rules are tried
// from the last to the first: a denial of anything still wanted ends it, a
// permission takes away from what is wanted until nothing is left. rules[0]
// decides about everything else, see [plan.rules].
func program(rules []rule) []byte {
	var a assembler
	a.emit(unix.BPF_LDX|unix.BPF_W|unix.BPF_MEM, kindOf, ctx, ctxAccess, 0)
	a.emit(unix.BPF_ALU|unix.BPF_MOV|unix.BPF_X, wanted, kindOf, 0, 0)
	a.emit(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, kindOf, 0, 0, 0xffff)
	a.emit(unix.BPF_ALU|unix.BPF_RSH|unix.BPF_K, wanted, 0, 0, 16)
	a.emit(unix.BPF_LDX|unix.BPF_W|unix.BPF_MEM, major, ctx, ctxMajor, 0)
	a.emit(unix.BPF_LDX|unix.BPF_W|unix.BPF_MEM, minor, ctx, ctxMinor, 0)
	for i := len(rules) - 1; i > 0; i-- {
		a.rule(rules[i])
	}
	a.verdict(rules[0].allow)
	return a.code
}

// insnSize is that of struct bpf_insn: code, registers, offset, immediate.
const insnSize = 8

type assembler struct{ code []byte }

func (a *assembler) emit(code uint8, dst, src uint8, off int16, imm int32) {
	regs := dst | src<<4
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		regs = dst<<4 | src // bit fields go the other way round
	}
	a.code = append(a.code, code, regs)
	a.code = binary.NativeEndian.AppendUint16(a.code, uint16(off))
	a.code = binary.NativeEndian.AppendUint32(a.code, uint32(imm))
}

func (a *assembler) verdict(allow bool) {
	v := int32(0)
	if allow {
		v = 1
	}
	a.emit(unix.BPF_ALU|unix.BPF_MOV|unix.BPF_K, result, 0, 0, v)
	a.emit(unix.BPF_JMP|unix.BPF_EXIT, 0, 0, 0, 0)
}

// rule emits one rule. Every jump leads to the end of it, and there is always
// at least one: the verifier refuses code that cannot be reached.
func (a *assembler) rule(r rule) {
	var jumps []int // instructions that jump to the end
	jump := func(code uint8, dst uint8, imm int32) {
		jumps = append(jumps, len(a.code))
		a.emit(unix.BPF_JMP|code|unix.BPF_K, dst, 0, 0, imm)
	}
	k := int32(kindChar)
	if r.kind == 'b' {
		k = kindBlock
	}
	jump(unix.BPF_JNE, kindOf, k)
	// The kernel's numbers have 12 and 20 bits, so that an immediate with a
	// sign never matches by mistake.
	if r.major != anything {
		jump(unix.BPF_JNE, major, int32(r.major))
	}
	if r.minor != anything {
		jump(unix.BPF_JNE, minor, int32(r.minor))
	}
	mask := accessMask(r.access)
	switch {
	case mask == accessAll: // something is still wanted, or it had ended
	case r.allow:
		a.emit(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, wanted, 0, 0, accessAll&^mask)
		jump(unix.BPF_JNE, wanted, 0)
	default:
		a.emit(unix.BPF_JMP|unix.BPF_JSET|unix.BPF_K, wanted, 0, 1, mask)
		jump(unix.BPF_JA, 0, 0)
	}
	a.verdict(r.allow)
	for _, at := range jumps {
		off := (len(a.code)-at)/insnSize - 1
		binary.NativeEndian.PutUint16(a.code[at+2:], uint16(off))
	}
}

func accessMask(access string) int32 {
	var mask int32
	for _, m := range []struct {
		letter string
		bit    int32
	}{{"m", accessMake}, {"r", accessRead}, {"w", accessWrite}} {
		if strings.Contains(access, m.letter) {
			mask |= m.bit
		}
	}
	return mask
}
