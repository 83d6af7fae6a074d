package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
	"github.com/cove-engine/cove/internal/event"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/network/teardown"
	"github.com/cove-engine/cove/internal/oci/native"
	"github.com/cove-engine/cove/internal/plan"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/rootless"
	"github.com/cove-engine/cove/internal/seccomp"
	"github.com/cove-engine/cove/internal/spec"
	"github.com/cove-engine/cove/internal/state"
)

// Start starts a container that was created or has ended. One that runs
// already is left alone.
func (e *Engine) Start(ctx context.Context, nameOrID string, o StartOptions) (RunResult, error) {
	h, err := e.holdAsIs(ctx, nameOrID)
	if err != nil {
		return RunResult{}, err
	}
	defer h.release()
	return e.startHeld(ctx, h, o)
}

// startHeld is Start with the container's lock held. Attached, it releases it.
func (e *Engine) startHeld(ctx context.Context, h *held, o StartOptions) (RunResult, error) {
	result := RunResult{ID: h.ID, Detached: true}
	if h.Status == cove.Exited && alive(h.Dir) {
		// Its monitor waits for the next run by the restart policy, or takes
		// down the last one.
		if err := e.stop(ctx, h, StopOptions{}); err != nil {
			return result, err
		}
	}
	switch h.Status {
	case cove.Created, cove.Exited:
	case cove.Running:
		if o.Attach == nil {
			return result, nil
		}
		return e.attachRunning(ctx, h, *o.Attach)
	default:
		return result, cove.E("start container", h.Name, cove.WrongStatus, fmt.Errorf("it is %s", h.Status))
	}
	l := h.launch()
	l.attach = o.Attach
	conn, err := l.do(ctx)
	if err != nil && ctx.Err() != nil { // it is as it was
		return result, l.calledOff(err)
	}
	if err != nil {
		return result, e.startFailed(h, err)
	}
	defer conn.Close()
	result.Warnings = l.warnings
	h.release()
	if o.Attach == nil {
		return result, l.poststarted(conn)
	}
	return e.follow(ctx, &h.Container, conn, *o.Attach, result)
}

// launch is that of one more run of the container held.
func (h *held) launch() *launch {
	e := h.e
	l := &launch{e: e, c: &h.Container.Container, run: h.Run, lock: &h.lock}
	if h.due {
		l.restarts = h.Run.Restarts + 1
	}
	l.record = func() error {
		return e.update(func(tx state.Tx) error {
			c := new(cove.Container)
			if err := tx.Get(state.Containers, h.ID, c); err != nil {
				return err
			}
			c.Desired = cove.DesireRun
			c.Run.Generation, c.Run.BootID = h.Run.Generation+1, procfs.BootID()
			c.StartedBy = cove.Process{}
			if l.hooks != nil { // somebody may look at it in between
				var err error
				if c.StartedBy, err = thisProcess(); err != nil {
					return err
				}
			}
			if err := e.lease(tx, c); err != nil {
				return err
			}
			var err error
			if l.networks, err = e.networksOf(tx, c); err != nil {
				return err
			}
			h.Container.Container.Attachments, h.Container.Container.Desired = c.Attachments, c.Desired
			return tx.Put(state.Containers, c.ID, c)
		})
	}
	return l
}

// calledOff is what is to be done for a launch that its caller has ended.
func (l *launch) calledOff(err error) error {
	if l.hooks == nil {
		return err
	}
	return errors.Join(err, l.e.change(l.c.ID, func(c *cove.Container) error { c.StartedBy = cove.Process{}; return nil }))
}

// startFailed records why a start failed.
func (e *Engine) startFailed(h *held, cause error) error {
	h.Run.Error = cause.Error()
	if h.Run.Generation > 0 && h.Run.Checkpointed.IsZero() {
		h.Run.ExitCode = exitCodeOf(cause)
	}
	h.Run.Generation++ // as recorded
	if err := h.writeRun(); err != nil {
		return errors.Join(cause, err)
	}
	return cause
}

func exitCodeOf(err error) int {
	switch cove.KindOf(err) {
	case cove.NoCommand:
		return 127
	case cove.NotExecutable:
		return 126
	}
	return 125
}

