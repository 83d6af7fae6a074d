package runtime

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
	"github.com/cove-engine/cove/internal/ctrinit"
	"github.com/cove-engine/cove/internal/ctrinit/hook"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/oci/native"
	"github.com/cove-engine/cove/internal/plan"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/seccomp"
)

// CreateOptions are the flags of create and run.
type CreateOptions struct {
	Bundle        string
	ConsoleSocket string
	Telling
	Preserve  int // descriptors from 3 on that the command keeps
	NoPivot   bool
	NoKeyring bool
	// Listen are sockets of systemd's, the first of the descriptors from 3 on.
	Listen int
	// KeepTerminal gives the terminal's master to the caller where no console
	// socket takes it: for run.
	KeepTerminal bool
}

// Born is a container or process that was just made.
type Born struct {
	*Container
	PID    int
	PIDFD  int
	Master int // of its terminal; -1 without, or when it was given away
}

// creation is a create under way.
type creation struct {
	*Container
	o      CreateOptions
	spec   *specs.Spec
	plan   *native.Compiled
	groups *cgroups
	child  *child
	maker  *child // of the child, which it was itself; see descended
	notify int    // connection to the seccomp agent
	start  int    // the socket on which start will come
	ns     int    // the process namespace that init stays outside of for now; -1
	lock   int
	users  map[string]int // user namespaces of idmapped mounts
	// devices were moved into the container's network namespace, in which
	// network is a socket; -1 without any.
	devices []*netDevice
	network int
}

// Create makes a container up to the execution of its command.
func (r *Runtime) Create(id string, o CreateOptions) (born *Born, err error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	bundle, err := filepath.Abs(o.Bundle)
	if err != nil {
		return nil, cove.E("create container", id, cove.Invalid, err)
	}
	spec, err := r.loadSpec(bundle)
	if err != nil {
		return nil, err
	}
	if err := r.check(spec, bundle); err != nil {
		return nil, err
	}
	if spec.Process.Terminal && o.ConsoleSocket == "" && !o.KeepTerminal {
		return nil, invalid("process.terminal: create needs --console-socket for it")
	}
	if !spec.Process.Terminal && o.ConsoleSocket != "" {
		return nil, invalid("--console-socket: process.terminal is not set")
	}
	if o.Listen > 0 {
		// PID 1 is what init is, and what sd_listen_fds(3) compares with.
		spec.Process.Env = append(spec.Process.Env, "LISTEN_FDS="+strconv.Itoa(o.Listen), "LISTEN_PID=1")
		o.Preserve += o.Listen
	}
	c := &creation{Container: &Container{r: r}, o: o, spec: spec, notify: -1, start: -1, ns: -1, network: -1}
	c.record = record{
		Version: recordVersion, ID: id, OCIVersion: spec.Version, Bundle: bundle, Rootfs: spec.Root.Path,
		Created: time.Now().UTC(), Notes: spec.Annotations, Process: spec.Process,
	}
	if u, err := user.LookupId(strconv.Itoa(os.Getuid())); err == nil {
		c.Owner = u.Username
	}
	if h := native.Hooks(spec.Hooks); h != nil {
		c.Poststart, c.Poststop, c.TellsHooks = h.Poststart, h.Poststop, len(h.StartContainer) > 0
	}
	if c.lock, err = r.claim(id); err != nil {
		return nil, err
	}
	defer unix.Close(c.lock)
	defer func() {
		if err != nil {
			err = c.undo(err)
		}
	}()
	if err := c.compile(); err != nil {
		return nil, err
	}
	return c.make()
}

// hasSELinux tells whether this host has SELinux, with a policy: the kernel
// gives every process the label "kernel" until one is loaded.
func hasSELinux() bool {
	var st unix.Statfs_t
	if unix.Statfs("/sys/fs/selinux", &st) != nil || st.Type != unix.SELINUX_MAGIC {
		return false
	}
	label, err := os.ReadFile("/proc/self/attr/current")
	return err == nil && strings.Trim(string(label), "\x00\n") != "kernel"
}

