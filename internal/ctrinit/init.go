// Package ctrinit is the first process of a container, from its clone to the
// exec of the user's command, and likewise the process that exec puts into a
// running container. It carries out a [plan.Plan] that somebody else has
// thought out, and reports over a socket on descriptor 3 (see
// internal/monitor/wire).
//
// What is inside the container's root file system is hostile: paths there are
// resolved by descriptor with openat2(RESOLVE_IN_ROOT), mounts are made
// detached and attached by descriptor (the mount API of Linux 5.2, and
// mount_setattr of 5.12), nothing is resolved again after it was checked.
//
// The process is a Go program with several threads; everything that concerns
// credentials and namespaces happens on its locked main thread, the one that
// calls exec.
//
// Standard library and x/sys only.
package ctrinit

import (
	"cmp"
	"io"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/coldjson"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/plan"
)

// control is the socket to the monitor. Main's argument is another number, if there
// is one.
var control = 3

// process is the state of one init or exec between its clone and its exec.
type process struct {
	plan plan.Plan
	// Descriptors of the host, opened before the root is changed.
	proc int   // the host's /proc, checked to be procfs; -1 once the host is left
	attr int   // where the LSM label for the next exec is written; -1 without
	gift []int // sources of mounts to be given to the user
	shm  int   // a detached mount for /dev/shm, another container's; -1 without
	its  int   // a detached mount for /proc, another container's; -1 without
	lock []int // mounts that become read-only when all is in its place
	// kernels are the mounts on /proc and /sys, below which paths are hidden: who
	// shares the root can exchange the directories that they are on.
	kernels map[string]int
	// shared are mounts that were made before the others, by shareWithHost.
	shared map[*plan.Mount]int
	// noGroups says that the user namespace denies setgroups(2).
	noGroups bool
	// descends says that the command is born into a process namespace that
	// others are in, see descend, and what follows is for that: the namespace
	// while it is not joined yet, -1 then, the connection to the command's
	// process, and the terminal's master, which is given away late.
	descends bool
	born     int
	line     [2]int
	descent  *descent
	master   int
	oci      handed
}

func newProcess() *process {
	return &process{
		kernels: map[string]int{}, proc: -1, attr: -1, shm: -1, its: -1, born: -1, master: -1,
		oci: handed{root: -1, start: -1, waiting: -1, notify: -1},
	}
}

// Main is the whole life of the process; it does not return. Its caller has
// locked the main thread.
func Main() {
	runtime.LockOSThread()
	if len(os.Args) > 1 { // behind descriptors that are the command's
		control, _ = strconv.Atoi(os.Args[1])
	}
	p := newProcess()
	failure := p.run()
	// Whoever cannot be told is gone, and then nobody waits for an answer.
	_ = wire.SendJSON(control, wire.Failed, failure)
	os.Exit(1)
}

// run returns only when something failed.
func (p *process) run() *wire.Failure {
	// Invisible to ptrace and /proc/PID/{exe,fd,mem} from inside until exec.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return wire.Fail("hide from the container", err)
	}
	unix.CloseOnExec(control)
	if f := DieWithMonitor(); f != nil {
		return f
	}
	// Out of the monitor's process group: kill(0) knows no namespaces.
	if _, err := unix.Setsid(); err != nil {
		return wire.Fail("setsid", err)
	}
	master := -1
	isExec, f := p.prepare()
	if f != nil {
		return f
	}
	if pr := &p.plan.Process; !pr.NoKeyring {
		if err := joinKeyring(cmp.Or(pr.Keyring, "_ses")); err != nil {
			return wire.Fail("make session keyring", err)
		}
	}
	if !isExec {
		if f := p.openGifts(); f != nil {
			return f
		}
		if f := p.enterRoot(); f != nil {
			return f
		}
		if f := p.joinProcesses(); f != nil {
			return f
		}
	}
	p.leaveHost()
	plainSignals(p.descends)
	if p.plan.Process.Terminal {
		if master, f = p.openTerminal(!isExec); f != nil {
			return f
		}
	}
	if f := p.resolveUser(); f != nil {
		return f
	}
	if f := p.giveAway(); f != nil {
		return f
	}
	if f := p.enterWorkDir(); f != nil {
		return f
	}
	var err error
	if master >= 0 {
		err = wire.Send(control, wire.Ready, nil, master)
		_ = unix.Close(master)
	} else {
		err = wire.Send(control, wire.Ready, nil)
	}
	if err != nil {
		return wire.Fail("report", err)
	}
	buf := make([]byte, 64)
	kind, _, _, err := wire.Receive(control, buf)
	if err != nil || kind != wire.Go {
		os.Exit(1) // called off
	}
	return p.exec()
}