// launch starts one container: it forks the monitor, makes the record durable
// and the network while it starts up, has init cloned as soon as there is a
// cgroup for it to be born in, and lets the command go when all is ready.
type launch struct {
	e        *Engine
	c        *cove.Container
	run      cove.Run // the one before
	restarts uint     // by policy, so far
	record   func() error
	attach   *AttachOptions
	restore  *wire.Restore  // nil: the run begins with the command
	unpack   func() error   // fills the container's directory and volumes; nil for nothing
	networks []cove.Network // set by record
	warnings []string

	layout  cgroup.Layout
	spec    *specs.Spec
	extra   *spec.Extra
	filter  seccomp.Program
	cgroups cgroup.Set
	scope   chan error // how systemd's making of the scope has ended
	// monitorCgroups are those that the monitor was not born in.
	monitorCgroups []string
	foreign        *plan.Foreign // nil with cove's own runtime
	unfit          bool          // hooks or CDI devices are not to be had now
	hooks          *plan.Hooks   // nil without any
	// lock is where the container's is kept; nil in it until it is recorded.
	lock    *lock.Held
	reaper  bool // the command runs below our own init (--init)
	health  *wire.Health
	logTag  string
	uplink  *wire.Uplink
	netns   int
	files   []monitor.File
	ports   []*os.File
	undo    undo
	started wire.StartedBody
	took    time.Duration // from the go to the start
}