// compile makes the plans of everything, and what is to be known for removing
// it is on the disk then.
func (c *creation) compile() (err error) {
	if c.groups, err = c.r.planCgroups(c.spec, c.ID); err != nil {
		return err
	}
	opts := native.Options{
		Runtime: true, CgroupV1: c.groups.layout.Subsystems(c.groups.set.Dirs),
		LoopbackUp: !c.joinsNetwork(), SELinux: hasSELinux(),
	}
	if s := c.spec.Linux.Seccomp; s != nil {
		p, err := seccomp.Cache{Dir: c.r.programs()}.Spec(s, runtime.GOARCH)
		if err != nil {
			return err
		}
		if p.Notify && s.ListenerPath == "" {
			return invalid("linux.seccomp.listenerPath: SCMP_ACT_NOTIFY needs it")
		}
		opts.Seccomp, opts.SeccompFlags = p.BPF, p.Flags
		if p.Notify {
			if c.notify, err = dialAgent(s.ListenerPath); err != nil {
				return err
			}
		}
	}
	opts.UserNamespace = c.groups.layout.Rootless || c.has(specs.UserNamespace)
	if c.plan, err = native.Compile(c.spec, opts); err != nil {
		return err
	}
	o := c.plan.Plan.OCI
	o.NoPivot = c.o.NoPivot
	if !c.o.NoKeyring {
		c.Keyring = "_ses." + c.ID
	}
	o.Keyring = c.Keyring
	c.plan.Plan.Process.KeepFDs = c.o.Preserve
	// Written from here: init may lack the right in its user namespace.
	c.plan.Plan.Process.OOMScoreAdj = nil
	c.Seccomp, c.SeccompFlags = opts.Seccomp, opts.SeccompFlags
	c.UserNamespace = c.has(specs.UserNamespace)
	c.Cgroups, c.CgroupPath = c.groups.set.Dirs, c.groups.path
	return c.save()
}

func (c *creation) has(kind specs.LinuxNamespaceType) bool {
	for _, n := range c.spec.Linux.Namespaces {
		if n.Type == kind {
			return true
		}
	}
	return false
}

// joinsNetwork reports whether somebody has made the network namespace, and so
// cares for it.
func (c *creation) joinsNetwork() bool {
	for _, n := range c.spec.Linux.Namespaces {
		if n.Type == specs.NetworkNamespace {
			return n.Path != ""
		}
	}
	return true
}

// make makes the container.
func (c *creation) make() (*Born, error) {
	if err := c.sockets(); err != nil {
		return nil, err
	}
	if err := c.clone(); err != nil {
		return nil, err
	}
	err := c.groups.make(c.child.pid)
	if c.Own = c.groups.made; !c.Own {
		c.Cgroups = nil // somebody's
	}
	if err == nil {
		c.Inodes, err = cgroup.Inodes(c.Cgroups)
	}
	if err == nil {
		err = c.save()
	}
	if err != nil {
		return nil, err
	}
	if adj := c.spec.Process.OOMScoreAdj; adj != nil {
		if err := os.WriteFile("/proc/"+strconv.Itoa(c.child.pid)+"/oom_score_adj", []byte(strconv.Itoa(*adj)), 0); err != nil {
			return nil, cove.E("", "process.oomScoreAdj", kindOf(err), err)
		}
	}
	if err := c.moveDevices(); err != nil {
		return nil, err
	}
	if err := c.send(); err != nil {
		return nil, err
	}
	master, err := c.prepared()
	if err != nil {
		return nil, err
	}
	if c.o.ConsoleSocket != "" {
		err := sendConsole(c.o.ConsoleSocket, master)
		_ = unix.Close(master)
		if err != nil {
			return nil, err
		}
		master = -1
	}
	// Nothing of the container's has run yet. Init has all the threads it needs.
	if err := c.groups.tasks.Apply(); err != nil {
		return nil, err
	}
	if err := c.o.tell(c.child, "standard"); err != nil {
		return nil, err
	}
	c.Complete = true
	if err := c.save(); err != nil {
		return nil, err
	}
	if err := wire.Send(c.child.socket, wire.Go, nil); err != nil {
		return nil, c.child.died()
	}
	if c.network >= 0 {
		_ = unix.Close(c.network) // it would keep the namespace while we stay
	}
	return &Born{Container: c.Container, PID: c.child.pid, PIDFD: c.child.pidfd, Master: master}, nil
}

// sockets makes the socket for start, and the file that init holds the lock on.
func (c *creation) sockets() (err error) {
	c.start, err = listen(c.lock)
	if err != nil {
		return cove.E("make socket", c.ID, cove.Internal, err)
	}
	return nil
}

