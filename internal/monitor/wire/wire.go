// Package wire is the language between cove, a container's monitor and the
// container's init.
//
// Every conversation is a SOCK_SEQPACKET socket: one message is one packet,
// its first byte says what it is ([Kind]), the rest is JSON or raw bytes.
// File descriptors travel beside it (SCM_RIGHTS). A packet is at most [Max]
// bytes. The order of a start:
//
//	cove                     monitor                    init
//	 | fork, exec             |                          |
//	 |----------------------->|                          |
//	 | Clone                  |                          |
//	 |----------------------->| clone, exec              |
//	 |                        |------------------------->| waits
//	 | Start + fds            |                          |
//	 |----------------------->| Prepare + plan, netns    |
//	 |                        |------------------------->| joins cgroups, mounts …
//	 |                        |                    Ready |
//	 | Go                     |<-------------------------| waits
//	 |----------------------->| Go                       |
//	 |                        |------------------------->| exec: socket closes
//	 |                Started |<- - - - - - - - - - - - -|
//	 |<-----------------------|                          |
//	 | Stdin, Resize, …       |      Stdout, Stderr      |
//	 |<---------------------->|<------------------------>|
//	 |            Exit, Done  |                          |
//	 |<-----------------------|                          |
//
// The same messages, from Attach on, are spoken on the monitor's socket by
// whoever comes later. Kinds and JSON fields are only ever added: an engine
// speaks with monitors of older releases that still run.
//
// It is imported by the monitor's program: standard library and x/sys only.
package wire

import (
	"errors"
	"io"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/coldjson"
)

// Version of the conversation. A monitor refuses a Start of a higher one.
const Version = 1

// Max is the size of the largest packet, its first byte included.
const Max = 128 << 10

// MaxFDs is how many descriptors one packet may carry (the kernel's
// SCM_MAX_FD is 253).
const MaxFDs = 250

// Kind is the first byte of a packet.
type Kind byte

// The kinds; in brackets who sends them.
const (
	Clone     Kind = 'C' // [cove] path of the version 2 cgroup that init is born in; none when empty
	Start     Kind = 'S' // [cove] [Envelope], with descriptors
	FDs       Kind = 'f' // [cove] more descriptors for the Start that follows
	Go        Kind = 'G' // [cove, monitor] everything outside is ready: exec
	Prepare   Kind = 'P' // [monitor] plan and namespaces, as descriptors
	Mounted   Kind = 'M' // [init] hooks outside may run, then Go
	Driver    Kind = 'v' // [driver] with conmon: its own process, as a descriptor
	Ready     Kind = 'R' // [init] everything but exec is done, pty master as descriptor; to the OCI runtime's start: startContainer hooks have run
	Started   Kind = 's' // [monitor] exec has happened; [StartedBody]
	Hooked    Kind = 'k' // [monitor] the poststart hooks, if there are any, have ended
	Failed    Kind = 'F' // [monitor, init] [Failure]; nothing is left running
	Stdin     Kind = '0' // [client] raw bytes; none means end of file
	Stdout    Kind = '1' // [monitor] raw bytes
	Stderr    Kind = '2' // [monitor] raw bytes
	Resize    Kind = 'W' // [client] [Size]
	Exit      Kind = 'X' // [monitor] [ExitBody]: the container or exec ended, all its output was sent
	Done      Kind = 'D' // [monitor] the teardown is finished
	Attach    Kind = 'A' // [client] [AttachBody]: from here on output is copied to this socket
	Detach    Kind = 'd' // [client] no more output; the container runs on
	Stop      Kind = 'T' // [client] [StopBody]
	Exec      Kind = 'E' // [client] [ExecBody], with descriptors: plan, then stdio
	Watch     Kind = 'w' // [client] tell me Exit and Done, no output
	Hold      Kind = 'h' // [client] do not apply the restart policy at the next exit
	Ack       Kind = 'a' // [monitor] the request was carried out
	HealthRun Kind = 'H' // [client] run the health check now
	Networks  Kind = 'N' // [client] [NetworksBody]: the container's networks have changed

	// Policy changes the restart policy [client] with [Restart].
	Policy Kind = 'Y'
	// Probes changes the health check [client] with [Health], null for none.
	Probes Kind = 'L'
	// Rename gives the container another name in what the monitor tells [client]
	// with [RenameBody].
	Rename Kind = 'I'
	// Checkpoint asks for one [client] with [CheckpointBody]; Ack when the images
	// are on the disk, Failed when the container runs on instead. For an aide the
	// container's plan and the turn (drive.Turn) come with it.
	Checkpoint Kind = 'K'
)