// do carries the launch out. On error nothing of it is left; the record is
// the caller's to undo.
func (l *launch) do(ctx context.Context) (*monitor.Conn, error) {
	l.netns = -1
	err := l.describe()
	if err != nil {
		return nil, err
	}
	for _, step := range []func() error{l.addDevices, l.addHooks} {
		if err := step(); err != nil {
			l.unfit = true
			return nil, err
		}
	}
	clone, joins, _, err := native.CloneFlags(l.spec.Linux.Namespaces)
	if err != nil {
		return nil, err
	}
	program, err := l.e.monitor()
	if err != nil {
		return nil, err
	}
	if l.uplink, err = l.e.uplink(l.c); err != nil {
		return nil, err
	}
	ownNet := clone&unix.CLONE_NEWNET != 0 && (l.e.networkMode(&l.c.Spec) == "bridge" || l.uplink != nil)
	if ownNet {
		clone &^= unix.CLONE_NEWNET // made here, so that it can be set up at once
	}
	pidns := -1
	if l.foreign != nil {
		clone = unix.CLONE_NEWNS // all else is the runtime's
	} else if i := slices.IndexFunc(joins, func(j native.Join) bool { return j.Flag == unix.CLONE_NEWPID }); i >= 0 {
		if pidns, err = openNamespace(joins[i].Path); err != nil {
			return nil, err
		}
		defer unix.Close(pidns)
		joins = slices.Delete(joins, i, i+1) // by birth, not by setns
	}
	var m starting
	l.monitorCgroups, err = l.layout.Born(l.e.monitorCgroups(l.c, l.layout), func(unified int) (err error) {
		if l.c.Spec.Monitor != "" {
			m, err = l.forkConmon(program, unified)
			return err
		}
		m, err = monitor.Fork(program, monitor.Birth{
			Flags: clone, Terminal: l.c.Spec.Terminal, Stdin: l.c.Spec.Stdin, Foreign: l.foreign != nil, PIDNamespace: pidns, Cgroup: unified,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	defer l.closeFiles()
	if err := l.prepare(ctx, m, ownNet, joins); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		killed := m.Abort()
		if words := runfile.LastWords(l.e.dir(l.c.ID)); words != "" {
			err = fmt.Errorf("%w: %s", err, words)
		}
		if killed && l.hooks != nil {
			// It was killed, and cannot have seen to that.
			l.undo.add(func() error { poststop(l.hooks); return os.RemoveAll(filepath.Dir(l.e.socket(l.c.ID))) })
		}
		return nil, l.undo.because(err)
	}
	return m.Conversation(), nil
}

// starting is a monitor on its way: cove's own, or conmon.
type starting interface {
	MonitorPID() int
	// Clone, Start, Ready and Go are the steps up to the command's exec; Abort
	// calls it all off.
	Clone(cgroup string) error
	Start(env wire.Envelope, files []monitor.File) error
	Ready(ctx context.Context) error
	Go(body wire.GoBody) (wire.StartedBody, error)
	// Abort tells whether the monitor had to be killed.
	Abort() (killed bool)
	// Conversation is with the monitor, once the command runs.
	Conversation() *monitor.Conn
}

// describe makes the OCI spec.
func (l *launch) describe() (err error) {
	if l.layout, err = l.e.cgroups(); err != nil {
		return err
	}
	host, err := l.e.host(l.c, l.layout)
	if err != nil {
		return err
	}
	defaults, err := l.e.specDefaults()
	if err != nil {
		return err
	}
	if l.c.Spec.Init {
		if l.c.Spec.InitPath == "" && defaults.InitPath == "" {
			if defaults.InitPath, err = l.e.monitor(); err != nil {
				return err
			}
			l.reaper = true
			defaults.InitPath = cmp.Or(l.ownInit(), defaults.InitPath)
		}
	}
	// What was asked stays in the record as it was asked.
	c := *l.c
	c.Spec.Ulimits = expandUlimits(c.Spec.Ulimits, host.Rlimits)
	l.spec, l.extra, l.warnings, err = spec.Make(&c, defaults, host)
	if err != nil {
		return err
	}
	if l.foreign, err = l.e.foreign(l.c); err != nil {
		return err
	}
	filter := l.compileFilter
	if l.foreign != nil {
		filter = l.adapt
	}
	for _, step := range []func() error{l.checkSources, l.confine, filter, l.tagLog} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// compileFilter reads the seccomp profile for the capabilities that the
// command can have at most.
func (l *launch) compileFilter() (err error) {
	l.filter, err = l.e.filter(l.extra.Seccomp, l.bounding())
	if err == nil {
		err = l.refuseNotify()
	}
	return err
}

func (l *launch) refuseNotify() error {
	if l.filter.Notify {
		return cove.E("", "", cove.Unsupported, errors.New("seccomp profiles with SCMP_ACT_NOTIFY are not supported by cove yet"))
	}
	return nil
}

// bounding are the capabilities that the command can have at most.
func (l *launch) bounding() []string {
	if caps := l.spec.Process.Capabilities; caps != nil {
		return caps.Bounding
	}
	return nil
}

// prepare does everything between the fork of the monitor and the word go.
func (l *launch) prepare(ctx context.Context, m starting, ownNet bool, joins []native.Join) error {
	e, c := l.e, l.c
	type netnsResult struct {
		fd  int
		err error
	}
	netns := make(chan netnsResult, 1)
	if ownNet {
		go func() {
			fd, err := newNetNS()
			netns <- netnsResult{fd, err}
		}()
	}
	if c.CgroupManager == systemd {
		// It dies with the monitor, so it may come before the record.
		l.scope = make(chan error, 1)
		go func() { l.scope <- e.startScope(c, l.layout, m.MonitorPID()) }()
	}
	err := l.record()
	if ownNet {
		// Received in any case, or its descriptor would be lost.
		r := <-netns
		if l.netns = r.fd; err == nil {
			err = r.err
		}
	}
	if err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return e.makeDir(c) },
		func() error { return l.home(ownNet) },
		// Before the cgroups: the monitor of the run before may be about to
		// remove those of this name.
		l.openRunFile,
		l.makeCgroups,
		func() error { return m.Clone(l.cgroups.Unified) },
		func() error { return e.writeFiles(c, l.extra.Hostname, l.networks) },
		l.copyInit,
		l.writeBundle,
		func() error { return l.prepareVolumes(ctx) },
		l.fill,
		func() error { return l.writePlan(joins) },
		l.reservePorts,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	if l.uplink, err = e.uplink(c); err != nil { // now that the ports are known
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var down wire.GoBody
	connect := func() error {
		if len(c.Attachments) == 0 || !ownNet {
			return nil
		}
		td, err := e.setUpNetwork(ctx, c, l.netns, l.networks)
		if err != nil {
			return err
		}
		l.undo.add(func() error { return teardown.Run(td) })
		down.Nft = td.Nft
		if down.Unlink, err = e.publishNames(c, l.networks); err != nil {
			return err
		}
		l.undo.add(func() error { e.forgetNames(c); return nil })
		return nil
	}
	begin := func() error { return m.Start(l.envelope(), l.files) }
	order := []func() error{begin, connect}
	if l.hooks != nil { // that expect the network
		order = []func() error{connect, begin}
	}
	for _, step := range order {
		if err := step(); err != nil {
			return err
		}
	}
	if err := l.wait(ctx, func() error { return m.Ready(ctx) }); err != nil {
		return err
	}
	if err := l.writePidFiles(m.MonitorPID()); err != nil {
		return err
	}
	if c.Spec.Remove && c.Spec.CIDFile != "" {
		down.Unlink = append(down.Unlink, c.Spec.CIDFile)
	}
	gone := time.Now()
	return l.wait(ctx, func() (err error) {
		l.started, err = m.Go(down)
		l.took = time.Since(gone)
		l.closeRunFile()
		return err
	})
}

func (l *launch) fill() error {
	if l.unpack == nil {
		return nil
	}
	return l.unpack()
}

// prepareVolumes makes sure that the sources of volumes exist and are filled.
func (l *launch) prepareVolumes(ctx context.Context) error {
	if err := l.e.fillVolumes(ctx, l.c); err != nil {
		return err
	}
	for _, w := range l.extra.Mounts {
		switch {
		case w.Upper == "":
			if err := l.relabel(w); err != nil {
				return err
			}
		case w.Upper != "" && w.Chown:
			return cove.E("prepare mount", w.Destination, cove.Unsupported, errors.New("mount options O and U together are not supported by cove yet"))
		case w.Upper != "":
			if w.Temporary {
				if err := os.RemoveAll(filepath.Dir(w.Upper)); err != nil {
					return cove.E("prepare mount", w.Destination, fileKind(err), err)
				}
			}
			for _, dir := range []string{w.Upper, w.Work} {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					return cove.E("prepare mount", w.Destination, fileKind(err), err)
				}
			}
		}
	}
	return nil
}

// checkSources refuses binds of what does not exist. Volumes and the
// container's own files are made later.
func (l *launch) checkSources() error {
	// With the host's IPC an ordinary user's container shows the host's queues,
	// if the host does.
	l.spec.Mounts = slices.DeleteFunc(l.spec.Mounts, func(m specs.Mount) bool {
		_, err := os.Stat(m.Source)
		return m.Type == "bind" && m.Source == "/dev/mqueue" && m.Destination == m.Source && err != nil
	})
	for _, m := range l.spec.Mounts {
		if m.Type != "bind" || strings.HasPrefix(m.Source, l.e.conf.Home()+"/") || strings.HasPrefix(m.Source, l.e.conf.Volumes()+"/") {
			continue
		}
		if _, err := os.Stat(m.Source); err != nil {
			return cove.E("", "", cove.Invalid, fmt.Errorf("statfs %s: %w", m.Source, errors.Unwrap(err)))
		}
	}
	return nil
}

// makeCgroups makes and limits the container's cgroups, and those of the
// monitors.
func (l *launch) makeCgroups() error {
	set, warnings, err := l.layout.Set(l.spec.Linux.CgroupsPath, l.spec.Linux.Resources)
	if err != nil {
		return err
	}
	l.warnings = append(l.warnings, warnings...)
	if l.scope != nil {
		if err := <-l.scope; err != nil {
			return err
		}
		set = set.Delegated()
	}
	if l.foreign != nil {
		set = cgroup.Set{Dirs: set.Dirs} // the runtime makes and limits them
	} else if err := set.Make(); err != nil {
		return err
	}
	l.cgroups = set
	l.undo.add(func() error {
		// What another runtime has begun does not die with the monitor.
		if err := cgroup.Kill(set.Dirs, time.Now().Add(10*time.Second)); err != nil {
			return err
		}
		return set.Remove()
	})
	return nil
}

// writePlan compiles the spec and hands it over.
func (l *launch) writePlan(joins []native.Join) error {
	o := native.Options{
		User: l.extra.User, Groups: l.extra.Groups, CreateWorkDir: l.extra.CreateWorkDir, SetHome: true,
		Seccomp: l.filter.BPF, SeccompFlags: l.filter.Flags, UserNamespace: l.e.conf.Rootless,
		CgroupV1: l.layout.Subsystems(l.cgroups.Dirs), LoopbackUp: len(l.c.Attachments) == 0 && ownsNetwork(l.spec),
	}
	if l.attach != nil {
		size := windowSize(l.attach.Streams.Terminal)
		o.Rows, o.Cols = size.Rows, size.Cols
	}
	o.Overlay, o.SELinux = l.e.overlay(l.c), labelled(l.c)
	if l.foreign != nil {
		return l.writeForeign(&o, joins)
	}
	o.JoinShm = strings.HasPrefix(l.c.Spec.IPC, "container:")
	compiled, err := native.Compile(l.spec, o)
	if err != nil {
		return err
	}
	for _, w := range l.extra.Mounts {
		if w.Chown {
			compiled.Plan.Chown = append(compiled.Plan.Chown, w.Source)
		}
	}
	if l.health, err = health(l.c, func(args []string) (any, error) {
		p := compiled.Plan.Process
		p.Args, p.Terminal, p.MakeCwd, p.Reaper, p.OOMScoreAdj = args, false, false, false, nil
		return &plan.Plan{Version: plan.Version, Process: p}, nil
	}); err != nil {
		return err
	}
	compiled.Plan.Process.Reaper, compiled.Plan.Hooks = l.reaper, l.hooks
	if err := l.handPlan(&compiled.Plan); err != nil {
		return err
	}
	if o.JoinShm {
		fd, err := l.e.sharedMemory(l.c.Spec.IPC)
		if err != nil {
			return err
		}
		l.files = append(l.files, monitor.File{Name: "shm", FD: fd})
	}
	return l.handNamespaces(joins)
}

// handPlan writes the plan where the monitor finds it again for restarts.
func (l *launch) handPlan(p any) error {
	data, err := json.Marshal(p)
	if err != nil {
		return cove.E("", "", cove.Internal, err)
	}
	name := filepath.Join(l.e.dir(l.c.ID), "plan")
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return cove.E("write", name, fileKind(err), err)
	}
	l.files = append(l.files, monitor.File{Name: "plan", FD: fd})
	if n, err := unix.Write(fd, data); err != nil || n != len(data) {
		return cove.E("write", name, cove.Unavailable, errors.Join(err, unix.ENOSPC))
	}
	return nil
}

// handNamespaces hands over the namespaces to be joined.
func (l *launch) handNamespaces(joins []native.Join) error {
	for _, j := range joins {
		fd, err := openNamespace(j.Path)
		if err != nil {
			return err
		}
		l.files = append(l.files, monitor.File{Name: "ns:" + strconv.Itoa(j.Flag), FD: fd})
	}
	if l.netns >= 0 {
		fd, err := unix.FcntlInt(uintptr(l.netns), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return cove.E("", "", cove.Internal, err)
		}
		l.files = append(l.files, monitor.File{Name: "ns:" + strconv.Itoa(unix.CLONE_NEWNET), FD: fd})
	}
	return nil
}

func openNamespace(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, cove.E("join namespace", path, fileKind(err), err)
	}
	return fd, nil
}

func ownsNetwork(s *specs.Spec) bool {
	for _, ns := range s.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace {
			return ns.Path == ""
		}
	}
	return false
}

