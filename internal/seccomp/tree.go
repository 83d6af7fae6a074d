package seccomp

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// segment is a run of system call numbers, from start to the next segment's
// start, that get the same verdict.
type segment struct {
	start uint32
	verdict
}

// segmentsOf covers all numbers with the verdicts of a's calls. The first
// segment starts at 0, or for x32 at its bit.
func segmentsOf(a abi, rules []named, fallback uint32) []segment {
	verdicts, highest, ok := verdictsOf(a, rules, fallback)
	newer := fallback
	if ok && !permissive(fallback) {
		newer = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
		if a.arch == specs.ArchS390X {
			// Number 0 multiplexes the large numbers: what arrives
			// there is a call that the kernel does not know.
			verdicts[0] = verdict{action: newer}
		}
	} else {
		highest = 0
	}
	low := uint32(0)
	if a.arch == specs.ArchX32 {
		low = x32Bit
	}
	segs := []segment{{low, verdict{action: fallback}}}
	add := func(start uint32, v verdict) {
		if segs[len(segs)-1].start == start {
			segs = segs[:len(segs)-1]
		}
		if n := len(segs); n > 0 && segs[n-1].plain() && v.plain() && segs[n-1].action == v.action {
			return
		}
		segs = append(segs, segment{start, v})
	}
	after := func(nr uint32) verdict {
		if nr >= highest && (a.limit == 0 || nr < a.limit) {
			return verdict{action: newer}
		}
		return verdict{action: fallback}
	}
	edge := false // the end of a's own numbers is behind us
	for _, nr := range append(slices.Sorted(maps.Keys(verdicts)), ^uint32(0)) {
		if ok && nr > highest && segs[len(segs)-1].start <= highest {
			add(highest+1, after(highest))
		}
		if a.limit != 0 && nr >= a.limit && !edge {
			edge = true
			add(a.limit, verdict{action: beyond(a, fallback)})
		}
		if v, found := verdicts[nr]; found {
			add(nr, v)
			if nr != ^uint32(0) {
				add(nr+1, after(nr))
			}
		}
	}
	if a.arch == specs.ArchX86_64 {
		// -1 is what a tracer puts in place of a call that it skips; it
		// belongs to no ABI.
		add(^uint32(0), verdict{action: newer})
	}
	return segs
}

// beyond is the verdict on numbers from a's limit on: x32 calls when the
// profile does not have x32, ARM's private calls.
func beyond(a abi, fallback uint32) uint32 {
	if a.arch == specs.ArchX86_64 {
		return unix.SECCOMP_RET_KILL_PROCESS
	}
	return fallback
}

// builder writes a program from its end to its start, so that the targets of
// jumps, which only go forward, are always there already. A place is the
// number of instructions from it to the end.
type builder struct {
	order byteOrder
	code  []unix.SockFilter // reversed
	rets  map[uint32]int    // the last place that returns this value
	full  bool
}

// far is the longest way of a conditional jump.
const far = 255

func (b *builder) emit(code uint16, k uint32, jt, jf uint8) int {
	if len(b.code) >= unix.BPF_MAXINSNS {
		b.full = true
		return len(b.code)
	}
	b.code = append(b.code, unix.SockFilter{Code: code, Jt: jt, Jf: jf, K: k})
	return len(b.code)
}

// skip is the distance from the next instruction to be written to place.
func (b *builder) skip(place int) int { return len(b.code) - place }

// ret gives a place, near if possible, that returns value.
func (b *builder) ret(value uint32) int {
	if place, ok := b.rets[value]; ok && b.skip(place) < far-8 {
		return place
	}
	b.rets[value] = b.emit(unix.BPF_RET|unix.BPF_K, value, 0, 0)
	return b.rets[value]
}

// load reads 32 bits of seccomp_data at off, then goes on to the instruction
// written last.
func (b *builder) load(off uint32) int {
	return b.emit(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, off, 0, 0)
}

// reach gives a place within the way of a conditional jump, with room for
// one more instruction, that leads to place.
func (b *builder) reach(place int) int {
	if b.skip(place) < far || b.full {
		return place
	}
	if to := b.code[place-1]; to.Code == unix.BPF_RET|unix.BPF_K {
		return b.ret(to.K) // as short as a jump, and quicker
	}
	return b.emit(unix.BPF_JMP|unix.BPF_JA, uint32(b.skip(place)), 0, 0)
}

