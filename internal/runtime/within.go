package runtime

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/ctrinit"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/rootless"
)

// Namespaces belong to the user namespace in which they are made. Where that
// one has a path, another process of ours goes into it and clones init from
// there; init is our child all the same (CLONE_PARENT).

// CloneName is argv[0] of that process. argv[1] is init's socket, argv[2] the
// flags, the rest init's arguments.
const CloneName = "cove-runtime-clone"

// cloner turns the arguments for init into those for the process that clones
// it.
func (c *cloning) cloner(args []string, attr *syscall.ProcAttr) ([]string, *syscall.ProcAttr, error) {
	mark, err := rootless.Mark(unix.CLONE_NEWUSER, len(attr.Files))
	if err != nil {
		return nil, nil, err
	}
	flags := strconv.FormatUint(uint64(c.clone&^unix.CLONE_NEWUSER), 10)
	attr.Files = append(attr.Files, uintptr(c.user))
	attr.Sys = &syscall.SysProcAttr{}
	return append([]string{mark, CloneName, strconv.Itoa(3 + c.preserve), flags}, args...), attr, nil
}

// CloneWithin is its life. It sends init's descriptor, and ends.
func CloneWithin(socket int, args []string) {
	flags, err := strconv.ParseUint(args[0], 10, 64)
	if err != nil {
		ctrinit.Refuse(socket, err)
	}
	files := []uintptr{}
	// With a mark init gets one more than its socket, the namespace.
	last := socket
	if strings.HasPrefix(args[1], "cove-ns:") {
		last++
	}
	for fd := range last + 1 {
		files = append(files, uintptr(fd))
	}
	pidfd := -1
	_, err = syscall.ForkExec("/proc/self/exe", args[1:], &syscall.ProcAttr{
		Env: initEnv, Files: files,
		Sys: &syscall.SysProcAttr{
			Cloneflags: uintptr(flags) | unix.CLONE_PARENT, PidFD: &pidfd,
			Credential: &syscall.Credential{}, // its root, not somebody without a name
		},
	})
	if err != nil {
		ctrinit.Refuse(socket, err)
	}
	if err := wire.Send(socket, wire.Started, nil, pidfd); err != nil {
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	}
	os.Exit(0)
}

// cloned waits for init's descriptor, and reaps who sent it.
func cloned(pid, socket int) (*child, error) {
	k := &child{pid: pid, pidfd: -1, socket: socket}
	_, _, fds, err := k.await(wire.Started)
	_, _ = unix.Wait4(pid, nil, 0, nil)
	if err != nil {
		return nil, err
	}
	if len(fds) != 1 {
		return nil, cove.E("clone init", "", cove.Internal, unix.EBADMSG)
	}
	k.pidfd = fds[0]
	// The other's number for it may be that of another process namespace.
	if k.pid, err = pidOf(k.pidfd); err != nil {
		return nil, cove.E("clone init", "", cove.Internal, err)
	}
	return k, nil
}

// pidOf is the number of a process, given by descriptor, as we see it.
func pidOf(pidfd int) (int, error) {
	text, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(pidfd))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte("Pid:")); ok {
			return strconv.Atoi(string(bytes.TrimSpace(value)))
		}
	}
	return 0, unix.ESRCH
}
