// Package uplink runs the program that connects an ordinary user's container
// to the network (pasta, slirp4netns) in such a way that it cannot outlive
// the container's monitor, whatever it does with its own process: it is the
// child of the first process of a process namespace, and that one dies with
// the monitor and takes the namespace along.
//
// Standard library and x/sys only: it is a part of the monitor's program.
package uplink

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/sysmon"
)

const control = 3 // the socket to the monitor

// Main is the life of the namespace's first process; it does not return. Its
// caller has locked the main thread.
func Main() {
	if err := run(); err != nil {
		_ = wire.SendJSON(control, wire.Failed, wire.Failure{Step: "connect to the network", Text: err.Error()})
		os.Exit(1)
	}
	// What is left is to reap, until there is nobody any more.
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); err != nil && err != unix.EINTR {
			os.Exit(0)
		}
	}
}

func run() error {
	unix.CloseOnExec(control)
	// What cove's caller has left open is not the program's to keep.
	if err := unix.CloseRange(control+1, math.MaxInt32, 0); err != nil {
		return os.NewSyscallError("close_range", err)
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	kind, body, fds, err := wire.Receive(control, buf)
	if err != nil || kind != wire.Prepare || len(fds) == 0 {
		os.Exit(1) // the parent is gone
	}
	var u wire.Uplink
	if err := json.Unmarshal(body, &u); err != nil {
		return err
	}
	if u.Keep != nil {
		if err := settle(u.Keep, fds); err != nil {
			return err
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return &os.PathError{Op: "make private", Path: "/", Err: err}
	}
	if u.Socket != "" {
		if err := hide(path.Dir(u.Socket)); err != nil {
			return err
		}
	}
	if err := show(fds[0], u.Netns); err != nil {
		return err
	}
	_ = unix.Close(fds[0])
	if err := start(&u); err != nil {
		return err
	}
	for _, r := range u.Requests {
		if err := request(u.Socket, r); err != nil {
			return err
		}
	}
	if u.Keep != nil {
		go leave(u.Keep, fds[1])
		// From here on it is nobody's.
		if err := unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0); err != nil {
			return err
		}
	}
	return wire.Send(control, wire.Ready, nil)
}

// hide puts a directory of this namespace's own in a directory's place: the
// program lives a moment longer than its monitor, and what it makes then would
// be nobody's to remove.
func hide(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=700"); err != nil {
		return &os.PathError{Op: "mount", Path: dir, Err: err}
	}
	return nil
}

// show makes the network namespace visible at a path, in this mount namespace
// only. The programs give up their power over other processes before they
// look, so a path in /proc is of no use to them.
func show(netns int, at string) error {
	fd, err := unix.Open(at, unix.O_RDONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "open", Path: at, Err: err}
	}
	_ = unix.Close(fd)
	if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(netns), at, "", unix.MS_BIND, ""); err != nil {
		return &os.PathError{Op: "mount", Path: at, Err: err}
	}
	return nil
}

// start runs the program and returns once it has connected the namespace.
func start(u *wire.Uplink) error {
	var out, ready [2]int
	for _, p := range []*[2]int{&out, &ready} {
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return err
		}
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir := "/"
	if u.Socket != "" {
		dir = path.Dir(u.Socket)
	}
	pidfd := -1
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := sysmon.Exact(); err != nil {
		return err
	}
	pid, err := syscall.ForkExec(u.Args[0], u.Args, &syscall.ProcAttr{
		Dir: dir, Env: u.Env,
		Files: []uintptr{uintptr(null), uintptr(out[1]), uintptr(out[1]), uintptr(ready[1])},
		Sys:   &syscall.SysProcAttr{PidFD: &pidfd},
	})
	if err != nil {
		return &os.PathError{Op: "exec", Path: u.Args[0], Err: err}
	}
	for _, fd := range []int{null, out[1], ready[1]} {
		_ = unix.Close(fd)
	}
	if !u.ReadyFD {
		_ = unix.Close(ready[0])
		ready[0] = -1
	}
	isReady, text := await(pidfd, out[0], ready[0])
	_ = unix.Close(pidfd)
	if u.ReadyFD {
		_ = unix.Close(ready[0])
	}
	if isReady {
		go drain(out[0])
		return nil
	}
	// It goes into the background when it is ready, and says why if it is
	// not.
	var ws unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &ws, 0, nil); err != unix.EINTR {
			break
		}
	}
	if ws.Exited() && ws.ExitStatus() == 0 && !u.ReadyFD {
		_ = unix.Close(out[0])
		return nil
	}
	return errors.New(u.Args[0] + ": " + said(text))
}

