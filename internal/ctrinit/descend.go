package ctrinit

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
)

// A process namespace that others are in is hostile to whoever is born there:
// with CAP_SYS_PTRACE they see and trace him, dumpable or not, ptrace(2), and
// what he has is theirs. So a process that joins one stays outside of it until
// nothing is left to be given up, and then has a child there that has what the
// command will have, and does nothing but become it. The child's parent is the
// monitor (CLONE_PARENT), which is told of it and is from then on concerned with
// no other; we stay until it has become the command, or to say why it has not.

// descent is what the child needs, ready to be handed to the kernel: it is a
// copy of one thread of a Go program, and can call nothing of the runtime's.
type descent struct {
	path        *byte
	argv, envp  **byte
	line        uintptr // to its maker; the lowest descriptor that the command does not get
	leads, dies bool    // it takes the terminal; it dies with the monitor
	processes   *unix.Rlimit
	filter      *unix.SockFprog
	filterFlags uintptr
	answer      byte
	step        uint32
}

// The child's steps.
const (
	stepReady = iota
	stepDescriptors
	stepSession
	stepTerminal
	stepDeath
	stepProcesses
	stepFilter
	stepExec
)

var stepNames = [...]string{"start", "close descriptors", "setsid", "take the terminal", "die with the monitor", "set rlimit nproc", "load the seccomp filter", "exec"}

// openLine makes the connection between the child and us in place of the one to
// the monitor, which the child does not get.
func (p *process) openLine() *wire.Failure {
	low := 3 + p.plan.Process.KeepFDs
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return wire.Fail("make a socket", err)
	}
	if control == low {
		if control, err = unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, low+1); err != nil {
			control = low
			return wire.Fail("make a socket", err)
		}
	}
	if err := unix.Dup3(pair[1], low, unix.O_CLOEXEC); err != nil {
		return wire.Fail("make a socket", err)
	}
	_ = unix.Close(pair[1])
	p.line = [2]int{pair[0], low}
	return nil
}

// descend has the child and does not return if it becomes the command.
func (p *process) descend(name string) *wire.Failure {
	pr := &p.plan.Process
	d := &descent{line: uintptr(p.line[1]), leads: pr.Terminal, dies: p.plan.OCI == nil, processes: p.processes}
	if pr.NoNewPrivs && len(pr.Seccomp) > 0 {
		d.filter, d.filterFlags = program(pr.Seccomp), uintptr(pr.SeccompFlags)
	}
	var err error
	if d.path, err = unix.BytePtrFromString(name); err == nil {
		d.argv, err = pointers(pr.Args)
	}
	if err == nil {
		d.envp, err = pointers(pr.Env)
	}
	if err != nil {
		return failedExec(pr.Args[0], err)
	}
	// The package's own exec gives back the soft limit of descriptors that the
	// Go runtime has raised, and tells nobody else what it was.
	_ = unix.Exec("", nil, nil)
	pidfd := int32(-1)
	pid, errno := d.clone(&pidfd)
	if errno != 0 {
		f := wire.Fail("start the process", errno)
		if len(pr.Seccomp) > 0 && !pr.NoNewPrivs && errno != unix.ENOMEM && errno != unix.EAGAIN {
			f.Text = errno.Error() + ": the seccomp profile has to allow clone, unless there is no-new-privileges"
		}
		return f
	}
	_ = unix.Close(p.line[1])
	body, _ := json.Marshal(wire.StartedBody{PID: int(pid)})
	// The filter may be ours, too: write(2) it allows, if anything.
	if _, err := unix.Write(control, append([]byte{byte(wire.Started)}, body...)); err != nil {
		os.Exit(1)
	}
	if f := p.heard(int(pidfd)); f != nil {
		return f
	}
	if monitorGone() {
		os.Exit(1)
	}
	if _, err := unix.Write(p.line[0], []byte{0}); err != nil && err != unix.EPIPE {
		return wire.Fail("let the process go", err)
	}
	if f := p.heard(int(pidfd)); f != nil {
		return f
	}
	os.Exit(0)
	return nil
}

