package native

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// message builds netlink messages, one after the other, in one buffer that is
// sent whole. Sequence numbers count the messages from 1.
type message struct {
	b     []byte
	seq   uint32
	start int // of the message being built
}

// begin starts a message with a fixed header after the netlink one.
func (m *message) begin(typ, flags uint16, header ...byte) {
	m.seq++
	m.start = len(m.b)
	m.b = binary.NativeEndian.AppendUint32(m.b, 0) // length, by end
	m.b = binary.NativeEndian.AppendUint16(m.b, typ)
	m.b = binary.NativeEndian.AppendUint16(m.b, flags|unix.NLM_F_REQUEST)
	m.b = binary.NativeEndian.AppendUint32(m.b, m.seq)
	m.b = binary.NativeEndian.AppendUint32(m.b, 0) // port: the kernel fills it in
	m.b = append(m.b, header...)
	m.pad()
}

// end completes the message.
func (m *message) end() {
	binary.NativeEndian.PutUint32(m.b[m.start:], uint32(len(m.b)-m.start))
}

// ack makes the last message be answered even if it succeeds.
func (m *message) ack() {
	flags := binary.NativeEndian.Uint16(m.b[m.start+6:])
	binary.NativeEndian.PutUint16(m.b[m.start+6:], flags|unix.NLM_F_ACK)
}

func (m *message) pad() {
	for len(m.b)%4 != 0 {
		m.b = append(m.b, 0)
	}
}

func (m *message) attr(typ uint16, data []byte) {
	m.b = binary.NativeEndian.AppendUint16(m.b, uint16(4+len(data)))
	m.b = binary.NativeEndian.AppendUint16(m.b, typ)
	m.b = append(m.b, data...)
	m.pad()
}

// str adds a string with its zero byte.
func (m *message) str(typ uint16, s string) {
	m.b = binary.NativeEndian.AppendUint16(m.b, uint16(5+len(s)))
	m.b = binary.NativeEndian.AppendUint16(m.b, typ)
	m.b = append(m.b, s...)
	m.b = append(m.b, 0)
	m.pad()
}

// u32 adds a number in the machine's byte order, as routing messages have it.
func (m *message) u32(typ uint16, v uint32) {
	m.attr(typ, binary.NativeEndian.AppendUint32(nil, v))
}

// be32 adds a number in network byte order, as firewall messages have it.
func (m *message) be32(typ uint16, v uint32) {
	m.b = binary.NativeEndian.AppendUint16(m.b, 8)
	m.b = binary.NativeEndian.AppendUint16(m.b, typ)
	m.b = binary.BigEndian.AppendUint32(m.b, v)
}

// nest opens a nested attribute; close completes it.
func (m *message) nest(typ uint16) int {
	at := len(m.b)
	m.b = binary.NativeEndian.AppendUint16(m.b, 0)
	m.b = binary.NativeEndian.AppendUint16(m.b, typ|unix.NLA_F_NESTED)
	return at
}

func (m *message) close(at int) {
	binary.NativeEndian.PutUint16(m.b[at:], uint16(len(m.b)-at))
}

// attributes calls f for each attribute in b, without the flag bits of its
// type.
func attributes(b []byte, f func(typ uint16, data []byte)) {
	for len(b) >= 4 {
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[4:size])
		b = b[min((size+3)&^3, len(b)):]
	}
}

// cstring is an attribute's string without its zero byte.
func cstring(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
