package seccomp

import (
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// data is struct seccomp_data.
type data struct {
	nr, arch uint32
	args     [6]uint64
}

// machineCode is a program that has passed the kernel's checks.
type machineCode struct {
	code  []unix.SockFilter
	order binary.ByteOrder
}

// check applies the rules of the kernel's bpf_check_classic and
// seccomp_check_filter, for the instructions in use here.
func check(t testing.TB, raw []byte, order binary.ByteOrder) machineCode {
	t.Helper()
	if len(raw) == 0 || len(raw)%8 != 0 || len(raw)/8 > unix.BPF_MAXINSNS {
		t.Fatalf("program of %d bytes", len(raw))
	}
	m := machineCode{order: order}
	for ; len(raw) > 0; raw = raw[8:] {
		m.code = append(m.code, unix.SockFilter{Code: order.Uint16(raw), Jt: raw[2], Jf: raw[3], K: order.Uint32(raw[4:])})
	}
	n := len(m.code)
	for pc, in := range m.code {
		ok := true
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			ok = in.K%4 == 0 && in.K < 64
		case unix.BPF_JMP | unix.BPF_JA:
			ok = uint64(pc)+1+uint64(in.K) < uint64(n)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			ok = pc+1+int(in.Jt) < n && pc+1+int(in.Jf) < n
		case unix.BPF_RET | unix.BPF_K, unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
		default:
			ok = false
		}
		if !ok {
			t.Fatalf("instruction %d of %d is not valid: %+v", pc, n, in)
		}
	}
	if m.code[n-1].Code != unix.BPF_RET|unix.BPF_K {
		t.Fatalf("last instruction is no return: %+v", m.code[n-1])
	}
	return m
}

// run gives the verdict and the number of instructions it took.
func (m machineCode) run(d *data) (ret uint32, steps int) {
	var a uint32
	for pc := 0; ; pc++ {
		steps++
		in := m.code[pc]
		jump := func(yes bool) {
			if yes {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			switch {
			case in.K == 0:
				a = d.nr
			case in.K == 4:
				a = d.arch
			case in.K >= 16:
				v := d.args[(in.K-16)/8]
				if (in.K%8 == 4) == (m.order == binary.LittleEndian) {
					v >>= 32
				}
				a = uint32(v)
			default:
				panic(fmt.Sprint("load of ", in.K))
			}
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(a == in.K)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			jump(a > in.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(a >= in.K)
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= in.K
		case unix.BPF_RET | unix.BPF_K:
			return in.K, steps
		}
	}
}
