// Package journal writes entries to systemd-journald in its native protocol,
// https://systemd.io/JOURNAL_NATIVE_PROTOCOL: one datagram each, or a sealed
// file where it is too large for one. Monitors use it, so it is the standard
// library's and the kernel's only.
package journal

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// socketPath is where journald listens.
const socketPath = "/run/systemd/journal/socket"

// Present tells whether there is a journal to write to.
func Present() bool { return unix.Access(socketPath, unix.W_OK) == nil }

// Priorities of entries, syslog(3).
const (
	Error = "3"
	Info  = "6"
)

// Entry is one entry in the making. Names of fields are upper case letters,
// digits and underscores.
type Entry struct{ buf []byte }

// Reset makes it an empty one.
func (e *Entry) Reset() { e.buf = e.buf[:0] }

// Add adds a field.
func (e *Entry) Add(name string, value []byte) {
	e.buf = append(e.buf, name...)
	if bytes.IndexByte(value, '\n') < 0 {
		e.buf = append(e.buf, '=')
	} else {
		e.buf = append(e.buf, '\n')
		e.buf = binary.LittleEndian.AppendUint64(e.buf, uint64(len(value)))
	}
	e.buf = append(append(e.buf, value...), '\n')
}

// AddString is Add for a value that is text; an empty one is left out.
func (e *Entry) AddString(name, value string) {
	if value == "" {
		return
	}
	if strings.IndexByte(value, '\n') >= 0 {
		e.Add(name, []byte(value))
		return
	}
	e.buf = append(append(append(append(e.buf, name...), '='), value...), '\n')
}

// Socket is a connection to journald. The zero value is ready for use.
type Socket struct {
	fd int // one more than the descriptor, so that 0 is none
	// stuck says that journald has kept us waiting in vain: as long as it
	// takes nothing, nobody waits for it again.
	stuck bool
}

// patience is how long journald may take to make room for an entry. Whoever
// writes has better things to do.
const patience = time.Second

// Send sends the entry. It is lost if journald does not take it.
func (s *Socket) Send(e *Entry) error {
	err := s.send(e.buf)
	if err == unix.ECONNREFUSED || err == unix.ENOTCONN || err == unix.EPIPE || err == unix.ECONNRESET {
		s.Close() // it was started anew
		err = s.send(e.buf)
	}
	if err != nil {
		return os.NewSyscallError("write to journal", err)
	}
	return nil
}

// Close closes the connection; the next Send makes another one.
func (s *Socket) Close() {
	if s.fd > 0 {
		_ = unix.Close(s.fd - 1)
		s.fd = 0
	}
}

func (s *Socket) send(entry []byte) error {
	if s.fd == 0 {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socketPath}); err != nil {
			_ = unix.Close(fd)
			return err
		}
		s.fd = fd + 1
	}
	err := s.offer(entry, nil)
	if err == unix.EMSGSIZE || err == unix.ENOBUFS {
		return s.sendFile(entry)
	}
	return err
}

// offer sends one datagram, and waits for room if it has to.
func (s *Socket) offer(data, rights []byte) error {
	deadline := time.Now().Add(patience)
	for {
		err := unix.Sendmsg(s.fd-1, data, rights, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		switch err {
		case nil:
			s.stuck = false
			return nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
		default:
			return err
		}
		left := time.Until(deadline)
		if s.stuck || left <= 0 {
			s.stuck = true
			return err
		}
		poll := []unix.PollFd{{Fd: int32(s.fd - 1), Events: unix.POLLOUT}}
		_, _ = unix.Poll(poll, int(left.Milliseconds())+1)
	}
}

// sendFile sends an entry that is too large for a datagram.
func (s *Socket) sendFile(entry []byte) error {
	fd, err := unix.MemfdCreate("journal-entry", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for rest := entry; len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return err
	}
	return s.offer(nil, unix.UnixRights(fd))
}
