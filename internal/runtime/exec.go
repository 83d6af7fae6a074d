package runtime

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
	"github.com/cove-engine/cove/internal/cgroup/tasks"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/oci/native"
	"github.com/cove-engine/cove/internal/plan"
)

// ExecOptions are the flags of exec.
type ExecOptions struct {
	ConsoleSocket string
	Telling
	Preserve     int
	IgnorePaused bool
	// Cgroups are below the container's own, by controller; "" is all.
	Cgroups      map[string]string
	KeepTerminal bool
}

// ExecProcess is the process that an exec of the container starts from: that of
// its spec; nil while nothing is recorded.
func (c *Container) ExecProcess() *specs.Process {
	if c.record.Process == nil {
		return nil
	}
	p := *c.record.Process
	return &p
}

// Exec puts a process into a running container.
func (r *Runtime) Exec(id string, p *specs.Process, o ExecOptions) (*Born, error) {
	c, err := r.Open(id)
	if err != nil {
		return nil, err
	}
	status, err := c.Status()
	if err != nil {
		return nil, err
	}
	switch {
	case status == Stopped, status == Creating:
		return nil, cove.E("", "", cove.WrongStatus, errors.New("cannot exec in a "+string(status)+" container"))
	case status == Paused && !o.IgnorePaused:
		return nil, cove.E("", "", cove.WrongStatus, errors.New("cannot exec in a paused container (use --ignore-paused to override)"))
	}
	if err := r.checkProcess(p); err != nil {
		return nil, err
	}
	if p.Terminal && o.ConsoleSocket == "" && !o.KeepTerminal {
		return nil, invalid("process.terminal: exec --detach needs --console-socket for it")
	}
	pl, err := c.execPlan(p, o)
	if err != nil {
		return nil, err
	}
	pidfd, err := c.hold()
	if err != nil {
		return nil, err
	}
	defer unix.Close(pidfd)
	spaces, err := c.apart()
	if err != nil {
		return nil, err
	}
	k, err := c.cloneExec(p, o, pidfd, spaces)
	if err != nil {
		return nil, err
	}
	master, err := c.runExec(k, p, o, pl, pidfd, spaces)
	if err != nil {
		k.kill()
		return nil, err
	}
	return &Born{Container: c, PID: k.pid, PIDFD: k.pidfd, Master: master}, nil
}

func (c *Container) execPlan(p *specs.Process, o ExecOptions) (*plan.Plan, error) {
	compiled, err := native.Process(p, &native.Options{
		SELinux: hasSELinux(), Seccomp: c.Seccomp, SeccompFlags: c.SeccompFlags &^ unix.SECCOMP_FILTER_FLAG_NEW_LISTENER,
	})
	if err != nil {
		return nil, err
	}
	if c.SeccompFlags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 {
		// The agent of the container's filter knows the container's only.
		return nil, cove.E("exec", c.ID, cove.Unsupported, errors.New("linux.seccomp: SCMP_ACT_NOTIFY together with exec is not supported"))
	}
	compiled.OOMScoreAdj, compiled.KeepFDs = nil, o.Preserve
	compiled.KeepGroups = c.Notes[cove.KeepGroups] == "1"
	more, err := native.ExecOCI(p)
	if err != nil {
		return nil, err
	}
	more.State, more.Keyring = c.hookState(Running), c.Keyring
	return &plan.Plan{Version: plan.Version, Process: compiled, OCI: more}, nil
}

// cloneExec clones the process, with the first processors that it asks for.
func (c *Container) cloneExec(p *specs.Process, o ExecOptions, pidfd, spaces int) (*child, error) {
	if p.ExecCPUAffinity != nil && p.ExecCPUAffinity.Initial != "" {
		cpus, err := native.CPUs(p.ExecCPUAffinity.Initial)
		if err != nil {
			return nil, err
		}
		var own, set unix.CPUSet
		if err := unix.SchedGetaffinity(0, &own); err != nil {
			return nil, cove.E("", "process.execCPUAffinity", kindOf(err), err)
		}
		for _, n := range cpus {
			set.Set(n)
		}
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return nil, cove.E("", "process.execCPUAffinity.initial", kindOf(err), err)
		}
		defer func() { _ = unix.SchedSetaffinity(0, &own) }()
	}
	k := cloning{stdio: [3]int{0, 1, 2}, preserve: o.Preserve, special: pidfd, kinds: spaces & unix.CLONE_NEWTIME}
	if c.UserNamespace {
		k.kinds |= unix.CLONE_NEWUSER
	}
	return k.do()
}

