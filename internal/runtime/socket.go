package runtime

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/ctrinit"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/plan"
)

// inDir names a file of an open directory: a socket's path is at most 107
// bytes, unix(7).
func inDir(dir int, name string) string { return "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name }

// listen makes the socket on which start will come.
func listen(dir int) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: inDir(dir, "start")}); err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// slow is how long whoever listens may take to accept.
const slow = 10 * time.Second

// connect connects to a socket by its path, however long. That, and what is sent
// over it, does not wait for ever: others wait for who has a container's lock.
func connect(path string, kind int) (int, error) {
	file, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(file)
	fd, err := wire.Connect(file, kind, slow)
	if err == nil {
		if err = wire.LimitSend(fd, slow); err != nil {
			_ = unix.Close(fd)
		}
	}
	if err == unix.EAGAIN {
		err = fmt.Errorf("nobody has accepted for %v: %w", slow, err)
	}
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// dialAgent connects to the agent that takes seccomp's listener.
func dialAgent(path string) (int, error) {
	fd, err := connect(path, unix.SOCK_STREAM)
	if err != nil {
		return -1, cove.E("connect to", "linux.seccomp.listenerPath "+path, kindOf(err), err)
	}
	return fd, nil
}

// sendConsole gives a terminal's master to whoever listens at path.
func sendConsole(path string, master int) error {
	name := "/dev/ptmx"
	if n, err := unix.IoctlGetInt(master, unix.TIOCGPTN); err == nil {
		name = "/dev/pts/" + strconv.Itoa(n)
	}
	if err := sendFD(path, name, master); err != nil {
		return cove.E("send terminal to", path, kindOf(err), err)
	}
	return nil
}

// sendFD sends a descriptor, with its name, to whoever listens at path.
func sendFD(path, name string, fd int) error {
	socket, err := connect(path, unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	return unix.Sendmsg(socket, []byte(name), unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
}

// sendPlan sends a plan with the descriptors that come with it.
func sendPlan(k *child, p *plan.Plan, body wire.PrepareBody, fds []int) error {
	fail := func(err error) error { return cove.E("send the plan to init", "", cove.Internal, err) }
	text, err := json.Marshal(p)
	if err != nil {
		return fail(err)
	}
	fd, err := ctrinit.MemoryFile("plan", unix.MFD_NOEXEC_SEAL)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(fd)
	for at := 0; at < len(text); {
		n, err := unix.Pwrite(fd, text[at:], int64(at))
		if err != nil && err != unix.EINTR {
			return fail(err)
		}
		at += max(n, 0)
	}
	if err := wire.SendJSON(k.socket, wire.Prepare, body, append([]int{fd}, fds...)...); err != nil {
		if err == unix.EPIPE || err == unix.ECONNRESET {
			return k.died()
		}
		return fail(err)
	}
	return nil
}
