package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
	"github.com/cove-engine/cove/internal/interrupt"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/network/teardown"
	"github.com/cove-engine/cove/internal/oci/native"
	"github.com/cove-engine/cove/internal/plan"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/rootless"
	"github.com/cove-engine/cove/internal/seccomp"
	"github.com/cove-engine/cove/internal/spec"
	"github.com/cove-engine/cove/internal/state"
)

// launch is that of one more run of the container held.
func (h *held) launch() *launch {
	e := h.e
	l := &launch{e: e, c: &h.Container.Container, run: h.Run, lock: &h.lock}
	if h.due {
		l.restarts = h.Run.Restarts
		if !h.Run.RestartDue && !h.restartsUnhealthy() { // it is the policy's, and not counted yet
			l.restarts++
		}
	}
	l.record = func() error {
		us, err := thisProcess()
		if err != nil {
			return err
		}
		return e.update(func(tx state.Tx) error {
			c := new(cove.Container)
			if err := tx.Get(state.Containers, h.ID, c); err != nil {
				return err
			}
			c.Desired = cove.DesireRun
			c.Run.Generation, c.Run.BootID = h.Run.Generation+1, procfs.BootID()
			c.StartedBy = cove.Process{}
			if l.hooks != nil { // somebody may look at it in between
				c.StartedBy = us
			}
			if err := noteStart(tx, c, us); err != nil {
				return err
			}
			if err := e.dropOutdated(tx, c); err != nil {
				return err
			}
			if err := e.lease(tx, c, nil); err != nil {
				return err
			}
			var err error
			if l.networks, err = e.networksOf(tx, c); err != nil {
				return err
			}
			c.CallerCgroup, c.CgroupBase = h.CallerCgroup, h.CgroupBase
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
	keep     []int          // descriptors that the command gets
	listen   []string       // the variables that tell it which of them are sockets
	unasked  bool           // by a command that is about something else
	restore  *wire.Restore  // nil: the run begins with the command
	unpack   func() error   // fills the container's directory and volumes; nil for nothing
	networks []cove.Network // set by record
	warnings []string
	// hostMounts are what mounts.conf has copied for the container.
	hostMounts []hostMount

	layout  cgroup.Layout
	spec    *specs.Spec
	extra   *spec.Extra
	filter  seccomp.Program
	cgroups cgroup.Set
	scope   chan error // how systemd's making of the scope has ended
	// monitorCgroups are those that the monitor was not born in.
	monitorCgroups []string
	foreign        *plan.Foreign // nil with cove's own runtime
	badID          bool          // the user's or a group's number cannot be one
	unfit          bool          // hooks or CDI devices are not to be had now
	hooks          *plan.Hooks   // nil without any
	// overtaken says that of a start that failed nothing is left to be undone:
	// what there is of the container is others'.
	overtaken bool
	joined    []Container // whose namespaces are shared
	let       bool        // the monitor was told to let the command go, and may have recorded the run
	// lock is where the container's is kept; nil in it until it is recorded.
	lock       *lock.Held
	reaper     bool // the command runs below our own init (--init)
	health     *wire.Health
	logTag     string
	uplink     *wire.Uplink
	netns      int
	files      []monitor.File
	ports      []*os.File
	undo       undo
	started    wire.StartedBody
	monitorPID int           // once it is ready
	took       time.Duration // from the go to the start
}

// do carries the launch out. On error nothing of it is left; the record is
// the caller's to undo.
func (l *launch) do(ctx context.Context) (*monitor.Conn, error) {
	l.netns = -1
	err := l.splitCgroup()
	if err == nil {
		err = l.describe(ctx)
	}
	if err != nil {
		return nil, err
	}
	for _, step := range []func() error{l.checkKept, l.addDevices, func() error { return l.addHooks(ctx) }} {
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
	ownNet := clone&unix.CLONE_NEWNET != 0 && (l.e.networkMode(l.c) == "bridge" || l.uplink != nil)
	if ownNet {
		clone &^= unix.CLONE_NEWNET // made here, so that it can be set up at once
	}
	if l.foreign != nil {
		clone = unix.CLONE_NEWNS // all else is the runtime's
	}
	var m starting
	l.monitorCgroups, err = l.layout.Born(l.e.monitorCgroups(l.c, l.layout), func(unified int) (err error) {
		if l.c.Spec.Monitor != "" {
			m, err = l.forkConmon(program, unified)
			return err
		}
		m, err = monitor.Fork(program, monitor.Birth{
			Flags: clone, Terminal: l.c.Spec.Terminal, Stdin: l.c.Spec.Stdin && !l.through(), Through: l.through(), Stdio: l.stdio(),
			Foreign: l.foreign != nil, Keep: l.keep, Cgroup: unified, Sibling: l.ofUnit(),
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(l.monitorCgroups) > 0 {
		l.e.monitorCgroups(l.c, l.layout) // a reset of another store may have removed it
	}
	defer l.closeFiles()
	if err := l.prepare(ctx, m, ownNet, joins); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		killed := m.Abort()
		if l.overtaken {
			return nil, err
		}
		if s, is := m.(*conmonStart); is {
			err = s.why(err)
		}
		if words := runfile.LastWords(l.e.dir(l.c.ID)); words != "" {
			err = fmt.Errorf("%w: %s", err, words)
		}
		if killed { // and cannot have seen to that
			l.undo.add(func() error {
				if l.hooks != nil {
					poststop(l.hooks)
				}
				return l.e.removeSocket(l.c.ID)
			})
		}
		return nil, l.undo.because(err)
	}
	if l.c.Spec.Monitor != "" && l.restore == nil { // ours tells it itself, before it tells of an end
		l.e.emit(l.c, "init")
		l.e.emit(l.c, "start")
		if l.attach != nil {
			l.e.emit(l.c, "attach")
		}
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

// prepare does everything between the fork of the monitor and the word go.
func (l *launch) prepare(ctx context.Context, m starting, ownNet bool, joins []native.Join) error {
	e, c := l.e, l.c
	type netnsResult struct {
		fd  int
		err error
	}
	var shares cgroup.Shares
	if c.CgroupManager == systemd {
		var err error
		if shares, err = l.layout.Shares(l.spec.Linux.Resources); err != nil {
			return err
		}
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
		go func() { l.scope <- e.startScope(c, l.layout, shares, m.MonitorPID()) }()
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
		l.copyHostMounts,
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
	interrupt.Hear()
	if err := ctx.Err(); err != nil {
		return err
	}
	var down wire.GoBody
	connect := func() error {
		if len(c.Attachments) == 0 || !ownNet {
			return nil
		}
		td, err := l.join(ctx)
		if err != nil {
			return err
		}
		l.undo.add(func() error { return teardown.Run(td) })
		down.Nft = td.Nft
		if down.Unlink, err = e.publishNames(c, l.networks); err != nil {
			return err
		}
		l.undo.add(func() error { return e.forgetNames(c) })
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
	l.monitorPID = m.MonitorPID()
	if err := l.writePidFiles(l.monitorPID); err != nil {
		return err
	}
	if c.Spec.Remove && hasCIDFile(c) {
		down.Unlink = append(down.Unlink, c.Spec.CIDFile)
	}
	gone := time.Now()
	l.let = true
	return l.wait(ctx, func() (err error) {
		if l.foreign != nil { // that may hang
			defer context.AfterFunc(ctx, func() { e.callOffStart(c) })()
		}
		l.started, err = m.Go(down)
		l.took = time.Since(gone)
		l.closeRunFile()
		return err
	})
}

// images is where those of the checkpoint are that is restored.
func (l *launch) images() string {
	if l.restore == nil {
		return ""
	}
	return l.restore.Dir
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
		case w.Temporary:
			if err := rootfs.RemoveTree(filepath.Dir(w.Upper)); err != nil {
				return cove.E("prepare mount", w.Destination, fileKind(err), err)
			}
			for _, dir := range []string{w.Upper, w.Work} {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					return cove.E("prepare mount", w.Destination, fileKind(err), err)
				}
			}
		default:
			for _, dir := range []string{w.Upper, w.Work} {
				if _, err := os.Stat(dir); err != nil {
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
		if err := l.e.endRuntimes(l.c); err != nil {
			return err
		}
		if err := cgroup.Kill(set.Dirs, time.Now().Add(10*time.Second)); err != nil {
			return err
		}
		return set.Remove()
	})
	return nil
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

// heldPort and forwardedPort, before the port, are what a socket that reserves a published
// port is handed as. It is closed with l.ports.
const (
	heldPort      = "hold"
	forwardedPort = "port:"
)

// closeFiles closes our copies of what was handed to the monitor.
func (l *launch) closeFiles() {
	for _, f := range l.files {
		if f.Name != memberFile && f.Name != networkFile && f.Name != heldPort && !strings.HasPrefix(f.Name, forwardedPort) {
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
	stdin := c.Spec.Stdin && !l.through()
	env := wire.Envelope{
		ID: c.ID, Name: c.Name, Dir: e.dir(c.ID), Socket: e.socket(c.ID),
		Generation: l.run.Generation + 1, BootID: procfs.BootID(),
		Terminal: c.Spec.Terminal, Stdin: stdin, AttachOut: l.attach != nil, StdinOnce: stdin && l.attach != nil && !l.attach.NoStdin,
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
	env.Events = e.monitorEvents(c)
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
