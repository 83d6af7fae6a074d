package runtime

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/ownthread"
)

// rtnetlink(7), as little of it as moving devices takes. The network driver's
// own would bring Go's package net into every start.

// routing opens a routing socket in this thread's network namespace.
func routing() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	return fd, os.NewSyscallError("netlink socket", err)
}

// routingIn opens one in another network namespace.
func routingIn(netns int) (int, error) {
	return ownthread.Run(func() (int, error) {
		if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
			return -1, os.NewSyscallError("setns", err)
		}
		return routing()
	})
}

// request sends one message, a fixed header with attributes, and waits for the
// kernel's answer, which is an errno.
func request(socket int, kind, flags uint16, header, attributes []byte) error {
	m := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(header)+len(attributes)))
	m = binary.NativeEndian.AppendUint16(m, kind)
	m = binary.NativeEndian.AppendUint16(m, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m = append(m, make([]byte, 8)...) // a number for the answer, and the port: of no use here
	m = append(append(m, header...), attributes...)
	if err := unix.Sendto(socket, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("netlink send", err)
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(socket, answer, 0)
	if err != nil {
		return os.NewSyscallError("netlink receive", err)
	}
	if n < unix.SizeofNlMsghdr+4 {
		return unix.EBADMSG
	}
	if errno := -int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); errno != 0 {
		return unix.Errno(errno)
	}
	return nil
}

// appendAttribute adds a struct rtattr.
func appendAttribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%unix.RTA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

func appendNumber(b []byte, kind uint16, n uint32) []byte {
	return appendAttribute(b, kind, binary.NativeEndian.AppendUint32(nil, n))
}

// ifinfo is a struct ifinfomsg, with flags to be set.
func ifinfo(index, flags uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], index)
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], flags)
	return b
}
