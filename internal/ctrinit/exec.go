package ctrinit

import (
	"cmp"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/plan"
	"github.com/cove-engine/cove/internal/sysmon"
)

// exec becomes the user's command. Each step takes something away; the order
// is forced by what the next one still needs.
func (p *process) exec() *wire.Failure {
	pr := &p.plan.Process
	if p.descends {
		if f := p.openLine(); f != nil {
			return f
		}
	}
	for _, r := range pr.Rlimits {
		if err := p.limit(r); err != nil {
			return wire.Fail("set rlimit "+rlimitName(r.Resource), err)
		}
	}
	if err := sysmon.Exact(); err != nil {
		return wire.Fail("set timer slack", err)
	}
	if f := p.writeLabel(); f != nil {
		return f
	}
	if f := p.giveStreams(); f != nil {
		return f
	}
	// Nothing of ours is left open for the command but what was asked for.
	if err := unix.CloseRange(uint(3+pr.KeepFDs), ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return wire.Fail("close descriptors", err)
	}
	if p.descends && p.oci.notify < 0 {
		if f := p.part(); f != nil {
			return f
		}
	}
	if pr.Umask != nil {
		unix.Umask(int(*pr.Umask))
	} else {
		unix.Umask(0o022)
	}
	if f := dropBounding(pr.Caps.Bounding); f != nil {
		return f
	}
	// Without no_new_privs, loading a filter takes CAP_SYS_ADMIN, seccomp(2),
	// so it comes before the capabilities go; with it, it comes last, so
	// that it need not allow the calls in between.
	if !pr.NoNewPrivs {
		if f := p.loadFilter(); f != nil {
			return f
		}
	}
	if f := p.setCredentials(); f != nil {
		return f
	}
	if pr.NoNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return wire.Fail("set no_new_privs", err)
		}
		if !p.descends || !p.filtersChild() {
			if f := p.loadFilter(); f != nil {
				return f
			}
		}
	}
	if !p.descends {
		if f := p.startHooks(os.Getpid()); f != nil {
			return f
		}
	}
	name, f := lookPath(pr.Args, pr.Env)
	if f != nil {
		return f
	}
	if p.descends {
		return p.descend(name)
	}
	if pr.Reaper {
		// It closes the socket when it is ready: as process 1 it would lose
		// the signals that come before it has a handler.
		if _, err := unix.FcntlInt(uintptr(control), unix.F_SETFD, 0); err != nil {
			return wire.Fail("hand the socket on", err)
		}
	}
	return failedExec(pr.Args[0], unix.Exec(name, pr.Args, pr.Env))
}

func failedExec(command string, err error) *wire.Failure {
	f := wire.Fail("exec "+command, err)
	f.Exec = true
	f.NoFile = err == unix.ENOENT || err == unix.ENOTDIR
	return f
}

// limit sets a resource limit. That of processes counts all of the user's, the
// one that makes the command among them, which needs descriptors, too: they are
// the command's to lower.
func (p *process) limit(r plan.Rlimit) error {
	limit := unix.Rlimit{Cur: r.Soft, Max: r.Hard}
	if p.descends && (r.Resource == unix.RLIMIT_NPROC || r.Resource == unix.RLIMIT_NOFILE) {
		var own unix.Rlimit
		if err := unix.Prlimit(0, r.Resource, nil, &own); err != nil {
			return err
		}
		p.descent.limits = append(p.descent.limits, r)
		limit = unix.Rlimit{Cur: max(limit.Cur, own.Cur), Max: max(limit.Max, own.Max)}
	}
	return unix.Prlimit(0, r.Resource, &limit, nil)
}

// giveStreams makes the user owner of the standard streams, so that
// /dev/stdout can be opened again.
func (p *process) giveStreams() *wire.Failure {
	for fd := range 3 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			continue // closed
		}
		if st.Uid == p.plan.Process.UID || !toGive(fd, &st) {
			continue
		}
		err := unix.Fchown(fd, int(p.plan.Process.UID), -1)
		// A stream that came from outside may be on a file system that
		// knows no owners.
		if err != nil && err != unix.EINVAL && err != unix.EPERM && err != unix.EROFS {
			return wire.Fail("give away standard stream", err)
		}
	}
	return nil
}

// toGive tells whether a stream is the container's: a pipe, a terminal, or a file
// that it may write to. Who owns one that was opened to be read could write to it,
// too, by opening it again; and devices are everybody's.
func toGive(fd int, st *unix.Stat_t) bool {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO, unix.S_IFSOCK:
		return true
	case unix.S_IFCHR:
		_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		return err == nil
	case unix.S_IFREG:
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		return err == nil && flags&unix.O_ACCMODE != unix.O_RDONLY
	}
	return false
}

const lastCap = 63

