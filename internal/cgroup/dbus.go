package cgroup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What systemd needs to be asked for one unit: a method call and its answer in
// the D-Bus protocol, without a bus between. (The specification is
// dbus.freedesktop.org/doc/dbus-specification.html.)

// encoder marshals in the protocol's little-endian form. Alignment counts from
// the beginning of the message or of its body, which is aligned to 8.
type encoder struct{ bytes.Buffer }

func (w *encoder) align(n int) {
	for w.Len()%n != 0 {
		w.WriteByte(0)
	}
}

func (w *encoder) uint32(n uint32) {
	w.align(4)
	w.Write(binary.LittleEndian.AppendUint32(nil, n))
}

func (w *encoder) string(s string) {
	w.uint32(uint32(len(s)))
	w.WriteString(s)
	w.WriteByte(0)
}

func (w *encoder) signature(s string) {
	w.WriteByte(byte(len(s)))
	w.WriteString(s)
	w.WriteByte(0)
}

// array writes what each writes behind its length. Elements are structures.
func (w *encoder) array(each func()) {
	w.uint32(0)
	at := w.Len()
	w.align(8)
	first := w.Len()
	each()
	binary.LittleEndian.PutUint32(w.Bytes()[at-4:], uint32(w.Len()-first))
}

// property writes a structure (sv).
func (w *encoder) property(name string, value any) {
	w.align(8)
	w.string(name)
	switch v := value.(type) {
	case string:
		w.signature("s")
		w.string(v)
	case bool:
		n := uint32(0)
		if v {
			n = 1
		}
		w.signature("b")
		w.uint32(n)
	case uint64:
		w.signature("t")
		w.align(8)
		w.Write(binary.LittleEndian.AppendUint64(nil, v))
	case []uint32:
		w.signature("au")
		w.uint32(uint32(4 * len(v)))
		for _, n := range v {
			w.uint32(n)
		}
	}
}

// Message types and header fields.
const (
	methodCall, methodReturn, methodError, signal                           = 1, 2, 3, 4
	fieldPath, fieldInterface, fieldMember, fieldError, fieldReply, fieldTo = 1, 2, 3, 4, 5, 6
	fieldSignature                                                          = 8
)

// call is a message with one serial number, 1: the connection is for it alone.
func call(to, object, iface, member, signature string, body []byte) []byte {
	var w encoder
	w.Write([]byte{'l', methodCall, 0, 1})
	w.uint32(uint32(len(body)))
	w.uint32(1)
	w.array(func() {
		for _, f := range []struct {
			code        byte
			kind, value string
		}{{fieldPath, "o", object}, {fieldInterface, "s", iface}, {fieldMember, "s", member}, {fieldTo, "s", to}} {
			w.align(8)
			w.WriteByte(f.code)
			w.signature(f.kind)
			w.string(f.value)
		}
		w.align(8)
		w.WriteByte(fieldSignature)
		w.signature("g")
		w.signature(signature)
	})
	w.align(8)
	w.Write(body)
	return w.Bytes()
}

// answer is a received message.
type answer struct {
	kind    byte
	reply   uint32
	err     string // name of the error
	member  string
	strings []string // strings and object paths of the body, up to the first of another type but u
}

// decoder takes apart what an honest peer (process 1) sends. Anything else
// makes it bad; it never reads beyond the message.
type decoder struct {
	data  []byte
	at    int
	order binary.ByteOrder
	bad   bool
}

func (r *decoder) bytes(align, n int) []byte {
	r.at = (r.at + align - 1) / align * align
	if r.bad || n < 0 || r.at > len(r.data) || len(r.data)-r.at < n {
		r.bad = true
		return make([]byte, min(max(n, 4), 8))
	}
	b := r.data[r.at : r.at+n]
	r.at += n
	return b
}

func (r *decoder) uint32() uint32 { return r.order.Uint32(r.bytes(4, 4)) }

func (r *decoder) string() string {
	s := string(r.bytes(1, int(r.uint32())))
	r.bytes(1, 1)
	return s
}

func (r *decoder) signature() string {
	s := string(r.bytes(1, int(r.bytes(1, 1)[0])))
	r.bytes(1, 1)
	return s
}