// prepare receives the plan and joins the namespaces that came with it.
func (p *process) prepare() (isExec bool, f *wire.Failure) {
	buf := make([]byte, 4096)
	kind, body, fds, err := wire.Receive(control, buf)
	if err == io.EOF {
		os.Exit(1) // called off
	}
	if err != nil || kind != wire.Prepare || len(fds) == 0 {
		return false, wire.Fail("receive the plan", err)
	}
	var msg wire.PrepareBody
	if err := coldjson.Unmarshal(body, &msg); err != nil {
		return false, wire.Fail("read the plan's message", err)
	}
	data, err := ReadAll(fds[0])
	_ = unix.Close(fds[0])
	if err != nil {
		return false, wire.Fail("read the plan", err)
	}
	if err := coldjson.Unmarshal(data, &p.plan); err != nil {
		return false, &wire.Failure{Step: "read the plan", Text: err.Error()}
	}
	if p.plan.Version > plan.Version {
		return false, &wire.Failure{Step: "read the plan", Text: "it was made by a newer cove"}
	}
	if f := joinCgroups(msg.Cgroups); f != nil {
		return false, f
	}
	if p.proc, err = openProc(); err != nil {
		return false, wire.Fail("open /proc", err)
	}
	if err := p.openLabel(); err != nil {
		return false, wire.Fail("open the security label", err)
	}
	if adj := p.plan.Process.OOMScoreAdj; adj != nil {
		if f := p.setOOMScore(*adj); f != nil {
			return false, f
		}
	}
	rest := received(fds[1:])
	var fd int
	for _, flag := range msg.Namespaces {
		if fd, f = rest.next("join namespaces"); f != nil {
			return false, f
		}
		if flag == unix.CLONE_NEWPID {
			p.born, p.descends = fd, true
			continue
		}
		if flag == unix.CLONE_NEWNS {
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return false, wire.Fail("join mount namespace", err)
			}
		}
		if err := unix.Setns(fd, flag); err != nil {
			return false, wire.Fail("join "+namespaceName(flag)+" namespace", err)
		}
		_ = unix.Close(fd)
	}
	if msg.Shm {
		if fd, f = rest.next("join shared memory"); f != nil {
			return false, f
		}
		if p.shm, err = p.treeOf(fd, "/"); err != nil {
			return false, wire.Fail("join shared memory", err)
		}
		_ = unix.Close(fd)
	}
	if msg.Proc {
		if fd, f = rest.next("join processes"); f != nil {
			return false, f
		}
		if f := p.takeProc(fd); f != nil {
			return false, f
		}
	}
	if f := p.oci.take(msg.Handed, &rest); f != nil {
		return false, f
	}
	if p.plan.Root.Path == "" {
		return true, p.enterContainer(msg.Join, &rest)
	}
	if p.plan.CgroupNS {
		// The container's cgroups, in which we are by now, become the root of
		// the new namespace.
		if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
			return false, wire.Fail("make cgroup namespace", err)
		}
	}
	return false, nil
}

// enterContainer joins the namespaces of the container that an exec is for, by its
// pidfd. Where the mount namespace is not among them, a container's root is only
// that of its processes.
func (p *process) enterContainer(join int, rest *received) *wire.Failure {
	const step = "enter the container"
	fd, f := rest.next(step)
	if f != nil {
		return f
	}
	if join&unix.CLONE_NEWNS == 0 && p.oci.root < 0 {
		return &wire.Failure{Step: step, Text: "its root is missing"}
	}
	// setns to a mount namespace wants a thread that shares neither
	// root nor working directory, setns(2).
	err := unix.Unshare(unix.CLONE_FS)
	if err == nil && join != 0 {
		err = unix.Setns(fd, join)
	}
	if err == nil && p.oci.root >= 0 {
		if err = unix.Fchdir(p.oci.root); err == nil {
			err = unix.Chroot(".")
		}
		_ = unix.Close(p.oci.root)
	}
	if err != nil {
		return wire.Fail(step, err)
	}
	_ = unix.Close(fd)
	p.descends = join&unix.CLONE_NEWPID != 0
	return nil
}