// jump compares the loaded value with k.
func (b *builder) jump(op uint16, k uint32, yes, no int) int {
	yes = b.reach(yes)
	no = b.reach(no)
	if b.full {
		return len(b.code)
	}
	return b.emit(unix.BPF_JMP|op|unix.BPF_K, k, uint8(b.skip(yes)), uint8(b.skip(no)))
}

func (b *builder) bytes() []byte {
	out := make([]byte, 0, len(b.code)*8)
	for _, in := range slices.Backward(b.code) {
		out = b.order.AppendUint16(out, in.Code)
		out = append(out, in.Jt, in.Jf)
		out = b.order.AppendUint32(out, in.K)
	}
	return out
}

// Offsets in struct seccomp_data.
const (
	offNr   = 0
	offArch = 4
	offArgs = 16
)

// dispatch writes the whole program: the architecture, then the number.
// ABIs that share an architecture (x86_64 and x32) share a tree.
func dispatch(b *builder, abis []abi, segments func(abi) []segment) {
	trees := make(map[uint32][]segment)
	var order []uint32
	for _, a := range abis {
		segs := segments(a)
		if below, ok := trees[a.audit]; ok {
			cut := slices.IndexFunc(below, func(s segment) bool { return s.start >= segs[0].start })
			if cut >= 0 {
				below = below[:cut]
			}
			segs = append(below, segs...)
		} else {
			order = append(order, a.audit)
		}
		trees[a.audit] = segs
	}
	next := b.ret(unix.SECCOMP_RET_KILL_PROCESS)
	for _, audit := range slices.Backward(order) {
		if root := tree(b, trees[audit]); root != len(b.code) {
			b.emit(unix.BPF_JMP|unix.BPF_JA, uint32(b.skip(root)), 0, 0)
		}
		next = b.jump(unix.BPF_JEQ, audit, b.load(offNr), next)
	}
	b.load(offArch)
}

// tree writes a binary search for the number among segs.
func tree(b *builder, segs []segment) int {
	if b.full {
		return len(b.code)
	}
	if len(segs) == 1 {
		return b.verdict(segs[0].verdict)
	}
	mid := len(segs) / 2
	right := tree(b, segs[mid:])
	left := tree(b, segs[:mid])
	return b.jump(unix.BPF_JGE, segs[mid].start, right, left)
}

// verdict writes the rules of one call. They overwrite the loaded number.
func (b *builder) verdict(v verdict) int {
	next := b.ret(v.action)
	for _, r := range slices.Backward(v.rules) {
		if b.full {
			break
		}
		place := b.ret(r.action)
		for _, c := range slices.Backward(r.conds) {
			place = b.compare(c, v.narrow, place, next)
		}
		next = place
	}
	return next
}

// compare writes one condition: half by half, as BPF has 32 bits.
func (b *builder) compare(c cond, narrow bool, yes, no int) int {
	switch c.op {
	case specs.OpNotEqual:
		c.op = specs.OpEqualTo
		yes, no = no, yes
	case specs.OpLessThan:
		c.op = specs.OpGreaterEqual
		yes, no = no, yes
	case specs.OpLessEqual:
		c.op = specs.OpGreaterThan
		yes, no = no, yes
	}
	lowAt := offArgs + 8*uint32(c.arg)
	highAt := lowAt + 4
	if b.order == byteOrder(binary.BigEndian) {
		lowAt, highAt = highAt, lowAt
	}
	low, high := uint32(c.value), uint32(c.value>>32)

	op := uint16(unix.BPF_JEQ)
	switch c.op {
	case specs.OpGreaterThan:
		op = unix.BPF_JGT
	case specs.OpGreaterEqual:
		op = unix.BPF_JGE
	case specs.OpMaskedEqual:
		place := yes
		if m := uint32(c.mask); m != 0 {
			place = b.masked(lowAt, m, low, place, no)
		}
		if m := uint32(c.mask >> 32); m != 0 && !narrow {
			place = b.masked(highAt, m, high, place, no)
		}
		return place
	}
	b.jump(op, low, yes, no)
	place := b.load(lowAt)
	if narrow {
		return place
	}
	place = b.jump(unix.BPF_JEQ, high, place, no)
	if op != unix.BPF_JEQ {
		b.jump(unix.BPF_JGT, high, yes, place)
	}
	return b.load(highAt)
}

// masked writes (data[off] & mask) == value.
func (b *builder) masked(off, mask, value uint32, yes, no int) int {
	b.jump(unix.BPF_JEQ, value, yes, no)
	if mask != ^uint32(0) {
		b.emit(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, mask, 0, 0)
	}
	return b.load(off)
}