// mostMessage is more than any that concerns us has.
const mostMessage = 1 << 20

var errProtocol = errors.New("an answer that is not D-Bus")

// connection speaks with systemd's own socket, which also tells every job's end: all
// that is read together has a limit of time.
type connection struct {
	fd     int
	limit  time.Duration
	end    time.Time
	buffer []byte
}

func dial(path string, limit time.Duration) (*connection, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	tv := unix.NsecToTimeval(int64(limit))
	if err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv); err == nil {
		err = again(func() error { return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) })
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &connection{fd: fd, limit: limit, end: time.Now().Add(limit)}, nil
}

func (c *connection) close() { _ = unix.Close(c.fd) }

// send authenticates by the socket's own credentials and sends the message in
// one: systemd reads them one after the other.
func (c *connection) send(message []byte) error {
	data := append([]byte("\x00AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"), message...)
	for len(data) > 0 {
		var n int
		if err := again(func() (err error) { n, err = unix.SendmsgN(c.fd, data, nil, nil, unix.MSG_NOSIGNAL); return err }); err != nil {
			return err
		}
		data = data[n:]
	}
	for _, word := range []string{"DATA", "OK "} {
		line, err := c.line()
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, word) {
			return fmt.Errorf("systemd does not let us in: %q", line)
		}
	}
	return nil
}

// fill reads until the buffer has n bytes.
func (c *connection) fill(n int) error {
	for len(c.buffer) < n {
		var b [4096]byte
		var got int
		err := again(func() (err error) {
			tv := unix.NsecToTimeval(max(time.Until(c.end), time.Millisecond).Nanoseconds()) // 0 would be no limit
			if err = unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err == nil {
				got, err = unix.Read(c.fd, b[:])
			}
			return err
		})
		if err == unix.EAGAIN || err == nil && time.Now().After(c.end) {
			err = fmt.Errorf("systemd has not done it after %v", c.limit)
		}
		if err != nil {
			return err
		}
		if got == 0 {
			return errors.New("systemd has closed the connection")
		}
		c.buffer = append(c.buffer, b[:got]...)
	}
	return nil
}

func (c *connection) take(n int) []byte {
	b := c.buffer[:n]
	c.buffer = c.buffer[n:]
	return b
}

func (c *connection) line() (string, error) {
	for {
		if i := bytes.Index(c.buffer, []byte("\r\n")); i >= 0 {
			return string(c.take(i + 2)[:i]), nil
		}
		if len(c.buffer) > 4096 {
			return "", errProtocol
		}
		if err := c.fill(len(c.buffer) + 1); err != nil {
			return "", err
		}
	}
}

// receive gives the next message.
func (c *connection) receive() (answer, error) {
	if err := c.fill(16); err != nil {
		return answer{}, err
	}
	r := decoder{order: binary.LittleEndian}
	if c.buffer[0] == 'B' {
		r.order = binary.BigEndian
	}
	body, fields := r.order.Uint32(c.buffer[4:]), r.order.Uint32(c.buffer[12:])
	if body > mostMessage || fields > mostMessage {
		return answer{}, errProtocol
	}
	head := (16 + int(fields) + 7) / 8 * 8
	if err := c.fill(head + int(body)); err != nil {
		return answer{}, err
	}
	r.data = c.take(head + int(body))
	a := answer{kind: r.data[1]}
	signature := ""
	for r.at = 16; r.at < 16+int(fields) && !r.bad; {
		code := r.bytes(8, 1)[0]
		switch kind := r.signature(); kind {
		case "u":
			if n := r.uint32(); code == fieldReply {
				a.reply = n
			}
		case "g":
			if s := r.signature(); code == fieldSignature {
				signature = s
			}
		case "s", "o":
			switch s := r.string(); code {
			case fieldError:
				a.err = s
			case fieldMember:
				a.member = s
			}
		default:
			return answer{}, errProtocol
		}
	}
	r.at = head
	for _, kind := range signature {
		switch kind {
		case 's', 'o':
			a.strings = append(a.strings, r.string())
			continue
		case 'u':
			r.uint32()
			continue
		}
		break
	}
	if r.bad {
		return answer{}, errProtocol
	}
	return a, nil
}
