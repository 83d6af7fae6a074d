package runtime

import (
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/ctrinit"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/oci/native"
	"github.com/cove-engine/cove/internal/rootless"
)

// initEnv keeps init's Go runtime small: it does nothing in parallel.
var initEnv = []string{"GOMAXPROCS=1", "GOGC=off"}

// cloning is how a process of a container begins.
type cloning struct {
	clone    uintptr       // CLONE_NEW* flags
	joins    []native.Join // namespaces to be born into; never user or mount
	uids     []specs.LinuxIDMapping
	gids     []specs.LinuxIDMapping
	stdio    [3]int
	preserve int // descriptors from 3 on that the command keeps
	// kinds are the user and time namespaces that it joins in its first
	// instructions, by the descriptor special; a thread of ours cannot.
	kinds, special int
	// user is the user namespace in which the new namespaces are made; 0 none.
	user int
}

// child is a process of ours that waits for its plan.
type child struct {
	pid    int
	pidfd  int
	socket int
}

// do clones this program as init or exec. Namespaces with a path are joined by
// this thread before, with its own rights, and left again after; the caller is
// on a locked thread.
func (c *cloning) do() (k *child, err error) {
	exe, err := ctrinit.Self()
	if err != nil {
		return nil, cove.E("open", "own program", cove.Internal, err)
	}
	defer unix.Close(exe)
	ours, theirs, err := wire.ChildPair()
	if err != nil {
		return nil, cove.E("make socket", "", cove.Internal, err)
	}
	defer unix.Close(theirs)
	defer func() {
		if err != nil {
			_ = unix.Close(ours)
		}
	}()
	socket := 3 + c.preserve
	files := []uintptr{uintptr(c.stdio[0]), uintptr(c.stdio[1]), uintptr(c.stdio[2])}
	for i := range c.preserve {
		files = append(files, uintptr(3+i))
	}
	files = append(files, uintptr(theirs))
	args := []string{InitName, strconv.Itoa(socket)}
	if c.kinds != 0 {
		mark, err := rootless.Mark(c.kinds, len(files))
		if err != nil {
			return nil, err
		}
		files = append(files, uintptr(c.special))
		args = append([]string{mark}, args...)
	}
	pidfd := -1
	attr := &syscall.ProcAttr{Env: initEnv, Files: files, Sys: &syscall.SysProcAttr{Cloneflags: c.clone, PidFD: &pidfd}}
	if c.clone&unix.CLONE_NEWUSER != 0 {
		attr.Sys.UidMappings, attr.Sys.GidMappings = idMap(c.uids), idMap(c.gids)
		attr.Sys.GidMappingsEnableSetgroups = os.Geteuid() == 0
		// As somebody without a name in there it would lose its rights with
		// the exec.
		attr.Sys.Credential = &syscall.Credential{NoSetGroups: os.Geteuid() != 0}
	}
	if c.user != 0 {
		if args, attr, err = c.cloner(args, attr); err != nil {
			return nil, err
		}
	}
	pid, err := c.fork(func() (int, error) {
		pid, err := syscall.ForkExec("/proc/self/fd/"+strconv.Itoa(exe), args, attr)
		if err != nil {
			err = cove.E("clone init", "", kindOf(err), err)
		}
		return pid, err
	})
	if err != nil {
		return nil, err
	}
	if c.user != 0 {
		return cloned(pid, ours)
	}
	if pidfd < 0 {
		if pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = unix.Wait4(pid, nil, 0, nil)
			return nil, cove.E("clone init", "", cove.Internal, err)
		}
	}
	unix.CloseOnExec(pidfd)
	return &child{pid: pid, pidfd: pidfd, socket: ours}, nil
}

func idMap(from []specs.LinuxIDMapping) []syscall.SysProcIDMap {
	var all []syscall.SysProcIDMap
	for _, m := range from {
		all = append(all, syscall.SysProcIDMap{ContainerID: int(m.ContainerID), HostID: int(m.HostID), Size: int(m.Size)})
	}
	return all
}

// procName is a namespace's name in /proc/PID/ns, where children are born.
var procName = map[int]string{
	unix.CLONE_NEWPID: "pid_for_children", unix.CLONE_NEWNET: "net", unix.CLONE_NEWIPC: "ipc",
	unix.CLONE_NEWUTS: "uts", unix.CLONE_NEWCGROUP: "cgroup",
}