// clone clones init.
func (c *creation) clone() (err error) {
	k := cloning{
		clone: c.plan.Clone, uids: c.spec.Linux.UIDMappings, gids: c.spec.Linux.GIDMappings,
		stdio: [3]int{0, 1, 2}, preserve: c.o.Preserve,
	}
	if err := c.openProcesses(); err != nil {
		return err
	}
	for _, j := range c.plan.Joins {
		switch j.Flag {
		case unix.CLONE_NEWNS: // by init, see send
		case unix.CLONE_NEWPID:
			if c.ns < 0 {
				k.joins = append(k.joins, j)
			}
		case unix.CLONE_NEWUSER, unix.CLONE_NEWTIME:
			fd, err := openNamespace(j)
			if err != nil {
				return cove.E("join namespace", j.Path, kindOf(err), err)
			}
			defer unix.Close(fd)
			if j.Flag == unix.CLONE_NEWUSER {
				k.user = fd
			} else {
				k.kinds, k.special = j.Flag, fd
			}
		default:
			k.joins = append(k.joins, j)
		}
	}
	if c.child, err = k.do(); err != nil {
		return err
	}
	c.PID = c.child.pid
	if c.PIDStart, err = procfs.StartTime(c.PID); err != nil {
		return cove.E("clone init", "", cove.Internal, err)
	}
	return nil
}

// send hands init its plan, with what it cannot reach or make itself.
func (c *creation) send() (err error) {
	p := &c.plan.Plan
	p.OCI.State = c.hookState(Creating)
	if p.Hooks != nil {
		p.Hooks.State = p.OCI.State
	}
	var body wire.PrepareBody
	var fds []int
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	for _, j := range c.plan.Joins {
		if j.Flag == unix.CLONE_NEWNS {
			fd, err := openNamespace(j)
			if err != nil {
				return cove.E("join namespace", j.Path, kindOf(err), err)
			}
			body.Namespaces, fds = append(body.Namespaces, j.Flag), append(fds, fd)
		}
	}
	ns := c.ns
	if ns >= 0 {
		body.Namespaces, fds = append(body.Namespaces, unix.CLONE_NEWPID), append(fds, ns)
		c.ns = -1
	}
	mounts := 0
	hand := func(m *plan.Mount, fd int, err error) error {
		if err != nil {
			return cove.E("mount", m.Source+" on "+m.Target, kindOf(err), err)
		}
		mounts++
		m.Handed = mounts
		body.Handed, fds = append(body.Handed, "mount"), append(fds, fd)
		return nil
	}
	if c.UserNamespace || p.OCI.Chroot {
		root := plan.Mount{Target: "/", Type: "bind", Source: p.Root.Path, Recursive: true}
		fd, err := ctrinit.Detached(&root, -1)
		if err := hand(&root, fd, err); err != nil {
			return err
		}
		p.Root.Handed = root.Handed
		if p.OCI.Chroot {
			// It does not end with a namespace, and with it goes all that is below.
			if c.RootMount, err = mountID(fd); err == nil {
				c.RootMountBoot = procfs.BootID()
				err = c.save()
			}
			if err != nil {
				return err
			}
		}
	}
	for i := range p.Mounts {
		m := &p.Mounts[i]
		if m.Type == "proc" && ns >= 0 {
			fd, err := ctrinit.ProcOf(ns, m)
			if err := hand(m, fd, err); err != nil {
				return err
			}
			continue
		}
		if m.Type != "bind" || !c.UserNamespace && m.IDMap == nil {
			continue
		}
		users := -1
		if m.IDMap != nil {
			if users, err = c.userNamespaceFor(m.IDMap); err != nil {
				return err
			}
		}
		fd, err := ctrinit.Detached(m, users)
		if err := hand(m, fd, err); err != nil {
			return err
		}
	}
	waiting, err := unix.Openat(c.lock, "waiting", unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return cove.E("record container", c.ID, cove.Internal, err)
	}
	fds, body.Handed = append(fds, waiting), append(body.Handed, "waiting")
	if err := unix.Flock(waiting, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return cove.E("record container", c.ID, cove.Internal, err)
	}
	fds, body.Handed = append(fds, c.start), append(body.Handed, "start")
	c.start = -1
	if c.notify >= 0 {
		fds, body.Handed = append(fds, c.notify), append(body.Handed, "notify")
		c.notify = -1
	}
	return sendPlan(c.child, p, body, fds)
}

// prepared lets init go on through the hooks until it waits for start, and
// gives the terminal's master, -1 without one.
func (c *creation) prepared() (int, error) {
	for {
		kind, body, fds, err := c.child.await(wire.Mounted, wire.Started, wire.Ready)
		if err != nil {
			return -1, err
		}
		switch kind {
		case wire.Started:
			if err := c.descended(body); err != nil {
				return -1, err
			}
			continue
		case wire.Ready:
			if len(fds) == 1 {
				return fds[0], nil
			}
			return -1, nil
		}
		h, state := c.plan.Plan.Hooks, c.hookState(Creating)
		err = hook.Run("prestart", h.Prestart, state, nil)
		if err == nil {
			err = hook.Run("createRuntime", h.CreateRuntime, state, nil)
		}
		if err != nil {
			return -1, cove.E("create container", c.ID, cove.Internal, err)
		}
		if err := wire.Send(c.child.socket, wire.Go, nil); err != nil {
			return -1, c.child.died()
		}
	}
}

