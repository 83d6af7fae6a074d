package ctrinit

import (
	"encoding/json"
	"os"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/ownthread"
	"github.com/cove-engine/cove/internal/plan"
)

// Runtime is Main for the OCI runtime's program, whose socket is the
// descriptor socket. Other than the monitor's, this parent does not stay: init
// and exec outlive it, once it has said Go, and init then waits for a start.
//
//	create                    init                     start
//	 | clone, exec             |                         |
//	 | Prepare + plan, mounts  |                         |
//	 |------------------------>| mounts …                |
//	 |                 Mounted |                         |
//	 |<------------------------| when hooks want it      |
//	 | Go                      |                         |
//	 |------------------------>| hooks, root             |
//	 |                   Ready |                         |
//	 |<------------------------|                         |
//	 | Go: it is recorded      |                         |
//	 |------------------------>| accepts                 |
//	                           |<------------------------| connects, Go
//	                           | hooks; Ready after any  |
//	                           |------------------------>|
//	                           | exec: the socket closes |
//	                           |- - - - - - - - - - - - >|
//
// Where others are in the process namespace that is to be joined, init says
// Started before Ready: another process is the container's from then on, which
// only waits, while init does the waiting for start (see descend).
func Runtime(socket int) {
	runtime.LockOSThread()
	control = socket
	p := newProcess()
	failure := p.live()
	_ = wire.SendJSON(control, wire.Failed, failure)
	os.Exit(1)
}

// Refuse tells that the process did not begin as it should have.
func Refuse(socket int, err error) {
	_ = wire.SendJSON(socket, wire.Failed, wire.Fail("join namespaces", err))
	os.Exit(1)
}

// live returns only when something failed.
func (p *process) live() *wire.Failure {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return wire.Fail("hide from the container", err)
	}
	unix.CloseOnExec(control)
	isExec, f := p.prepare()
	if f != nil {
		return f
	}
	o := p.plan.OCI
	if o == nil {
		return &wire.Failure{Step: "read the plan", Text: "it is not the OCI runtime's"}
	}
	if _, err := unix.Setsid(); err != nil && err != unix.EPERM {
		return wire.Fail("setsid", err)
	}
	if o.Keyring != "" {
		if err := joinKeyring(o.Keyring); err != nil {
			return wire.Fail("make session keyring", err)
		}
	}
	if f := p.timeNamespace(); f != nil {
		return f
	}
	if !isExec {
		if f := p.enterRoot(); f != nil {
			return f
		}
		if f := p.joinProcesses(); f != nil {
			return f
		}
	}
	p.leaveHost()
	plainSignals(p.descends)
	master := -1
	if p.plan.Process.Terminal {
		if master, f = p.openTerminal(!isExec); f != nil {
			return f
		}
	}
	p.setHome()
	if f := p.enterWorkDir(); f != nil {
		return f
	}
	if f := p.checkCommand(); f != nil {
		return f
	}
	if f := p.checkCapabilities(); f != nil {
		return f
	}
	if f := p.schedule(); f != nil {
		return f
	}
	if p.descends && !isExec {
		p.master = master
		return p.exec() // where the rest is said and heard
	}
	if err := p.report(wire.Ready, master); err != nil {
		return wire.Fail("report", err)
	}
	if !isExec {
		p.awaitStart(-1)
	}
	return p.exec()
}

// report tells the runtime something and waits for its word.
func (p *process) report(kind wire.Kind, master int) error {
	var err error
	if master >= 0 {
		err = wire.Send(control, kind, nil, master)
		_ = unix.Close(master)
	} else {
		err = wire.Send(control, kind, nil)
	}
	if err != nil {
		return err
	}
	buf := make([]byte, 64)
	if k, _, _, err := wire.Receive(control, buf); err != nil || k != wire.Go {
		os.Exit(1) // called off
	}
	return nil
}