const textMax = 4096 // bytes of what the program says that are kept

// await returns when the program has written to ready, which may be -1, or has
// ended, and what it has said by then. It must be listened to meanwhile: pasta's
// help is longer than the two pages that a pipe has for a user with many of
// them (pipe-user-pages-soft, pipe(7)), and would never be written.
func await(pidfd, out, ready int) (isReady bool, text string) {
	_ = unix.SetNonblock(out, true)
	said := make([]byte, 0, textMax)
	listen := func() bool {
		var b [textMax]byte
		for {
			n, err := unix.Read(out, b[:])
			switch {
			case err == unix.EINTR:
			case n <= 0:
				return err == unix.EAGAIN
			default:
				said = append(said, b[:min(n, textMax-len(said))]...)
			}
		}
	}
	// A negative descriptor is passed over, poll(2).
	fds := []unix.PollFd{
		{Fd: int32(pidfd), Events: unix.POLLIN},
		{Fd: int32(out), Events: unix.POLLIN},
		{Fd: int32(ready), Events: unix.POLLIN},
	}
	for {
		if _, err := unix.Poll(fds, -1); err != nil {
			if err == unix.EINTR {
				continue
			}
			return false, err.Error()
		}
		if fds[2].Revents != 0 {
			var b [1]byte
			if n, _ := unix.Read(ready, b[:]); n == 1 {
				_ = unix.SetNonblock(out, false)
				return true, ""
			}
			fds[2].Fd = -1
		}
		ended := fds[0].Revents != 0
		if fds[1].Revents != 0 && !listen() {
			fds[1].Fd = -1
		}
		if ended {
			listen()
			return false, string(said)
		}
	}
}

// said is a program's output on one line.
func said(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.Join(strings.Fields(line), " ")
		// pasta on a host without a syslog: no reason of its failure.
		if line != "" && !(strings.HasPrefix(line, "Failed to send ") && strings.HasSuffix(line, " to syslog")) {
			lines = append(lines, line)
		}
	}
	if lines == nil {
		return "it ended without a word"
	}
	return strings.Join(lines, "; ")
}

// drain keeps a program that goes on talking from being stopped by it.
func drain(fd int) {
	var b [512]byte
	for {
		if n, err := unix.Read(fd, b[:]); n <= 0 && err != unix.EINTR {
			return
		}
	}
}

// request asks the program for something over its socket: one JSON object
// there, one back.
func request(socket, text string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	file, err := unix.Open(socket, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: socket, Err: err}
	}
	defer unix.Close(file)
	// By descriptor: a socket's path is at most 107 bytes, unix(7).
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(file)}); err != nil {
		return &os.PathError{Op: "connect", Path: socket, Err: err}
	}
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		return &os.PathError{Op: "write", Path: socket, Err: err}
	}
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		return &os.PathError{Op: "write", Path: socket, Err: err}
	}
	var answer []byte
	buf := make([]byte, 4096)
	for len(answer) < len(buf) {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			break
		}
		answer = append(answer, buf[:n]...)
	}
	var reply struct {
		Error *struct {
			Desc string `json:"desc"`
		} `json:"error"`
	}
	if err := json.Unmarshal(bytes.TrimSpace(answer), &reply); err != nil {
		return &os.PathError{Op: "read", Path: socket, Err: err}
	}
	if reply.Error != nil {
		return errors.New(text + ": " + reply.Error.Desc)
	}
	return nil
}
