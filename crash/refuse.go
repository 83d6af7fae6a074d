package main

import (
	"encoding/binary"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errnos are the errors that calls can be made to fail with: a disk that is full
// or fails, memory, descriptors and processes that are used up, and a signal that
// came in between.
var errnos = []unix.Errno{unix.ENOSPC, unix.EIO, unix.ENOMEM, unix.EMFILE, unix.EAGAIN, unix.EINTR}

func errnoOf(name string) (unix.Errno, bool) {
	at := slices.IndexFunc(errnos, func(e unix.Errno) bool { return unix.ErrnoName(e) == name })
	return errnos[max(at, 0)], at >= 0
}

func names(errnos []unix.Errno) string {
	all := make([]string, len(errnos))
	for i, e := range errnos {
		all[i] = unix.ErrnoName(e)
	}
	return strings.Join(all, ", ")
}

// refusable is a system call that may fail.
type refusable struct {
	name string
	nr   int
	with string // names of errors
	// disk are those of a call on a file of a disk, which is its first descriptor.
	disk string
}

const (
	onDisk      = "ENOSPC EIO ENOMEM"
	ofDisk      = "EIO ENOMEM"
	descriptor  = "EMFILE ENOMEM"
	interrupted = "EINTR"
)

// refusables are the calls that nobody may rely on. Without memory, a thread or
// what the Go runtime waits by (epoll_create1, eventfd2) a program can only die.
var refusables = append([]refusable{
	{"openat", unix.SYS_OPENAT, "EIO EMFILE ENOMEM EINTR", ""}, {"openat2", unix.SYS_OPENAT2, "EIO EMFILE ENOMEM", ""},
	{"mkdirat", unix.SYS_MKDIRAT, onDisk, ""}, {"mknodat", unix.SYS_MKNODAT, onDisk, ""}, {"symlinkat", unix.SYS_SYMLINKAT, onDisk, ""},
	{"linkat", unix.SYS_LINKAT, onDisk, ""}, {"renameat", unix.SYS_RENAMEAT, onDisk, ""}, {"renameat2", unix.SYS_RENAMEAT2, onDisk, ""},
	{"setxattr", unix.SYS_SETXATTR, onDisk, ""}, {"lsetxattr", unix.SYS_LSETXATTR, onDisk, ""}, {"fsetxattr", unix.SYS_FSETXATTR, "", onDisk},
	{"unlinkat", unix.SYS_UNLINKAT, ofDisk, ""}, {"readlinkat", unix.SYS_READLINKAT, ofDisk, ""}, {"statx", unix.SYS_STATX, ofDisk, ""},
	{"statfs", unix.SYS_STATFS, ofDisk, ""}, {"fchownat", unix.SYS_FCHOWNAT, ofDisk, ""}, {"fchmodat", unix.SYS_FCHMODAT, ofDisk, ""}, {"utimensat", unix.SYS_UTIMENSAT, ofDisk, ""},
	{"write", unix.SYS_WRITE, "", onDisk}, {"pwrite64", unix.SYS_PWRITE64, "", onDisk}, {"writev", unix.SYS_WRITEV, "", onDisk},
	{"fsync", unix.SYS_FSYNC, "", onDisk}, {"fdatasync", unix.SYS_FDATASYNC, "", onDisk}, {"ftruncate", unix.SYS_FTRUNCATE, "", onDisk},
	{"fallocate", unix.SYS_FALLOCATE, "", onDisk + " EINTR"}, {"copy_file_range", unix.SYS_COPY_FILE_RANGE, "", onDisk}, {"sendfile", unix.SYS_SENDFILE, "", onDisk},
	{"read", unix.SYS_READ, "", ofDisk}, {"pread64", unix.SYS_PREAD64, "", ofDisk}, {"getdents64", unix.SYS_GETDENTS64, "", ofDisk},
	{"fchmod", unix.SYS_FCHMOD, "", ofDisk}, {"fchown", unix.SYS_FCHOWN, "", ofDisk}, {"fstat", unix.SYS_FSTAT, "", ofDisk},
	{"socket", unix.SYS_SOCKET, descriptor, ""}, {"socketpair", unix.SYS_SOCKETPAIR, descriptor, ""}, {"pipe2", unix.SYS_PIPE2, descriptor, ""},
	{"dup", unix.SYS_DUP, descriptor, ""}, {"fcntl", unix.SYS_FCNTL, "EMFILE", ""},
	{"accept4", unix.SYS_ACCEPT4, descriptor + " EINTR", ""}, {"pidfd_open", unix.SYS_PIDFD_OPEN, descriptor, ""},
	{"signalfd4", unix.SYS_SIGNALFD4, descriptor, ""}, {"timerfd_create", unix.SYS_TIMERFD_CREATE, descriptor, ""}, {"memfd_create", unix.SYS_MEMFD_CREATE, descriptor, ""},
	{"inotify_init1", unix.SYS_INOTIFY_INIT1, descriptor, ""}, {"fsopen", unix.SYS_FSOPEN, descriptor, ""}, {"fsmount", unix.SYS_FSMOUNT, descriptor, ""},
	{"open_tree", unix.SYS_OPEN_TREE, descriptor, ""}, {"mount", unix.SYS_MOUNT, "ENOMEM", ""}, {"umount2", unix.SYS_UMOUNT2, "ENOMEM", ""},
	{"fsconfig", unix.SYS_FSCONFIG, "ENOMEM", ""}, {"move_mount", unix.SYS_MOVE_MOUNT, "ENOMEM", ""}, {"mount_setattr", unix.SYS_MOUNT_SETATTR, "ENOMEM", ""},
	{"pivot_root", unix.SYS_PIVOT_ROOT, "ENOMEM", ""}, {"chroot", unix.SYS_CHROOT, "ENOMEM", ""}, {"setns", unix.SYS_SETNS, "ENOMEM", ""}, {"unshare", unix.SYS_UNSHARE, "ENOMEM", ""},
	{"clone", unix.SYS_CLONE, "ENOMEM EAGAIN", ""}, {"clone3", unix.SYS_CLONE3, "ENOMEM EAGAIN", ""}, {"execve", unix.SYS_EXECVE, "ENOMEM EAGAIN EIO EMFILE", ""},
	{"prctl", unix.SYS_PRCTL, "ENOMEM", ""}, {"seccomp", unix.SYS_SECCOMP, "ENOMEM", ""}, {"bpf", unix.SYS_BPF, "ENOMEM", ""},
	{"sendmsg", unix.SYS_SENDMSG, "ENOMEM EINTR", ""}, {"sendto", unix.SYS_SENDTO, "ENOMEM EINTR", ""}, {"recvmsg", unix.SYS_RECVMSG, "ENOMEM EINTR", ""}, {"recvfrom", unix.SYS_RECVFROM, "ENOMEM EINTR", ""},
	{"connect", unix.SYS_CONNECT, "ENOMEM EAGAIN EINTR", ""}, {"bind", unix.SYS_BIND, "ENOMEM", ""}, {"listen", unix.SYS_LISTEN, "ENOMEM", ""}, {"setsockopt", unix.SYS_SETSOCKOPT, "ENOMEM", ""},
	{"flock", unix.SYS_FLOCK, "ENOMEM EINTR", ""}, {"wait4", unix.SYS_WAIT4, interrupted, ""}, {"waitid", unix.SYS_WAITID, interrupted, ""},
	{"epoll_pwait", unix.SYS_EPOLL_PWAIT, interrupted, ""}, {"ppoll", unix.SYS_PPOLL, interrupted, ""},
}, oldRefusables...)

// call is a system call that a thread is stopped before, or after: ptrace(2)'s
// struct ptrace_syscall_info.
type call [88]byte

const (
	getSyscallInfo = 0x420e
	setSyscallInfo = 0x4212 // since Linux 6.16
)

func (c *call) number() int        { return int(binary.NativeEndian.Uint64(c[24:])) }
func (c *call) arg(i int) uint64   { return binary.NativeEndian.Uint64(c[32+8*i:]) }
func (c *call) setNumber(n uint64) { binary.NativeEndian.PutUint64(c[24:], n) }

func (c *call) ask(request, tid int) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), unsafe.Sizeof(*c), uintptr(unsafe.Pointer(c)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// skip has the kernel not make the call that the thread is stopped before.
func (c *call) skip(tid int) error {
	c.setNumber(^uint64(0))
	return c.ask(setSyscallInfo, tid)
}

// fail has the call that the thread is stopped after, and that was skipped, end
// with an error.
func fail(tid int, errno unix.Errno) error {
	var c call
	if err := c.ask(getSyscallInfo, tid); err != nil {
		return err
	}
	c.setNumber(-uint64(errno)) // what it gives has the same place
	c[32] = 1
	return c.ask(setSyscallInfo, tid)
}

// may tells whether the call, of a process, may fail so, and its name.
func (c *call) may(pid int, errno unix.Errno) (name string, ok bool) {
	nr := c.number()
	at := slices.IndexFunc(refusables, func(r refusable) bool { return r.nr == nr })
	if at < 0 {
		return "", false
	}
	r, word := refusables[at], unix.ErrnoName(errno)
	has := func(list string) bool { return slices.Contains(strings.Fields(list), word) }
	switch {
	case nr == unix.SYS_FCNTL:
		return r.name, has(r.with) && c.arg(1) == unix.F_DUPFD_CLOEXEC
	case nr == unix.SYS_CLONE:
		return r.name, has(r.with) && c.arg(0)&unix.CLONE_THREAD == 0
	case nr == unix.SYS_OPENAT && errno == unix.ENOSPC:
		return r.name, c.arg(2)&unix.O_CREAT != 0 || c.arg(2)&unix.O_TMPFILE == unix.O_TMPFILE
	}
	return r.name, has(r.with) || has(r.disk) && onADisk(descriptorOf(pid, c.arg(0)))
}

// onADisk tells whether a file may be on one that is full or fails.
func onADisk(file string) bool {
	return strings.HasPrefix(file, "/") && !slices.ContainsFunc([]string{"/dev/", "/proc/", "/sys/", "/memfd:"}, func(dir string) bool { return strings.HasPrefix(file, dir) })
}

func descriptorOf(pid int, fd uint64) string {
	name, _ := os.Readlink("/proc/" + strconv.Itoa(pid) + "/fd/" + strconv.Itoa(int(int32(fd))))
	return name
}

// describe says what a call is about, as far as that is to be seen.
func (c *call) describe(tid int, name string) string {
	if file := descriptorOf(tid, c.arg(0)); file != "" {
		name += " " + file
	}
	for i := range 2 { // a path is the first argument or the second
		var text [200]byte
		n, _ := unix.PtracePeekData(tid, uintptr(c.arg(i)), text[:])
		if path, _, ended := strings.Cut(string(text[:n]), "\x00"); ended && strings.Contains(path, "/") && strings.IndexFunc(path, unicode.IsControl) < 0 {
			name += " " + path
		}
	}
	return name
}