// undo takes back what was made; nothing of the container is left.
func (c *creation) undo(err error) error {
	err = errors.Join(err, c.returnDevices()) // while the namespace is there
	if c.child != nil {
		c.child.kill()
	}
	if c.maker != nil {
		c.maker.kill()
	}
	for _, fd := range []int{c.notify, c.start, c.ns} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	return errors.Join(err, c.remove())
}

// userNamespaceFor makes a user namespace with a map for an idmapped mount; an
// empty one stands for the container's own.
func (c *creation) userNamespaceFor(m *plan.IDMapping) (int, error) {
	if len(m.UIDs)+len(m.GIDs) == 0 {
		if !c.UserNamespace {
			return -1, invalid("mounts: idmap without mappings, and there is no user namespace")
		}
		return openOf(c.child.pid, "user")
	}
	key := fmt.Sprint(m.UIDs, m.GIDs)
	if fd, ok := c.users[key]; ok {
		return fd, nil
	}
	fd, err := mappedNamespace(m)
	if err != nil {
		return -1, cove.E("", "mounts.uidMappings", kindOf(err), err)
	}
	if c.users == nil {
		c.users = map[string]int{}
	}
	c.users[key] = fd
	return fd, nil
}

func openOf(pid int, ns string) (int, error) {
	return unix.Open("/proc/"+strconv.Itoa(pid)+"/ns/"+ns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// removeCgroups ends what is in the container's cgroups, and removes them.
func (c *Container) removeCgroups() error {
	switch {
	case len(c.Cgroups) == 0:
		return nil
	case !c.Own:
		// Its create was killed before it had made them, or just after: init has
		// died with it, and who is in them is somebody else's.
		layout, err := cgroup.Detect()
		if err != nil {
			return err
		}
		for end := time.Now().Add(10 * time.Second); ; {
			if err := layout.RemoveEmpty(c.CgroupPath); err != nil {
				return err
			}
			pids, err := cgroup.Pids(c.Cgroups)
			if err != nil || slices.ContainsFunc(pids, func(pid int) bool { return !procfs.Ending(pid) }) {
				return err
			}
			if len(pids) == 0 {
				return layout.RemoveEmpty(c.CgroupPath) // the last may just have ended
			}
			// What is just ending is init; without the record nobody would find
			// its cgroups.
			if time.Now().After(end) {
				return cove.E("remove cgroup", c.CgroupPath, cove.InUse, fmt.Errorf("%d processes do not end", len(pids)))
			}
		}
	}
	dirs, err := c.own()
	if err != nil {
		return err
	}
	if err := cgroup.Kill(dirs, time.Now().Add(10*time.Second)); err != nil {
		return err
	}
	return cgroup.Remove(dirs)
}

// removeRootMount takes away what a container without a mount namespace has mounted,
// where that is still what is seen at its place.
func (c *Container) removeRootMount() error {
	if c.RootMount == 0 || c.RootMountBoot != procfs.BootID() {
		return nil
	}
	fail := func(err error) error { return cove.E("unmount root", c.Rootfs, kindOf(err), err) }
	fd, err := unix.Open(c.Rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP { // another has come to its place
		return nil
	}
	if err != nil {
		return fail(err)
	}
	defer unix.Close(fd)
	id, err := mountID(fd)
	if err == nil && id == c.RootMount {
		err = unix.Unmount(inDir(fd, "."), unix.MNT_DETACH)
	}
	if err != nil {
		return fail(err)
	}
	return nil
}

// mountID is the number of the mount that a descriptor is of, where the kernel
// has one (6.8) that no later mount gets.
func mountID(fd int) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID_UNIQUE, &st); err != nil {
		return 0, err
	}
	if st.Mask&unix.STATX_MNT_ID_UNIQUE != 0 {
		return st.Mnt_id, nil
	}
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st)
	return st.Mnt_id, err
}

// remove takes away all that a container has outside of its bundle. It may be
// called again after a failure.
func (c *Container) remove() error {
	if err := c.removeCgroups(); err != nil {
		return err
	}
	if err := c.removeRootMount(); err != nil {
		return err
	}
	// The record last: without it nobody would find the rest.
	dir := c.r.dir(c.ID)
	for _, name := range []string{"start", "waiting", "state.json.new", "state.json"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return cove.E("remove container", c.ID, cove.Internal, err)
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return cove.E("remove container", c.ID, cove.Internal, err)
	}
	return nil
}
