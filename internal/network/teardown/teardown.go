// Package teardown undoes a container's share of the firewall. What is to be
// undone is data, made when the container was joined to its networks, so that
// the monitor can carry it out with raw sockets: this package is small and
// imports nothing but the standard library and golang.org/x/sys.
package teardown

import (
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Teardown is what undoes a container's share of the host's firewall. Its
// links need no undoing: they go with the last reference to the container's
// network namespace. It must be run before the sockets that reserve the
// published ports are closed, or it may delete a successor's elements.
type Teardown struct {
	// Nft are complete nfnetlink batches, ready to be sent on a
	// NETLINK_NETFILTER socket in the network namespace of the engine.
	Nft [][]byte `json:"nft,omitempty"`
}

// Empty reports whether there is nothing to do.
func (t Teardown) Empty() bool { return len(t.Nft) == 0 }

// Run carries t out in the network namespace of the calling thread. What is
// gone already is no error, and does not keep the rest from going. Every
// batch is tried.
func Run(t Teardown) error {
	if t.Empty() {
		return nil
	}
	fd, err := Open()
	if err != nil {
		return err
	}
	var errs []error
	for _, b := range t.Nft {
		errs = append(errs, remove(fd, b))
	}
	errs = append(errs, unix.Close(fd))
	return errors.Join(errs...)
}

// Open gives a socket for [Commit].
func Open() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	// Answers without a copy of the request: they are many when a batch of
	// many elements fails. An old kernel that lacks the option just sends more.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return fd, nil
}

// Failure is one message of a batch that the kernel refused.
type Failure struct {
	Seq   uint32 // the message's sequence number
	Errno unix.Errno
}

// Commit sends one batch and gives the messages that the kernel refused; if
// there are any, the batch as a whole had no effect. At least one message of
// the batch must ask for an acknowledgement (the last one, by custom).
func Commit(fd int, batch []byte) ([]Failure, error) {
	// The kernel takes a batch only whole, and refuses what exceeds the
	// send buffer; each refused message is answered at once.
	if len(batch) > 64<<10 {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*len(batch))
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8*len(batch))
	}
	if err := unix.Sendto(fd, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("send firewall batch", err)
	}
	// The kernel works within sendto: all answers are queued by now.
	var (
		failed   []Failure
		acked    bool
		overflow bool
		buf      [8192]byte
	)
	for {
		n, _, err := unix.Recvfrom(fd, buf[:], unix.MSG_DONTWAIT)
		switch err {
		case nil:
		case unix.EINTR:
			continue
		case unix.ENOBUFS:
			overflow = true // answers were lost; the rest is still to be read
			continue
		case unix.EAGAIN:
			if overflow && len(failed) == 0 {
				return nil, os.NewSyscallError("read firewall answer", unix.ENOBUFS)
			}
			if !acked && len(failed) == 0 {
				return nil, os.NewSyscallError("read firewall answer", unix.ENODATA)
			}
			return failed, nil
		default:
			return nil, os.NewSyscallError("read firewall answer", err)
		}
		for b := buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.SizeofNlMsghdr || size > len(b) {
				break
			}
			if binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR && size >= unix.SizeofNlMsghdr+4 {
				errno := -int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:]))
				if errno == 0 {
					acked = true
				} else {
					failed = append(failed, Failure{binary.NativeEndian.Uint32(b[8:]), unix.Errno(errno)})
				}
			}
			b = b[min(align(size), len(b)):]
		}
	}
}

// remove sends a batch of deletions, again without those that had nothing to
// delete until the kernel takes it.
func remove(fd int, batch []byte) error {
	for len(batch) > 0 {
		failed, err := Commit(fd, batch)
		if err != nil {
			return err
		}
		if len(failed) == 0 {
			return nil
		}
		gone := make(map[uint32]bool, len(failed))
		for _, f := range failed {
			if f.Errno != unix.ENOENT {
				return os.NewSyscallError("delete firewall element", f.Errno)
			}
			gone[f.Seq] = true
		}
		rest := without(batch, gone)
		if len(rest) == len(batch) {
			return os.NewSyscallError("delete firewall element", unix.ENOENT)
		}
		batch = rest
	}
	return nil
}

// without copies a batch leaving out the messages with the given sequence
// numbers; nil when no other is left. The last one kept asks for an
// acknowledgement.
func without(batch []byte, seqs map[uint32]bool) []byte {
	var (
		out  []byte
		kept int
		last int // where the last kept message starts in out
	)
	for b := batch; len(b) >= unix.SizeofNlMsghdr; {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return nil // not a batch
		}
		whole := min(align(size), len(b))
		typ, seq := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[8:])
		control := typ == unix.NFNL_MSG_BATCH_BEGIN || typ == unix.NFNL_MSG_BATCH_END
		if control || !seqs[seq] {
			if !control {
				kept++
				last = len(out)
			}
			out = append(out, b[:whole]...)
		}
		b = b[whole:]
	}
	if kept == 0 {
		return nil
	}
	flags := binary.NativeEndian.Uint16(out[last+6:])
	binary.NativeEndian.PutUint16(out[last+6:], flags|unix.NLM_F_ACK)
	return out
}

// align rounds up to netlink's 4 bytes.
func align(n int) int { return (n + 3) &^ 3 }
