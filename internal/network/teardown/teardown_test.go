package teardown

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// message is one netlink message with a body of n octets.
func message(typ, flags uint16, seq uint32, n int) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(16+n))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = append(b, make([]byte, 4+n)...)
	return append(b, make([]byte, align(n)-n)...)
}

func TestWithout(t *testing.T) {
	begin, end := message(unix.NFNL_MSG_BATCH_BEGIN, 0, 1, 4), message(unix.NFNL_MSG_BATCH_END, 0, 5, 4)
	m := func(seq uint32, flags uint16) []byte { return message(0xa0e, flags, seq, int(seq)) }
	batch := bytes.Join([][]byte{begin, m(2, 0), m(3, 0), m(4, unix.NLM_F_ACK), end}, nil)
	for _, c := range []struct {
		gone []uint32
		want [][]byte
	}{
		{nil, [][]byte{begin, m(2, 0), m(3, 0), m(4, unix.NLM_F_ACK), end}},
		{[]uint32{2}, [][]byte{begin, m(3, 0), m(4, unix.NLM_F_ACK), end}},
		{[]uint32{4}, [][]byte{begin, m(2, 0), m(3, unix.NLM_F_ACK), end}},
		{[]uint32{3, 4}, [][]byte{begin, m(2, unix.NLM_F_ACK), end}},
		{[]uint32{2, 3, 4}, nil},
		{[]uint32{1, 5}, [][]byte{begin, m(2, 0), m(3, 0), m(4, unix.NLM_F_ACK), end}},
	} {
		gone := map[uint32]bool{}
		for _, s := range c.gone {
			gone[s] = true
		}
		if got := without(batch, gone); !bytes.Equal(got, bytes.Join(c.want, nil)) {
			t.Errorf("without %v: %x", c.gone, got)
		}
	}
}

// A run file is read back from disk: nonsense in it must not crash.
func FuzzWithout(f *testing.F) {
	f.Add(message(0xa0e, 0, 2, 9), uint32(2))
	f.Fuzz(func(t *testing.T, b []byte, seq uint32) {
		if len(without(b, map[uint32]bool{seq: true})) > len(b)+3 {
			t.Error("longer than before")
		}
	})
}

func TestEmpty(t *testing.T) {
	if err := Run(Teardown{}); err != nil {
		t.Error(err)
	}
}