// overlay describes the container's root: the image's layers with its own
// directory on top.
func (e *Engine) overlay(c *cove.Container) *plan.Overlay {
	dir := e.dir(c.ID)
	o := &plan.Overlay{Base: e.conf.GraphRoot, Upper: filepath.Join(dir, "diff"), Work: filepath.Join(dir, "work")}
	// An image's layer may carry overlay's own attributes: no directory is to
	// show the files of another, no file those of a third (metacopy needs
	// redirects). For an ordinary user "userxattr" says the same.
	o.Options = append(o.Options, "redirect_dir=nofollow")
	switch {
	case c.Spec.Rootfs == "":
		o.Lower = c.Image.Layers
	case c.Spec.RootfsOverlay:
		o.Lower = []string{c.Spec.Rootfs}
	default:
		return nil
	}
	if len(o.Lower) == 0 { // an image without layers
		o.Lower = []string{e.conf.Merged()}
	}
	if c.Spec.Remove && (c.Spec.Restart.Name == "" || c.Spec.Restart.Name == "no") {
		// Nobody will miss what a power loss takes; without it the last
		// unmount syncs the whole upper file system. Such a layer cannot be
		// mounted again, so not for what may be started again.
		o.Options = append(o.Options, "volatile")
	}
	if e.conf.Rootless {
		o.Options = append(o.Options, "userxattr")
	}
	o.Context = mountLabel(c)
	// What else storage.conf asks for tunes overlay and confines nobody.
	confine := map[string]uintptr{"nodev": unix.MS_NODEV, "nosuid": unix.MS_NOSUID, "noexec": unix.MS_NOEXEC}
	for _, opt := range e.conf.MountOptions() {
		o.Flags |= confine[opt]
	}
	return o
}