// awaitStart waits for a start, which from then on is told what fails, or for
// the end of the process of pidfd, -1 for none.
func (p *process) awaitStart(pidfd int) {
	buf := make([]byte, 64)
	for {
		fds := []unix.PollFd{{Fd: int32(p.oci.start), Events: unix.POLLIN}, {Fd: int32(pidfd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		} else if err != nil || fds[1].Revents != 0 {
			os.Exit(1)
		}
		fd, _, err := unix.Accept4(p.oci.start, unix.SOCK_CLOEXEC)
		if err == unix.EINTR || err == unix.ECONNABORTED {
			continue
		}
		if err != nil {
			os.Exit(1)
		}
		if k, _, _, err := wire.Receive(fd, buf); err == nil && k == wire.Go {
			control = fd
			return
		}
		_ = unix.Close(fd) // killed before it said so
	}
}

// handed are the descriptors that only the OCI runtime sends.
type handed struct {
	mounts  []int
	root    int // of the container that an exec is for, if it is no namespace's
	start   int
	waiting int // held, no more
	notify  int
}

// take sorts descriptors by their names.
func (h *handed) take(names []string, from *received) *wire.Failure {
	for _, name := range names {
		fd, f := from.next("receive the plan")
		if f != nil {
			return f
		}
		switch name {
		case "mount":
			h.mounts = append(h.mounts, fd)
		case "root":
			h.root = fd
		case "start":
			h.start = fd
		case "waiting":
			h.waiting = fd
		case "notify":
			h.notify = fd
		}
	}
	return nil
}

func (h *handed) mount(n int) (int, error) {
	if n < 1 || n > len(h.mounts) {
		return -1, unix.EBADF
	}
	return h.mounts[n-1], nil
}

// Detached makes a bind mount for an init that cannot: one of a user namespace
// may neither reach every source nor map its owners. users is the user
// namespace of an idmapped mount, -1 without.
func Detached(m *plan.Mount, users int) (int, error) {
	early := *m
	if early.Propagation == 0 {
		// What is mounted below it later must not reach the host.
		early.Propagation, early.PropagationRec = unix.MS_SLAVE, true
	}
	fd, _, err := detached(&early)
	if err != nil || users < 0 {
		return fd, err
	}
	var flags uint
	if m.IDMap.Recursive {
		flags = unix.AT_RECURSIVE
	}
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(users)})
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// handedRoot attaches the root that came with the plan. Its own path may be
// out of reach, but any place will do: it becomes the root, and the place goes
// with the old one. Without a mount namespace no other does, which is the host's.
func (p *process) handedRoot() (int, *wire.Failure) {
	r := &p.plan.Root
	fd, err := p.oci.mount(r.Handed)
	if err != nil {
		return -1, wire.Fail("mount root "+r.Path, err)
	}
	err = unix.MoveMount(fd, "", unix.AT_FDCWD, r.Path, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if (err == unix.EACCES || err == unix.ENOENT) && !p.plan.OCI.Chroot {
		err = moveOnto(fd, p.proc)
	}
	if err != nil {
		return -1, wire.Fail("mount root "+r.Path, err)
	}
	return fd, nil
}

// changeRoot is pivotRoot where a spec wants it otherwise. The working
// directory is the new root.
func (p *process) changeRoot() *wire.Failure {
	o := p.plan.OCI
	switch {
	case o.Chroot:
		if f := chroot(); f != nil {
			return f
		}
	case o.NoPivot:
		if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
			return wire.Fail("move the root", err)
		}
		if f := chroot(); f != nil {
			return f
		}
	default:
		if f := pivotRoot(); f != nil {
			return f
		}
	}
	if o.DevReadOnly {
		if err := unix.MountSetattr(unix.AT_FDCWD, "/dev", unix.AT_SYMLINK_NOFOLLOW, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return wire.Fail("make /dev read-only", err)
		}
	}
	if o.Propagation != 0 {
		if err := unix.Mount("", "/", "", uintptr(o.Propagation), ""); err != nil {
			return wire.Fail("set the propagation of the root", err)
		}
	}
	return nil
}

func chroot() *wire.Failure {
	if err := unix.Chroot("."); err != nil {
		return wire.Fail("chroot", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return wire.Fail("enter /", err)
	}
	return nil
}

// setHome adds HOME where a spec has none, or an empty one, as every runtime does.
func (p *process) setHome() {
	pr := &p.plan.Process
	pr.Env = slices.DeleteFunc(pr.Env, func(e string) bool { return e == "HOME=" })
	if hasHome(pr.Env) {
		return
	}
	home := "/"
	if entry := findUser(readDatabase(-1, "/etc/passwd"), pr.UID); entry != nil && entry[5] != "" {
		home = entry[5]
	}
	pr.Env = append(pr.Env, "HOME="+home)
}

// checkCommand tells at create what exec would say at start, for the sake of
// those who ask then. access(2) asks for the real user; exec sets it for good.
func (p *process) checkCommand() *wire.Failure {
	pr := &p.plan.Process
	if !pr.KeepGroups {
		_ = setgroups(pr.GIDs) // exec tells if it fails
	}
	none := ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(pr.GID), none, none); errno != 0 {
		return wire.Fail("set group", errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(pr.UID), none, none); errno != 0 {
		return wire.Fail("set user", errno)
	}
	name, f := lookPath(pr.Args, pr.Env)
	if f != nil {
		return f
	}
	var st unix.Stat_t
	err := unix.Stat(name, &st)
	if err == nil {
		err = unix.Access(name, unix.X_OK)
	}
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = unix.EACCES
	}
	if err != nil {
		f = wire.Fail("exec "+pr.Args[0], err)
		f.Exec = true
		f.NoFile = err == unix.ENOENT || err == unix.ENOTDIR
	}
	return f
}

// checkCapabilities tells at create what exec would say at start of capabilities
// that this process has not itself: it tries on another thread.
func (p *process) checkCapabilities() *wire.Failure {
	c := p.plan.Process.Caps
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var own [2]unix.CapUserData
	if err := unix.Capget(&header, &own[0]); err != nil {
		return wire.Fail("get capabilities", err)
	}
	permitted := uint64(own[0].Permitted) | uint64(own[1].Permitted)<<32
	if (c.Permitted|c.Inheritable)&^permitted == 0 && c.Effective&^c.Permitted == 0 && c.Inheritable&^c.Bounding == 0 {
		return nil
	}
	f, _ := ownthread.Run(func() (*wire.Failure, error) {
		if f := dropBounding(c.Bounding); f != nil {
			return f, nil
		}
		if err := setCapabilities(c); err != nil {
			return wire.Fail("set capabilities", err), nil
		}
		return nil, nil
	})
	return f
}

// timeNamespace makes one that exec enters (since Linux 6.3 whatever the way
// the process was made), and sets its clocks while nobody is in it.
func (p *process) timeNamespace() *wire.Failure {
	o := p.plan.OCI
	if !o.TimeNS {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return wire.Fail("make time namespace", err)
	}
	if len(o.TimeOffsets) == 0 {
		return nil
	}
	buf := make([]byte, 64)
	n, err := unix.Readlinkat(p.proc, "self", buf)
	if err != nil {
		return wire.Fail("set time offsets", err)
	}
	fd, err := p.openBeneath(string(buf[:n])+"/timens_offsets", unix.O_WRONLY)
	if err != nil {
		return wire.Fail("set time offsets", err)
	}
	defer unix.Close(fd)
	for _, line := range o.TimeOffsets {
		if _, err := unix.Write(fd, []byte(line)); err != nil {
			return wire.Fail("set time offset "+line, err)
		}
	}
	return nil
}

// awaitListener readies another thread to send the filter's listener to the
// agent: the one that loads the filter may not be allowed to any more. What
// it needs itself are read and write, which the profile's compiler keeps from
// being asked about. Nothing is done without an agent.
func (h *handed) awaitListener(o *plan.OCI) (give func(listener int) *wire.Failure, err error) {
	if h.notify < 0 || o == nil {
		return nil, nil
	}
	state := o.State
	state.Status = "creating"
	text, err := json.Marshal(struct {
		Version  string         `json:"ociVersion"`
		FDs      []string       `json:"fds"`
		PID      int            `json:"pid"`
		Metadata string         `json:"metadata,omitempty"`
		State    plan.HookState `json:"state"`
	}{state.Version, []string{"seccompFd"}, state.PID, o.NotifyMetadata, state})
	if err != nil {
		return nil, err
	}
	var there, back [2]int
	if err := unix.Pipe2(there[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	if err := unix.Pipe2(back[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	go func() {
		runtime.LockOSThread()
		buf := make([]byte, 16)
		n, err := unix.Read(there[0], buf)
		if err != nil || n == 0 {
			return
		}
		listener, _ := strconv.Atoi(string(buf[:n]))
		answer := []byte{0}
		if err := unix.Sendmsg(h.notify, text, unix.UnixRights(listener), nil, unix.MSG_NOSIGNAL); err != nil {
			answer[0] = 1
		}
		_ = unix.Close(listener)
		_, _ = unix.Write(back[1], answer)
	}()
	return func(listener int) *wire.Failure {
		if _, err := unix.Write(there[1], []byte(strconv.Itoa(listener))); err != nil {
			return wire.Fail("send the seccomp listener", err)
		}
		answer := make([]byte, 1)
		if n, err := unix.Read(back[0], answer); err != nil || n != 1 || answer[0] != 0 {
			return &wire.Failure{Step: "send the seccomp listener", Text: "the agent did not take it"}
		}
		return nil
	}, nil
}
