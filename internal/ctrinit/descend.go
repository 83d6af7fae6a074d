package ctrinit

import (
	"encoding/binary"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/plan"
)

// A process namespace that others are in is hostile to whoever is born there:
// with CAP_SYS_PTRACE they see and trace him, dumpable or not, ptrace(2), and
// what he has is theirs. So a process that joins one stays outside of it until
// nothing is left to be given up, and then has a child there that has what the
// command will have, and does nothing but become it. The child's parent is the
// monitor (CLONE_PARENT), which is told of it and is from then on concerned with
// no other; we stay until it has become the command, or to say why it has not.
// Where that waits for a start (see Runtime), the child waits, and we for both.

// descent is what the child needs, ready to be handed to the kernel: it is a
// copy of one thread of a Go program, and can call nothing of the runtime's.
type descent struct {
	path        *byte
	argv, envp  **byte
	line        uintptr // to its maker; the lowest descriptor that the command does not get
	call        uintptr // to the attendant, from the thread that has the child
	leads, dies bool    // it takes the terminal; it dies with the monitor
	limits      []plan.Rlimit
	filter      *unix.SockFprog
	filterFlags uintptr
	answer      byte
	step        uint32

	pid    atomic.Int64 // or what it failed with, negative; 0 not yet
	inside int          // its number in its process namespace
	hooked chan *wire.Failure
}

// The child's steps.
const (
	stepReady = iota
	stepSession
	stepTerminal
	stepDeath
	stepLimits
	stepFilter
	stepExec
)

var stepNames = [...]string{"start", "setsid", "take the terminal", "die with the monitor", "set rlimits", "load the seccomp filter", "exec"}

// openLine makes the connection between the child and us in place of the one to
// the monitor, which the child does not get, and next to it that between the
// thread that has the child and its attendant.
func (p *process) openLine() *wire.Failure {
	low := 3 + p.plan.Process.KeepFDs
	line, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return wire.Fail("make a socket", err)
	}
	call, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return wire.Fail("make a socket", err)
	}
	// There may be gaps among those that the command gets.
	for _, fd := range []*int{&control, &line[0], &line[1], &call[0], &call[1]} {
		if *fd > low {
			continue
		}
		above, err := unix.FcntlInt(uintptr(*fd), unix.F_DUPFD_CLOEXEC, low+1)
		if err != nil {
			return wire.Fail("make a socket", err)
		}
		if *fd != low {
			_ = unix.Close(*fd)
		}
		*fd = above
	}
	if err := unix.Dup3(line[1], low, unix.O_CLOEXEC); err != nil {
		return wire.Fail("make a socket", err)
	}
	_ = unix.Close(line[1])
	p.line = [2]int{line[0], low}
	p.attendant(call)
	return nil
}

// descend has the child and does not return if it becomes the command.
func (p *process) descend(name string) *wire.Failure {
	pr := &p.plan.Process
	d := p.descent
	d.line, d.leads, d.dies = uintptr(p.line[1]), pr.Terminal, p.plan.OCI == nil
	if p.filtersChild() {
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
	if p.oci.notify >= 0 {
		if f := p.part(); f != nil {
			return f
		}
	}
	_ = unix.Close(control) // of this thread alone, see part
	d.clone()
	for {
		var word [1]byte
		n, err := unix.Read(int(d.call), word[:])
		if n == 1 {
			d.hooked <- p.startHooks(d.inside)
		} else if err != unix.EINTR {
			select {} // nothing more to be done here
		}
	}
}

// part leaves to the attendant alone what the child is not to have even for a
// moment. What is still to be told of here goes by control. It comes before the
// filter, which need not know close_range(2), but for one whose listener the
// attendant has to get.
func (p *process) part() *wire.Failure {
	low, first, last := uint(p.line[1]), uint(control), uint(p.descent.call)
	if first > last {
		first, last = last, first
	}
	if err := unix.CloseRange(last+1, ^uint(0)>>1, unix.CLOSE_RANGE_UNSHARE); err != nil {
		return wire.Fail("close descriptors", err)
	}
	for _, r := range [][2]uint{{low + 1, first - 1}, {first + 1, last - 1}} {
		if r[0] > r[1] {
			continue
		}
		if err := unix.CloseRange(r[0], r[1], 0); err != nil {
			return wire.Fail("close descriptors", err)
		}
	}
	return nil
}

// attendant readies another thread to see to the child. The one that has the
// child may be allowed nothing any more, since the filter binds it.
func (p *process) attendant(call [2]int) {
	p.descent = &descent{call: uintptr(call[1]), hooked: make(chan *wire.Failure)}
	runtime.GOMAXPROCS(2) // or it would wait for the other one's time to be over
	go func() {
		var word [1]byte
		for p.descent.pid.Load() == 0 {
			// Who looks over the child's shoulder could call us, too.
			if n, err := unix.Read(call[0], word[:]); n < 1 && err != unix.EINTR {
				os.Exit(1)
			}
		}
		failure := p.attend(call[0])
		if failure == nil {
			_ = unix.Close(p.oci.waiting) // before who waits for our end looks
			os.Exit(0)
		}
		_ = wire.SendJSON(control, wire.Failed, failure)
		os.Exit(1)
	}()
}

// attend sees the child to its command. Nothing is left of it when it fails.
func (p *process) attend(call int) *wire.Failure {
	pid := int(p.descent.pid.Load())
	if pid < 0 {
		errno, pr := syscall.Errno(-pid), &p.plan.Process
		f := wire.Fail("start the process", errno)
		if len(pr.Seccomp) > 0 && !p.filtersChild() && errno != unix.ENOMEM && errno != unix.EAGAIN {
			f.Text = errno.Error() + ": the seccomp profile has to allow clone, unless there is no-new-privileges"
		}
		return f
	}
	_ = unix.Close(p.line[1])
	// It is a zombie at most until its parent is told of it.
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return wire.Fail("start the process", err)
	}
	if err := wire.SendJSON(control, wire.Started, wire.StartedBody{PID: pid}); err != nil {
		os.Exit(1)
	}
	f := p.see(pidfd, call)
	if f != nil && unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) == nil {
		ended := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		for ended[0].Revents == 0 {
			_, _ = unix.Poll(ended, -1)
		}
	}
	return f
}