// openRunFile takes the lock that says that the container's monitor lives. It
// is handed on to the monitor, so there is no moment without a holder.
func (l *launch) openRunFile() error {
	f, err := runfile.Open(l.e.dir(l.c.ID))
	if err != nil {
		return cove.E("start container", l.c.Name, fileKind(err), err)
	}
	fd := f.FD()
	l.files = append(l.files, monitor.File{Name: "run", FD: fd})
	if member := rootless.Member(); member >= 0 {
		l.files = append(l.files, monitor.File{Name: memberFile, FD: member})
	}
	// The monitor of the run before may still be taking it down.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EWOULDBLOCK || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		return cove.E("start container", l.c.Name, cove.InUse, errors.New("its previous monitor does not end"))
	}
	if err := f.DropLastWords(); err != nil {
		return cove.E("start container", l.c.Name, fileKind(err), err)
	}
	return nil
}

// memberFile is what [rootless.Member] is handed as. To close any descriptor
// of that file would end our own membership, fcntl_locking(2).
const memberFile = "member"

// networkFile is the one of [rootless.Network], with the same caution.
const networkFile = "network"

// closeRunFile closes our copy of the file whose lock says that the monitor lives:
// whoever has the container's lock when we ask for it again may wait for that.
func (l *launch) closeRunFile() {
	l.files = slices.DeleteFunc(l.files, func(f monitor.File) bool {
		if f.Name == "run" {
			_ = unix.Close(f.FD)
		}
		return f.Name == "run"
	})
}