// Send writes one packet with descriptors. It restarts when interrupted.
func Send(fd int, k Kind, body []byte, fds ...int) error {
	packet := make([]byte, 1+len(body))
	packet[0] = byte(k)
	copy(packet[1:], body)
	return SendPacket(fd, packet, 0, fds...)
}

// SendPacket writes a packet that already begins with its kind. flags are
// those of sendmsg(2); MSG_NOSIGNAL is always set.
func SendPacket(fd int, packet []byte, flags int, fds ...int) error {
	if len(packet) > Max {
		return errors.New("wire: message too large")
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	for {
		err := unix.Sendmsg(fd, packet, rights, nil, flags|unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}

// Packet is one whose body is v as JSON, or none for nil, for [SendPacket].
func Packet(k Kind, v any) ([]byte, error) {
	packet := []byte{byte(k)}
	if v == nil {
		return packet, nil
	}
	body, err := coldjson.Marshal(v)
	return append(packet, body...), err
}

// SendJSON writes one packet whose body is v as JSON.
func SendJSON(fd int, k Kind, v any, fds ...int) error {
	if f, is := v.(*Failure); is {
		v = f.clipped()
	}
	body, err := coldjson.Marshal(v)
	if err != nil {
		return err
	}
	return Send(fd, k, body, fds...)
}

// SendLong is SendJSON of what may be longer than a packet, by ports and labels
// without end: such a body comes as a file, the packet's last descriptor.
func SendLong(fd int, k Kind, v any, fds ...int) error {
	body, err := coldjson.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) < short {
		return Send(fd, k, body, fds...)
	}
	file, err := unix.MemfdCreate("message", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(file)
	for rest := body; len(rest) > 0; {
		n, err := unix.Write(file, rest)
		if err != nil && err != unix.EINTR {
			return err
		}
		rest = rest[max(n, 0):]
	}
	return Send(fd, k, nil, append(slices.Clip(fds), file)...)
}

// A body of SendLong is in the packet when it is short, as a monitor expects of
// its clients, and refused when it is longer than the longest.
const (
	short   = 32 << 10
	longest = 64 << 20
)

// Long gives the body of a packet by [SendLong], and the descriptors that are
// not a body. That one is closed, and -1 in its place.
func Long(body []byte, fds []int) ([]byte, []int, error) {
	if len(body) > 0 || len(fds) == 0 {
		return body, fds, nil
	}
	file := fds[len(fds)-1]
	fds[len(fds)-1], fds = -1, fds[:len(fds)-1]
	defer unix.Close(file)
	var st unix.Stat_t
	if err := unix.Fstat(file, &st); err != nil {
		return nil, fds, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > longest {
		return nil, fds, errors.New("wire: message too large")
	}
	body = make([]byte, st.Size)
	for at := 0; at < len(body); {
		n, err := unix.Pread(file, body[at:], int64(at))
		if n == 0 && err == nil {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && err != unix.EINTR {
			return nil, fds, err
		}
		at += max(n, 0)
	}
	return body, fds, nil
}

// Receive reads one packet into buf (at least [Max] bytes for a peer that is
// not one's own init) and returns its kind, its body (a slice of buf) and the
// descriptors that came with it, close-on-exec. io.EOF tells that the peer is
// gone. A packet or its descriptors cut short are an error: nothing of them
// is returned or left open.
func Receive(fd int, buf []byte) (Kind, []byte, []int, error) {
	oob := make([]byte, unix.CmsgSpace(4*MaxFDs))
	return ReceiveInto(fd, buf, oob, 0)
}

// ReceiveInto is Receive with the caller's control buffer and recvmsg flags.
func ReceiveInto(fd int, buf, oob []byte, flags int) (Kind, []byte, []int, error) {
	kind, body, fds, _, err := receive(fd, buf, oob, flags)
	return kind, body, fds, err
}

// ReceiveFrom is Receive, which does not wait, of what the process pid has sent,
// on a socket of [ChildPair]: others who may have come by its end have no say.
// unix.EAGAIN tells that there is nothing yet.
func ReceiveFrom(pid, fd int, buf []byte) (Kind, []byte, []int, error) {
	oob := make([]byte, unix.CmsgSpace(4*MaxFDs)+unix.CmsgSpace(unix.SizeofUcred))
	for {
		kind, body, fds, sender, err := receive(fd, buf, oob, unix.MSG_DONTWAIT)
		if err != nil || sender == pid {
			return kind, body, fds, err
		}
		for _, f := range fds {
			_ = unix.Close(f)
		}
	}
}

// AwaitFrom is ReceiveFrom, which waits.
func AwaitFrom(pid, fd int, buf []byte) (Kind, []byte, []int, error) {
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return 0, nil, nil, err
		}
		if kind, body, got, err := ReceiveFrom(pid, fd, buf); err != unix.EAGAIN {
			return kind, body, got, err
		}
	}
}

func receive(fd int, buf, oob []byte, flags int) (Kind, []byte, []int, int, error) {
	var n, oobn, rflags int
	var err error
	for reset := false; ; {
		n, oobn, rflags, _, err = unix.Recvmsg(fd, buf, oob, flags|unix.MSG_CMSG_CLOEXEC)
		if err == unix.ECONNRESET && !reset {
			// The peer has closed without reading all of ours. That is told
			// before what it has sent, once.
			reset = true
			continue
		}
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		if err == unix.ECONNRESET {
			err = io.EOF
		}
		return 0, nil, nil, 0, err
	}
	var fds []int
	sender := 0
	if oobn > 0 {
		messages, perr := unix.ParseSocketControlMessage(oob[:oobn])
		if perr == nil {
			for i := range messages {
				if got, e := unix.ParseUnixRights(&messages[i]); e == nil {
					fds = append(fds, got...)
				} else if who, e := unix.ParseUnixCredentials(&messages[i]); e == nil {
					sender = int(who.Pid)
				}
			}
		}
		err = perr
	}
	if rflags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = errors.New("wire: message cut short")
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	if err != nil {
		for _, f := range fds {
			_ = unix.Close(f)
		}
		return 0, nil, nil, 0, err
	}
	return Kind(buf[0]), buf[1:n], fds, sender, nil
}

// Unread waits for the peer's next packet or its end, and tells whether it has
// ended with something unread of what was sent to it.
func Unread(fd int) bool {
	for {
		n, _, err := unix.Recvfrom(fd, make([]byte, 1), unix.MSG_PEEK)
		if err == unix.EINTR {
			continue
		}
		if n == 0 && err == nil {
			// The kernel tells of the end a moment before it tells why.
			code, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			return code == int(unix.ECONNRESET)
		}
		return err == unix.ECONNRESET
	}
}

// Pair makes a connected pair of sockets, close-on-exec.
func Pair() (ours, theirs int, err error) {
	sp, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, err
	}
	return sp[0], sp[1], nil
}

// ChildPair is Pair for a process of ours whose end others may come by.
func ChildPair() (ours, theirs int, err error) {
	ours, theirs, err = Pair()
	if err != nil {
		return -1, -1, err
	}
	if err = unix.SetsockoptInt(ours, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		_ = unix.Close(ours)
		_ = unix.Close(theirs)
		return -1, -1, err
	}
	return ours, theirs, nil
}

// Failure is why a container or exec could not be started.
type Failure struct {
	Step  string        `json:"step"`            // what init or the monitor was doing, with its object
	Errno syscall.Errno `json:"errno,omitempty"` // 0 when Text says it all
	Text  string        `json:"text,omitempty"`
	// Exec is set when the failing step concerned the command itself:
	// ENOENT makes exit code 127, the rest 126.
	Exec bool `json:"exec,omitempty"`
	// NoFile tells that the command was not found, whatever the errno.
	NoFile bool `json:"nofile,omitempty"`
}

// Fail is the failure of a step. A message that was not the expected one has no
// error: nil.
func Fail(step string, err error) *Failure {
	f := &Failure{Step: step}
	switch e := err.(type) {
	case nil:
		f.Text = "unexpected message"
	case syscall.Errno: // unix.Errno
		f.Errno = e
	default:
		f.Text = err.Error()
	}
	return f
}

// clipped is the failure with texts that there is room for in a packet: an image's user
// and a command may be of any length.
func (f *Failure) clipped() *Failure {
	const most = 4 << 10
	short := *f
	for _, s := range []*string{&short.Step, &short.Text} {
		if len(*s) > most {
			*s = strings.ToValidUTF8((*s)[:most], "") + "…"
		}
	}
	return &short
}

// HookFailure is the failure of a hook, nil for none.
func HookFailure(err error) *Failure {
	if err == nil {
		return nil
	}
	missing := errors.Is(err, syscall.ENOENT) // which podman takes for a missing command
	return &Failure{Step: "run hooks", Text: err.Error(), Exec: missing, NoFile: missing}
}

// Error implements error.
func (f *Failure) Error() string {
	text := f.Text
	if text == "" {
		text = f.Errno.Error()
	}
	if f.Errno == unix.ENOSYS && !f.Exec {
		text += ": it takes Linux 5.12 or newer"
	}
	if f.Step == "" {
		return text
	}
	return f.Step + ": " + text
}
