package native

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/ownthread"
)

// socket is a netlink socket in the namespace where it was made.
type socket struct {
	fd int
}

func open(protocol int) (socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return socket{-1}, os.NewSyscallError("netlink socket", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	// A guard only: the kernel answers within send.
	tv := unix.NsecToTimeval(int64(10 * time.Second))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	return socket{fd}, nil
}

// openIn opens a routing socket in another network namespace. It visits the
// namespace on a thread of its own; one that could not be brought back ends. On
// the way it turns router advertisements off for links to come: another container
// of the network could send some.
func openIn(netns int) (socket, error) {
	return ownthread.Run(func() (socket, error) {
		home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return socket{-1}, os.NewSyscallError("open own network namespace", err)
		}
		defer unix.Close(home)
		if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
			return socket{-1}, os.NewSyscallError("enter network namespace", err)
		}
		s, err := open(unix.NETLINK_ROUTE)
		for _, name := range []string{"accept_ra", "autoconf"} {
			// Where /proc/sys is read-only or IPv6 missing, so be it.
			_ = writeSysctl("/proc/sys/net/ipv6/conf/default/"+name, "0")
		}
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		return s, err
	})
}

func (s socket) shut() {
	if s.fd >= 0 {
		_ = unix.Close(s.fd) // a netlink socket has nothing to flush
	}
}

// refusal is one message that the kernel did not carry out.
type refusal struct {
	seq   uint32
	errno unix.Errno
}

// do sends all messages at once and gives those refused. The last one is
// asked to answer, so that exactly one wait ends the exchange; a message that
// succeeds says nothing.
func (s socket) do(m *message) ([]refusal, error) { return s.ask(m, func(link) {}) }

// ask is do for messages that ask for links, too, each of which f is given.
func (s socket) ask(m *message, f func(link)) ([]refusal, error) {
	if len(m.b) == 0 {
		return nil, nil
	}
	m.ack()
	if err := unix.Sendto(s.fd, m.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("netlink send", err)
	}
	var refused []refusal
	for {
		done := false
		err := s.receive(func(typ uint16, seq uint32, body []byte) {
			if typ == unix.RTM_NEWLINK && len(body) >= unix.SizeofIfInfomsg {
				f(linkIn(body))
			}
			if typ != unix.NLMSG_ERROR || len(body) < 4 {
				return
			}
			if e := -int32(binary.NativeEndian.Uint32(body)); e != 0 {
				refused = append(refused, refusal{seq, unix.Errno(e)})
			}
			done = done || seq == m.seq
		})
		if err != nil {
			return refused, err
		}
		if done {
			return refused, nil
		}
	}
}

// must is do for messages that all have to succeed, but for the errors
// tolerated.
func (s socket) must(m *message, tolerated ...unix.Errno) error {
	refused, err := s.do(m)
	if err != nil {
		return err
	}
next:
	for _, r := range refused {
		for _, t := range tolerated {
			if r.errno == t {
				continue next
			}
		}
		return r.errno
	}
	return nil
}

// dumpTries is how often a listing is begun anew because the kernel's list
// changed meanwhile.
const dumpTries = 8

// dump sends one request and gives each part of the whole answer to f.
func (s socket) dump(m *message, f func(typ uint16, body []byte)) error {
	type part struct {
		typ  uint16
		body []byte
	}
	for try := 1; ; try++ {
		if err := unix.Sendto(s.fd, m.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return os.NewSyscallError("netlink send", err)
		}
		var (
			parts       []part
			done, again bool
			fail        error
		)
		for !done {
			err := s.receiveFlags(func(typ, flags uint16, _ uint32, body []byte) {
				again = again || flags&unix.NLM_F_DUMP_INTR != 0
				switch typ {
				case unix.NLMSG_DONE:
					done = true
				case unix.NLMSG_ERROR:
					done = true
					if len(body) >= 4 {
						if e := -int32(binary.NativeEndian.Uint32(body)); e != 0 {
							fail = unix.Errno(e)
						}
					}
				default:
					parts = append(parts, part{typ, bytes.Clone(body)})
				}
			})
			if err != nil {
				return err
			}
		}
		if again && try < dumpTries {
			continue
		}
		for _, p := range parts {
			f(p.typ, p.body)
		}
		return fail
	}
}

// receive reads one datagram and gives its messages to f.
func (s socket) receive(f func(typ uint16, seq uint32, body []byte)) error {
	return s.receiveFlags(func(typ, _ uint16, seq uint32, body []byte) { f(typ, seq, body) })
}

func (s socket) receiveFlags(f func(typ, flags uint16, seq uint32, body []byte)) error {
	var buf [32 << 10]byte // the kernel's own dump size
	n, _, err := unix.Recvfrom(s.fd, buf[:], 0)
	for errors.Is(err, unix.EINTR) {
		n, _, err = unix.Recvfrom(s.fd, buf[:], 0)
	}
	if err != nil {
		return os.NewSyscallError("netlink receive", err)
	}
	if !messages(buf[:n], f) {
		return os.NewSyscallError("netlink receive", unix.EBADMSG)
	}
	return nil
}

// messages gives netlink messages, one after another in b, to f, and tells whether
// all of it are such.
func messages(b []byte, f func(typ, flags uint16, seq uint32, body []byte)) bool {
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return false
		}
		f(binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]), binary.NativeEndian.Uint32(b[8:]), b[unix.SizeofNlMsghdr:size])
		b = b[min((size+3)&^3, len(b)):]
	}
	return true
}

// index looks a link up by name in the socket's namespace, without taking
// the kernel's routing lock. 0 when there is none.
func (s socket) index(name string) (int, error) {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(s.fd, unix.SIOCGIFINDEX, r); err != nil {
		if errors.Is(err, unix.ENODEV) {
			return 0, nil
		}
		return 0, os.NewSyscallError("find link", err)
	}
	return int(r.Uint32()), nil
}

// flags gives a link's flags (IFF_UP …).
func (s socket) flags(name string) (uint16, error) {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(s.fd, unix.SIOCGIFFLAGS, r); err != nil {
		return 0, os.NewSyscallError("read link flags", err)
	}
	return r.Uint16(), nil
}