// see has the child go when it may.
func (p *process) see(pidfd, call int) *wire.Failure {
	inside, f := p.heard(pidfd)
	if f != nil {
		return f
	}
	if monitorGone() {
		os.Exit(1)
	}
	if p.oci.start >= 0 {
		if err := p.report(wire.Ready, p.master); err != nil {
			return wire.Fail("report", err)
		}
		p.awaitStart(pidfd)
	}
	if h := p.plan.Hooks; h != nil && len(h.StartContainer) > 0 {
		p.descent.inside = inside
		if _, err := unix.Write(call, []byte{0}); err != nil {
			return wire.Fail("run hooks", err)
		}
		if f := <-p.descent.hooked; f != nil {
			return f
		}
		ended := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		n, err := unix.Poll(ended, 0)
		for err == unix.EINTR {
			n, err = unix.Poll(ended, 0)
		}
		if n == 0 && p.oci.start >= 0 {
			_ = wire.Send(control, wire.Ready, nil)
		}
	}
	if err := unix.Send(p.line[0], []byte{0}, unix.MSG_NOSIGNAL); err != nil && err != unix.EPIPE {
		return wire.Fail("let the process go", err)
	}
	_, f = p.heard(pidfd)
	return f
}

// filtersChild tells whether the child loads the filter by itself, so that it
// need not allow what its maker does; a filter that an agent is told of, or that
// hooks are to run under, the maker loads.
func (p *process) filtersChild() bool {
	pr, h := &p.plan.Process, p.plan.Hooks
	return len(pr.Seccomp) > 0 && pr.NoNewPrivs && p.oci.notify < 0 && (h == nil || len(h.StartContainer) == 0)
}

// heard waits for the child's next word, which is a failure or its number; it
// has none left when it has become the command, or has ended.
func (p *process) heard(pidfd int) (int, *wire.Failure) {
	fds := []unix.PollFd{{Fd: int32(p.line[0]), Events: unix.POLLIN}, {Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return 0, wire.Fail("wait for the process", err)
		}
		if fds[0].Revents == 0 && fds[1].Revents == 0 {
			continue
		}
		word := make([]byte, 8)
		// Somebody of the container's may have made off with the child's end.
		if fds[0].Revents == 0 {
			return 0, nil
		}
		if n, err := unix.Read(p.line[0], word); err != nil || n < len(word) {
			return 0, nil
		}
		step, number := binary.NativeEndian.Uint32(word), binary.NativeEndian.Uint32(word[4:])
		switch {
		case step == stepReady:
			return int(number), nil
		case step == stepExec:
			return 0, failedExec(p.plan.Process.Args[0], syscall.Errno(number))
		}
		return 0, wire.Fail(stepNames[min(step, stepExec)], syscall.Errno(number))
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
// would be the door to us. It returns in the parent only, whose attendant is
// called; what a filter is as good as sure to allow does it.
//
//go:nosplit
//go:norace
func (d *descent) clone() {
	pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, unix.CLONE_PARENT|uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if pid == 0 && errno == 0 {
		d.become()
	}
	if errno != 0 {
		pid = -uintptr(errno)
	}
	d.pid.Store(int64(pid))
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, d.call, uintptr(unsafe.Pointer(&d.answer)), 1)
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOSE, d.line, 0, 0)
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
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOSE, d.call, 0, 0)
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
	pid, _, _ := syscall.RawSyscall(syscall.SYS_GETPID, 0, 0, 0)
	d.tell(stepReady, uint32(pid))
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
	d.step = stepLimits
	for i := range d.limits {
		l := &d.limits[i]
		if _, _, errno = syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, uintptr(l.Resource), uintptr(unsafe.Pointer(&l.Soft)), 0, 0, 0); errno != 0 {
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
