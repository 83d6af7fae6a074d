package conmon

import (
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// Stream is a connection to conmon's attach socket. Each packet from it begins
// with the number of a stream; what is sent goes to the container's input as
// it is.
type Stream struct{ fd int }

// The numbers of conmon's streams.
const (
	conmonStdout = 2
	conmonStderr = 3
)

// Attach connects to the container's streams.
func Attach(bundle string) (*Stream, error) {
	name := filepath.Join(bundle, "attach")
	file, err := unix.Open(name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, cove.E("attach to conmon", name, cove.NoFile, err)
	}
	defer unix.Close(file)
	fd, err := wire.Connect(file, unix.SOCK_SEQPACKET, attachPatience)
	if err != nil {
		kind := cove.Internal
		switch err {
		case unix.ECONNREFUSED:
			kind = cove.NoFile
		case unix.EAGAIN:
			kind, err = cove.Unavailable, fmt.Errorf("it takes nobody more after %v", attachPatience)
		}
		return nil, cove.E("attach to conmon", name, kind, err)
	}
	return &Stream{fd: fd}, nil
}

// attachPatience is how long conmon may take to have room for one more: as many wait
// for a stopped one as fit.
const attachPatience = 10 * time.Second

// packet is how much conmon reads or writes at once.
const packet = 8 << 10

// copyTo passes output on as messages until conmon or the receiver is gone.
func (s *Stream) copyTo(send func(packet []byte) error) {
	buf := make([]byte, packet+64)
	for {
		n, err := unix.Read(s.fd, buf)
		if err == unix.EINTR {
			continue
		}
		if n < 1 {
			return
		}
		switch buf[0] {
		case conmonStdout:
			buf[0] = byte(wire.Stdout)
		case conmonStderr:
			buf[0] = byte(wire.Stderr)
		default:
			continue
		}
		if send(buf[:n]) != nil {
			return
		}
	}
}

// write sends input to the container.
func (s *Stream) write(data []byte) error {
	for len(data) > 0 {
		n, err := unix.SendmsgN(s.fd, data[:min(len(data), packet)], nil, nil, unix.MSG_NOSIGNAL)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// end tells that there is no more input.
func (s *Stream) end() { _ = unix.Shutdown(s.fd, unix.SHUT_WR) }

// leave ends the connection; whoever copies from it comes back.
func (s *Stream) leave() { _ = unix.Shutdown(s.fd, unix.SHUT_RDWR) }