// errNoReturn tells that a namespace to be left could not be entered again.
var errNoReturn = errors.New("there is no way back")

// fork calls f with its children born in the namespaces to be joined. What is the
// host's cannot be entered again by an ordinary user: then a thread that need not
// do so calls f. It lives as long as we do, since the death of its parent's thread
// is what a child is told of.
func (c *cloning) fork(f func() (int, error)) (pid int, err error) {
	back, err := c.enter(true)
	if err == nil {
		defer back()
		return f()
	}
	if !errors.Is(err, errNoReturn) {
		return 0, err
	}
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		if _, err = c.enter(false); err == nil {
			pid, err = f()
		}
		close(done)
		select {}
	}()
	<-done
	return pid, err
}

// enter makes this thread join namespaces. back undoes it; a thread that cannot
// come back must not go on. With returns, it is tried before.
func (c *cloning) enter(returns bool) (back func(), err error) {
	type was struct{ fd, flag int }
	var own []was
	back = func() {
		for _, w := range own {
			if unix.Setns(w.fd, w.flag) != nil {
				os.Exit(1)
			}
			_ = unix.Close(w.fd)
		}
	}
	for _, j := range c.joins {
		fail := func(err error) (func(), error) {
			back()
			return nil, cove.E("join namespace", j.Path, kindOf(err), err)
		}
		fd, err := openNamespace(j)
		if err != nil {
			return fail(err)
		}
		mine, err := unix.Open("/proc/thread-self/ns/"+procName[j.Flag], unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			_ = unix.Close(fd)
			return fail(err)
		}
		if returns && unix.Setns(mine, j.Flag) == unix.EPERM {
			err = errNoReturn
		} else {
			err = unix.Setns(fd, j.Flag)
		}
		_ = unix.Close(fd)
		if err != nil {
			_ = unix.Close(mine)
			return fail(err)
		}
		own = append(own, was{mine, j.Flag})
	}
	return back, nil
}

// openNamespace opens a namespace by its path and makes sure of its kind.
func openNamespace(j native.Join) (int, error) {
	fd, err := unix.Open(j.Path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err == nil && kind != j.Flag {
		err = errors.New("it is a namespace of another kind")
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// await receives the child's next word. Its failure is an error.
func (k *child) await(want ...wire.Kind) (wire.Kind, []byte, []int, error) {
	buf := make([]byte, wire.Max)
	kind, body, fds, err := wire.Receive(k.socket, buf)
	if err != nil {
		return 0, nil, nil, k.died()
	}
	for _, w := range want {
		if kind == w {
			return kind, body, fds, nil
		}
	}
	if kind == wire.Failed {
		f := new(wire.Failure)
		if json.Unmarshal(body, f) == nil {
			return 0, nil, nil, monitor.FailureError(f)
		}
	}
	return 0, nil, nil, cove.E("prepare container", "", cove.Internal, errors.New("unexpected message from init"))
}

// died tells how the child ended without a word.
func (k *child) died() error {
	var ws unix.WaitStatus
	_, _ = unix.Wait4(k.pid, &ws, 0, nil)
	text := "init ended with code " + strconv.Itoa(ws.ExitStatus())
	if ws.Signaled() {
		text = "init was ended by a signal: " + ws.Signal().String()
		if ws.Signal() == unix.SIGKILL {
			text += "; the memory limit may be too low"
		}
	}
	return cove.E("prepare container", "", cove.Internal, errors.New(text))
}

// kill ends and reaps the child.
func (k *child) kill() {
	_ = unix.PidfdSendSignal(k.pidfd, unix.SIGKILL, nil, 0)
	_, _ = unix.Wait4(k.pid, nil, 0, nil)
	k.close()
}

func (k *child) close() {
	for _, fd := range []*int{&k.pidfd, &k.socket} {
		if *fd >= 0 {
			_ = unix.Close(*fd)
			*fd = -1
		}
	}
}

func kindOf(err error) cove.Kind {
	switch {
	case errors.Is(err, unix.ENOENT):
		return cove.NoFile
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return cove.Denied
	case errors.Is(err, unix.EINVAL):
		return cove.Invalid
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOMEM):
		return cove.Unavailable
	}
	return cove.Internal
}