// runExec sees the process to its command.
func (c *Container) runExec(k *child, p *specs.Process, o ExecOptions, pl *plan.Plan, pidfd, spaces int) (int, error) {
	dirs, err := c.below(o.Cgroups)
	if err != nil {
		return -1, err
	}
	counting, others, err := countTasks(dirs)
	if err != nil {
		return -1, err
	}
	if err := c.enterCgroups(others, k.pid); err != nil {
		return -1, err
	}
	if p.OOMScoreAdj != nil {
		if err := os.WriteFile("/proc/"+strconv.Itoa(k.pid)+"/oom_score_adj", []byte(strconv.Itoa(*p.OOMScoreAdj)), 0); err != nil {
			return -1, cove.E("", "process.oomScoreAdj", kindOf(err), err)
		}
	}
	body, fds := wire.PrepareBody{Join: spaces &^ unix.CLONE_NEWTIME}, []int{pidfd}
	if spaces&unix.CLONE_NEWNS == 0 {
		root, err := unix.Open(c.Rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, cove.E("enter root", c.Rootfs, kindOf(err), err)
		}
		defer unix.Close(root)
		body.Handed, fds = []string{"root"}, []int{root, pidfd}
	}
	if err := sendPlan(k, pl, body, fds); err != nil {
		return -1, err
	}
	_, _, sent, err := k.await(wire.Ready)
	if err != nil {
		return -1, err
	}
	master := -1
	if len(sent) == 1 {
		master = sent[0]
	}
	if err := cgroup.EnterThread(counting, k.pid); err != nil {
		return -1, err
	}
	if o.ConsoleSocket != "" && master >= 0 {
		err := sendConsole(o.ConsoleSocket, master)
		_ = unix.Close(master)
		if err != nil {
			return -1, err
		}
		master = -1
	}
	apart := spaces&unix.CLONE_NEWPID != 0
	if !apart {
		if err := o.tell(k, "setns"); err != nil {
			return -1, err
		}
	}
	if err := wire.Send(k.socket, wire.Go, nil); err != nil {
		return -1, k.died()
	}
	if apart {
		return master, k.descend(o.Telling, pl.OCI.Scheduler)
	}
	done, err := executed(k.socket, false)
	if err == nil && !done {
		err = k.died()
	}
	return master, err
}

// below gives the directories of cgroups below the container's.
func (c *Container) below(names map[string]string) ([]string, error) {
	own, err := c.all()
	if err != nil || len(names) == 0 {
		return own, err
	}
	layout, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	dirs := slices.Clone(own)
	for controller, name := range names {
		found := false
		for i, d := range own {
			if controller != "" && !layout.Has(d, controller) {
				continue
			}
			found = true
			if dirs[i] = path.Join(d, name); dirs[i] != d && !strings.HasPrefix(dirs[i], d+"/") {
				return nil, invalid("--cgroup: %s is not below the container's", name)
			}
		}
		if !found {
			return nil, invalid("--cgroup: the container has no cgroup of the controller %s", controller)
		}
	}
	return dirs, nil
}

// countTasks parts the cgroups of version 1 that limit the number of tasks from the
// others. Only the thread that becomes the command goes there, when all threads
// are made. A cgroup of version 2 takes whole processes, at once with all limits, and
// has to have room for them.
func countTasks(dirs []string) (counting, others []string, err error) {
	layout, err := cgroup.Detect()
	if err != nil {
		return nil, nil, err
	}
	if layout.Unified {
		for _, d := range dirs {
			if tasks.Lacking(d) {
				return nil, nil, cove.E("", "", cove.Unavailable, fmt.Errorf("start the process: %w: the limit of tasks leaves no room for the %d that an exec takes", unix.EAGAIN, tasks.Ours))
			}
		}
		return nil, dirs, nil
	}
	for _, d := range dirs {
		if layout.Has(d, "pids") {
			counting = append(counting, d)
		} else {
			others = append(others, d)
		}
	}
	return counting, others, nil
}

// enterCgroups puts a process into cgroups. A version 2 cgroup that the
// container has divided takes no members any more: then it goes where init is.
func (c *Container) enterCgroups(dirs []string, pid int) error {
	for _, d := range dirs {
		err := cgroup.Enter([]string{d}, pid)
		if cove.Is(err, cove.InUse) {
			inner, ok := c.initCgroup(d)
			if ok {
				err = cgroup.Enter([]string{inner}, pid)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// initCgroup finds init's version 2 cgroup below the container's dir.
func (c *Container) initCgroup(dir string) (string, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(c.PID) + "/cgroup")
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(text)) {
		at, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "0::")
		if !ok {
			continue
		}
		// What lies below the container's path is below its directory.
		_, below, ok := strings.Cut(at+"/", c.CgroupPath+"/")
		return path.Join(dir, below), ok && below != "" && !strings.Contains(below, "..")
	}
	return "", false
}

// kinds are namespaces by their names in /proc/PID/ns. That of users is not among
// them: the record tells.
var kinds = map[string]int{
	"mnt": unix.CLONE_NEWNS, "pid": unix.CLONE_NEWPID, "uts": unix.CLONE_NEWUTS, "ipc": unix.CLONE_NEWIPC, "net": unix.CLONE_NEWNET,
	"cgroup": unix.CLONE_NEWCGROUP, "time": unix.CLONE_NEWTIME,
}

// apart gives the kinds of namespaces of which the container has another than we
// have: what an exec is to enter. The others are left alone: an ordinary user has no
// right to enter them. A container that has just ended has no namespaces any more, or
// somebody else has its number: it is not to be taken for one that shares ours.
func (c *Container) apart() (flags int, err error) {
	for name, flag := range kinds {
		own, err := os.Stat("/proc/self/ns/" + name)
		if errors.Is(err, os.ErrNotExist) {
			continue // which this kernel does not have
		}
		if err != nil {
			return 0, cove.E("look at namespaces", "", kindOf(err), err)
		}
		its, err := os.Stat("/proc/" + strconv.Itoa(c.PID) + "/ns/" + name)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
			return 0, errNotRunning()
		}
		if err != nil {
			return 0, cove.E("look at namespaces", c.ID, kindOf(err), err)
		}
		if !os.SameFile(own, its) {
			flags |= flag
		}
	}
	if !c.alive() {
		return 0, errNotRunning()
	}
	return flags, nil
}