// joinProcesses has our children, from now on, born into the process namespace
// that came with the plan; setns(2): we stay outside. Hooks that have the rights
// of who makes the container are children, too, and have been run.
func (p *process) joinProcesses() *wire.Failure {
	if p.born < 0 {
		return nil
	}
	if err := unix.Setns(p.born, unix.CLONE_NEWPID); err != nil {
		return wire.Fail("join pid namespace", err)
	}
	_ = unix.Close(p.born)
	p.born = -1
	return nil
}

// received are the descriptors that came with the plan, in the order in which
// they are taken.
type received []int

// next is the one for a step.
func (r *received) next(step string) (int, *wire.Failure) {
	if len(*r) == 0 {
		return -1, &wire.Failure{Step: step, Text: "a descriptor is missing"}
	}
	fd := (*r)[0]
	*r = (*r)[1:]
	return fd, nil
}

// joinCgroups moves this thread, which is what will be left of the process
// after exec, into cgroups of version 1. To move a thread that is the caller
// needs no lock against the forks and exits of the whole system, which takes
// the kernel about ten milliseconds to get (cgroup_procs_write_start in
// kernel/cgroup/cgroup.c); to move a process does.
func joinCgroups(dirs []string) *wire.Failure {
	for _, dir := range dirs {
		fd, err := unix.Open(dir+"/tasks", unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			_, err = unix.Write(fd, []byte("0"))
			_ = unix.Close(fd)
		}
		if err != nil {
			return wire.Fail("join cgroup "+dir, err)
		}
	}
	return nil
}

// takeProc gets the /proc of the processes to be joined from those who have it:
// one that is mounted shows the process namespace of who mounts it, and we do not
// go there to do so, see descend. What they have mounted upon it stays theirs.
func (p *process) takeProc(ns int) *wire.Failure {
	fd, err := p.treeOf(ns, "/proc")
	_ = unix.Close(ns)
	if err != nil {
		return wire.Fail("join /proc", err)
	}
	if !shows(fd, p.born) {
		_ = unix.Close(fd)
		return &wire.Failure{Step: "join /proc", Text: "the container that has the processes has none there"}
	}
	p.its = fd
	return nil
}

// treeOf clones a mount of a mount namespace.
func (p *process) treeOf(ns int, path string) (int, error) {
	own, err := unix.Openat(p.proc, "thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(own)
	return TreeOf(ns, own, path)
}

// TreeOf clones what is mounted at a place of a mount namespace, without what is
// mounted upon it; no link leads there. own is the calling thread's, to which it
// comes back; the thread must be locked, and shares its working directory with no
// other from then on.
func TreeOf(ns, own int, path string) (int, error) {
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // setns(2)
		return -1, err
	}
	if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
		return -1, err
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if back := unix.Setns(own, unix.CLONE_NEWNS); back != nil {
		return -1, back
	}
	return fd, err
}

func namespaceName(flag int) string {
	switch flag {
	case unix.CLONE_NEWNET:
		return "network"
	case unix.CLONE_NEWNS:
		return "mount"
	case unix.CLONE_NEWIPC:
		return "ipc"
	case unix.CLONE_NEWUTS:
		return "uts"
	case unix.CLONE_NEWPID:
		return "pid"
	case unix.CLONE_NEWUSER:
		return "user"
	case unix.CLONE_NEWCGROUP:
		return "cgroup"
	case unix.CLONE_NEWTIME:
		return "time"
	}
	return "a"
}

// ReadAll reads a descriptor of a file from its beginning to its end.
func ReadAll(fd int) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	data := make([]byte, 0, st.Size+1)
	for {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		n, err := unix.Pread(fd, data[len(data):cap(data)], int64(len(data)))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return data, err
		}
		data = data[:len(data)+n]
	}
}