// closeFiles closes our copies of what was handed to the monitor.
func (l *launch) closeFiles() {
	for _, f := range l.files {
		if f.Name != memberFile && f.Name != networkFile {
			_ = unix.Close(f.FD)
		}
	}
	for _, f := range l.ports {
		_ = f.Close()
	}
	if l.netns >= 0 {
		_ = unix.Close(l.netns)
	}
	l.files, l.ports, l.netns = nil, nil, -1
}

// envelope tells the monitor all that it will need.
func (l *launch) envelope() wire.Envelope {
	e, c := l.e, l.c
	env := wire.Envelope{
		ID: c.ID, Name: c.Name, Dir: e.dir(c.ID), Socket: e.socket(c.ID),
		Generation: l.run.Generation + 1, BootID: procfs.BootID(),
		Terminal: c.Spec.Terminal, Stdin: c.Spec.Stdin, AttachOut: l.attach != nil, StdinOnce: c.Spec.Stdin && l.attach != nil && !l.attach.NoStdin,
		Cgroups: l.cgroups.Dirs, Unified: l.cgroups.Unified, MonitorCgroups: l.monitorCgroups,
		StopSignal: int(stopSignal(c)), StopTimeout: e.stopTimeout(c),
		Lifetime: time.Duration(c.Spec.Timeout) * time.Second,
		PidFile:  c.Spec.PidFile,
		Log:      wire.Log{Driver: e.logDriver(c), Path: e.logPath(c), MaxSize: e.logMaxSize(c), MaxFile: 1, Tag: l.logTag},
	}
	if p := c.Spec.Restart; p.Name != "" && p.Name != "no" {
		env.Restart = wire.Restart{Policy: p.Name, Retries: p.MaxRetries, Count: l.restarts}
	}
	env.Teardown.Remove = c.Spec.Remove
	env.Teardown.Removed = e.removedDir(c.ID)
	if backend := event.Backend(e.conf.File.Engine.EventsLogger); backend != event.ToNone {
		env.Events = &wire.Events{Image: c.Image.Name, Labels: labels(c), NoHealth: !e.conf.File.Engine.HealthcheckEvents}
		if backend == event.ToJournald {
			env.Events.Store = e.conf.GraphRoot
		} else {
			env.Events.Path = e.conf.EventLog()
		}
	}
	env.Health, env.Uplink, env.Hooks, env.Restore = l.health, l.uplink, l.hooks, l.restore
	if l.foreign != nil {
		env.Foreign = &wire.Foreign{Runtime: l.foreign.Runtime, Dir: l.foreign.Dir}
	}
	env.Resolver = e.resolver(c, l.networks)
	if e.lan != nil {
		env.Forward = wire.Forward{Member: rootless.Residents, Targets: targets(c, l.networks)}
	}
	return env
}