// heard waits for the child's next word, which is a failure or nil; it has none
// left when it has become the command, or has ended.
func (p *process) heard(pidfd int) *wire.Failure {
	fds := []unix.PollFd{{Fd: int32(p.line[0]), Events: unix.POLLIN}, {Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return wire.Fail("wait for the process", err)
		}
		if fds[0].Revents == 0 && fds[1].Revents == 0 {
			continue
		}
		word := make([]byte, 8)
		// Somebody of the container's may have made off with the child's end.
		if fds[0].Revents == 0 {
			return nil
		}
		if n, err := unix.Read(p.line[0], word); err != nil || n < len(word) {
			return nil
		}
		step, errno := binary.NativeEndian.Uint32(word), syscall.Errno(binary.NativeEndian.Uint32(word[4:]))
		switch {
		case step == stepReady:
			return nil
		case step == stepExec:
			return failedExec(p.plan.Process.Args[0], errno)
		}
		return wire.Fail(stepNames[min(step, stepExec)], errno)
	}
}

// pointers makes a list for execve(2).
func pointers(list []string) (**byte, error) {
	all, err := syscall.SlicePtrFromStrings(list)
	if err != nil {
		return nil, err
	}
	return &all[0], nil
}

// clone is fork(2), without the memory in common that vfork(2) would have: it
// would be the door to us. It returns in the parent only.
//
//go:nosplit
//go:norace
func (d *descent) clone(pidfd *int32) (pid uintptr, errno syscall.Errno) {
	pid, _, errno = syscall.RawSyscall6(syscall.SYS_CLONE, unix.CLONE_PARENT|unix.CLONE_PIDFD|uintptr(syscall.SIGCHLD), 0, uintptr(unsafe.Pointer(pidfd)), 0, 0, 0)
	if pid == 0 && errno == 0 {
		d.become()
	}
	return pid, errno
}

// become is the child's life.
//
//go:nosplit
//go:norace
func (d *descent) become() {
	errno := d.prepare()
	if errno == 0 {
		_, _, errno = syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(d.path)), uintptr(unsafe.Pointer(d.argv)), uintptr(unsafe.Pointer(d.envp)))
	}
	d.tell(d.step, uint32(errno))
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
	}
}

// prepare is all but the exec.
//
//go:nosplit
//go:norace
func (d *descent) prepare() (errno syscall.Errno) {
	d.step = stepDescriptors
	if _, _, errno = syscall.RawSyscall(unix.SYS_CLOSE_RANGE, d.line+1, ^uintptr(0)>>33, 0); errno != 0 {
		return errno
	}
	d.step = stepSession
	if _, _, errno = syscall.RawSyscall(syscall.SYS_SETSID, 0, 0, 0); errno != 0 {
		return errno
	}
	if d.leads {
		d.step = stepTerminal
		if _, _, errno = syscall.RawSyscall(syscall.SYS_IOCTL, 0, syscall.TIOCSCTTY, 0); errno != 0 {
			return errno
		}
	}
	if d.dies {
		d.step = stepDeath
		if _, _, errno = syscall.RawSyscall(syscall.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0); errno != 0 {
			return errno
		}
	}
	// Our maker looks whether the monitor still lives, now that its death would
	// end us, and tells it of us before there is anything to tell.
	d.tell(stepReady, 0)
	for {
		n, _, e := syscall.RawSyscall(syscall.SYS_READ, d.line, uintptr(unsafe.Pointer(&d.answer)), 1)
		if e == syscall.EINTR {
			continue
		}
		if e != 0 || n != 1 {
			_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
		}
		break
	}
	if d.processes != nil {
		d.step = stepProcesses
		if _, _, errno = syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, unix.RLIMIT_NPROC, uintptr(unsafe.Pointer(d.processes)), 0, 0, 0); errno != 0 {
			return errno
		}
	}
	if d.filter != nil {
		d.step = stepFilter
		if _, _, errno = syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, d.filterFlags, uintptr(unsafe.Pointer(d.filter))); errno != 0 {
			return errno
		}
	}
	d.step = stepExec
	return 0
}

// tell sends a word to the child's maker.
//
//go:nosplit
//go:norace
func (d *descent) tell(step, number uint32) {
	word := [2]uint32{step, number}
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, d.line, uintptr(unsafe.Pointer(&word)), unsafe.Sizeof(word))
}
