package serve

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
)

// newborn is a child that is born into a cgroup of version 2 which anybody may freeze at
// any time: it then stands still before its first instruction. syscall.ForkExec waits for
// the exec (vfork(2)), and the monitor would stand still, too; this is fork(2). Until its
// exec the child has what the monitor has open.
//
// It is a copy of one thread of a Go program, and can call nothing of the runtime's.
type newborn struct {
	args       cloneArgs
	path       *byte
	argv, envp **byte
	files      []int // by number, none below their count; -1 is closed
	control    int   // the number of the one on which it tells failure
	failure    []byte
	pidfd      int32
}

// cloneArgs is struct clone_args of linux/sched.h.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// failure is the message of a newborn whose exec has failed, but for the digits of the
// error's number, which it writes at its end.
const (
	unnumbered = "error 000"
	afterwards = len(`"}`)
)

// bear starts a program in a cgroup, and in the new namespaces that flags name, as
// syscall.ForkExec does, and does not wait for the exec: how that fails is a message
// through the child's descriptor control. The soft limit of descriptors, which the Go
// runtime has raised, is not put back: the plan of a process has its own.
func bear(path string, args, env []string, files []uintptr, control int, flags uintptr, cgroup int) (pid, pidfd int, err error) {
	b := &newborn{control: control, pidfd: -1, args: cloneArgs{
		// The handlers of a Go program need its runtime, too.
		flags:      uint64(flags) | unix.CLONE_INTO_CGROUP | unix.CLONE_PIDFD | unix.CLONE_CLEAR_SIGHAND,
		exitSignal: uint64(unix.SIGCHLD), cgroup: uint64(cgroup),
	}}
	if b.path, err = unix.BytePtrFromString(path); err != nil {
		return 0, -1, err
	}
	argv, err := syscall.SlicePtrFromStrings(args)
	if err != nil {
		return 0, -1, err
	}
	envp, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return 0, -1, err
	}
	b.argv, b.envp = &argv[0], &envp[0]
	b.failure, err = wire.Packet(wire.Failed, wire.Failure{Step: "start exec", Errno: unix.EAGAIN, Text: "execve: " + unnumbered})
	if err != nil {
		return 0, -1, err
	}
	for _, file := range files {
		fd := int(file)
		if fd >= 0 && fd < len(files) { // another may come to its place first
			if fd, err = unix.FcntlInt(file, unix.F_DUPFD_CLOEXEC, len(files)); err != nil {
				return 0, -1, err
			}
			defer unix.Close(fd)
		}
		b.files = append(b.files, fd)
	}
	if pid, errno := b.clone(); errno == 0 {
		return int(pid), int(b.pidfd), nil
	} else {
		return 0, -1, errno
	}
}

// clone returns in the parent only.
//
//go:nosplit
//go:norace
func (b *newborn) clone() (pid uintptr, errno syscall.Errno) {
	b.args.pidfd = uint64(uintptr(unsafe.Pointer(&b.pidfd)))
	pid, _, errno = syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&b.args)), unsafe.Sizeof(b.args), 0)
	if pid == 0 && errno == 0 {
		b.become()
	}
	return pid, errno
}

// become is the child's life until its exec.
//
//go:nosplit
//go:norace
func (b *newborn) become() {
	var errno syscall.Errno
	for i := 0; i < len(b.files) && errno == 0; i++ {
		if b.files[i] < 0 {
			_, _, _ = syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(i), 0, 0)
		} else {
			_, _, errno = syscall.RawSyscall(syscall.SYS_DUP3, uintptr(b.files[i]), uintptr(i), 0)
		}
	}
	if errno == 0 {
		_, _, errno = syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(b.path)), uintptr(unsafe.Pointer(b.argv)), uintptr(unsafe.Pointer(b.envp)))
	}
	for i, n := len(b.failure)-afterwards-1, errno; n > 0; i, n = i-1, n/10 {
		b.failure[i] = byte('0' + n%10)
	}
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, uintptr(b.control), uintptr(unsafe.Pointer(&b.failure[0])), uintptr(len(b.failure)))
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
	}
}