func dropBounding(keep uint64) *wire.Failure {
	for c := range uintptr(lastCap) {
		if keep&(1<<c) != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if err == unix.EINVAL {
			break // one more than this kernel knows
		}
		if err != nil {
			return wire.Fail("drop capabilities", err)
		}
	}
	return nil
}

// setCredentials changes user, groups and capabilities of this thread alone:
// x/sys's wrappers would change every thread, which exec ends anyway.
func (p *process) setCredentials() *wire.Failure {
	pr := &p.plan.Process
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return wire.Fail("keep capabilities", err)
	}
	var errno unix.Errno
	if !pr.KeepGroups {
		errno = setgroups(pr.GIDs)
	}
	// In a user namespace that somebody without help has made, groups are
	// denied and those of the caller stay, user_namespaces(7).
	others := slices.ContainsFunc(pr.GIDs, func(g uint32) bool { return g != pr.GID })
	if errno != 0 && !(errno == unix.EPERM && !others && p.noGroups) {
		return wire.Fail("set groups", errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(pr.GID), uintptr(pr.GID), uintptr(pr.GID)); errno != 0 {
		return wire.Fail("set group", errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(pr.UID), uintptr(pr.UID), uintptr(pr.UID)); errno != 0 {
		return wire.Fail("set user", errno)
	}
	c := pr.Caps
	if err := setCapabilities(c); err != nil {
		return wire.Fail("set capabilities", err)
	}
	for n := range uintptr(lastCap) {
		if c.Ambient&(1<<n) != 0 {
			if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, n, 0, 0); err != nil {
				return wire.Fail("set ambient capabilities", err)
			}
		}
	}
	if p.plan.OCI != nil {
		return nil
	}
	return DieWithMonitor() // a change of credentials has cleared it, prctl(2)
}

func setCapabilities(c plan.Caps) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{
		{Effective: uint32(c.Effective), Permitted: uint32(c.Permitted), Inheritable: uint32(c.Inheritable)},
		{Effective: uint32(c.Effective >> 32), Permitted: uint32(c.Permitted >> 32), Inheritable: uint32(c.Inheritable >> 32)},
	}
	return unix.Capset(&header, &data[0])
}

// DieWithMonitor has the kernel end the process with the monitor's thread that
// made it.
func DieWithMonitor() *wire.Failure {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return wire.Fail("die with the monitor", err)
	}
	if monitorGone() { // it may have died before
		os.Exit(1)
	}
	return nil
}

// monitorGone tells whether its end of the socket is shut.
func monitorGone() bool {
	fds := []unix.PollFd{{Fd: int32(control), Events: unix.POLLIN}}
	n, _ := unix.Poll(fds, 0)
	return n > 0 && fds[0].Revents&unix.POLLHUP != 0
}

func (p *process) loadFilter() *wire.Failure {
	filter := p.plan.Process.Seccomp
	if len(filter) == 0 {
		return nil
	}
	give, err := p.oci.awaitListener(p.plan.OCI)
	if err != nil {
		return wire.Fail("load the seccomp filter", err)
	}
	flags := p.plan.Process.SeccompFlags
	if p.descends {
		flags &^= unix.SECCOMP_FILTER_FLAG_TSYNC // the other threads are ours alone
	}
	listener, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags), uintptr(unsafe.Pointer(program(filter))))
	if errno != 0 {
		return wire.Fail("load the seccomp filter", errno)
	}
	if give != nil {
		return give(int(listener))
	}
	return nil
}

func program(filter []byte) *unix.SockFprog {
	const instruction = 8 // sizeof(struct sock_filter)
	return &unix.SockFprog{Len: uint16(len(filter) / instruction), Filter: (*unix.SockFilter)(unsafe.Pointer(&filter[0]))}
}

// lookPath finds the command as execvp(3) does, with the container's PATH.
func lookPath(args, env []string) (string, *wire.Failure) {
	if len(args) == 0 {
		return "", &wire.Failure{Step: "exec", Text: "no command", Exec: true, NoFile: true}
	}
	name := args[0]
	if strings.Contains(name, "/") {
		return name, nil
	}
	search := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			search = v
		}
	}
	denied := false
	for dir := range strings.SplitSeq(search, ":") {
		if dir == "" {
			dir = "."
		}
		candidate := dir + "/" + name
		var st unix.Stat_t
		if unix.Stat(candidate, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		if unix.Faccessat(unix.AT_FDCWD, candidate, unix.X_OK, unix.AT_EACCESS) == nil {
			return candidate, nil
		}
		denied = true
	}
	if denied {
		return "", &wire.Failure{Step: "exec " + name, Errno: unix.EACCES, Exec: true}
	}
	// podman goes by this text.
	return "", &wire.Failure{Step: "exec " + cmp.Or(name, `""`), Text: "executable file not found in $PATH", Exec: true, NoFile: true}
}

var rlimitNames = [...]string{"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as", "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"}

func rlimitName(n int) string {
	if n < len(rlimitNames) {
		return rlimitNames[n]
	}
	return "?"
}
