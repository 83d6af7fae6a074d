package engine

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/rootless"
	"github.com/cove-engine/cove/internal/state"
	"github.com/cove-engine/cove/internal/unnamed"
)

// What conmon does not do for a container is done by an aide, a process of
// cove's monitor's program that knows the container's process and ends with it
// (internal/monitor/serve). One that stays has a run file of its own, because
// a run file has one writer, and listens where a monitor would.

func (e *Engine) aideDir(id string) string { return filepath.Join(e.dir(id), "aide") }

// mergeAide lays what the aide of a run has recorded over what is known of it.
func mergeAide(c *Container) {
	checked := healthCheck(&c.Container) != nil
	if checked {
		c.Run.Health = &cove.Health{Status: "starting"}
	}
	aide, err := runfile.Read(filepath.Join(c.Dir, "aide"))
	if err != nil || aide.Generation != c.Run.Generation || aide.BootID != c.Run.BootID {
		return
	}
	c.Run.Disconnected, c.Run.Execs = aide.Disconnected, aide.Execs
	if checked {
		c.Run.Health, c.Run.Stopping = aide.Health, c.Run.Stopping || aide.Stopping
	}
}

// restartsUnhealthy tells whether the container was ended for its health, to be
// started again.
func (c *Container) restartsUnhealthy() bool {
	if c.Run.Health != nil && c.Run.Health.Restart {
		return true
	}
	// An older release's aide says no more than this.
	check := healthCheck(&c.Container)
	return check != nil && check.OnFailure == "restart" && c.Run.Health != nil && c.Run.Health.Status == "unhealthy"
}

// aideFor connects to the process that answers a kind of message about a
// container that conmon watches.
func (e *Engine) aideFor(c *Container, k wire.Kind) (*monitor.Conn, error) {
	conn, err := monitor.Dial(e.socket(c.ID))
	if cove.Is(err, cove.NoFile) {
		conn, err = e.redial(c, e.signalAide)
	}
	if err == nil && k == wire.Checkpoint {
		if told, err := e.aideTold(c.ID); err != nil || !told.Checkpoints {
			conn.Close()
			return nil, cove.E("", "", cove.Unsupported, errors.New("it is an older release's, which makes no checkpoints beside conmon: restart the container"))
		}
	}
	if err == nil || !cove.Is(err, cove.NoFile) {
		return conn, err
	}
	env := e.aideEnvelope(c)
	switch k {
	case wire.Exec, wire.Checkpoint:
		s, err := e.startAide(c, env, nil)
		if err != nil {
			return nil, err
		}
		return s.Conversation(), nil
	case wire.Networks:
		netns, nerr := networkOf(c)
		if nerr != nil {
			return nil, nerr
		}
		defer unix.Close(netns)
		return e.stayAide(c, env, netns)
	}
	return nil, err
}

// signalAide sends a signal to the aide that stays with a container; ESRCH when none
// does.
func (e *Engine) signalAide(c *Container, sig unix.Signal) error {
	dir := e.aideDir(c.ID)
	aide, err := runfile.Read(dir)
	if err != nil || !alive(dir) {
		return unix.ESRCH
	}
	fd, err := procfs.Open(aide.MonitorPID, aide.MonitorStart)
	if err != nil {
		return unix.ESRCH
	}
	defer unix.Close(fd)
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}

// aideEnvelope is what any aide has to know of a container.
func (e *Engine) aideEnvelope(c *Container) wire.Envelope {
	return wire.Envelope{
		ID: c.ID, Name: c.Name, Dir: c.Dir, Generation: c.Run.Generation, BootID: c.Run.BootID,
		StopSignal: int(stopSignal(&c.Container)), StopTimeout: e.stopTimeout(&c.Container), Started: c.Run.Started,
		Events: e.monitorEvents(&c.Container),
	}
}

// startAide starts one. What it says first is its failure, or nothing.
func (e *Engine) startAide(c *Container, env wire.Envelope, files []monitor.File) (*monitor.Starting, error) {
	program, err := e.monitor()
	if err != nil {
		return nil, err
	}
	f, err := e.foreign(&c.Container)
	if err != nil {
		return nil, err
	}
	layout, err := e.cgroups()
	if err != nil {
		return nil, err
	}
	env.Foreign = &wire.Foreign{Runtime: f.Runtime, Dir: f.Dir}
	env.Init = &wire.Process{PID: c.Run.PID, Start: c.Run.PIDStart}
	if env.Cgroups, err = e.cgroupDirs(&c.Container); err != nil {
		return nil, err
	}
	var s *monitor.Starting
	env.MonitorCgroups, err = layout.Born(e.monitorCgroups(&c.Container, layout), func(unified int) (err error) {
		s, err = monitor.Fork(program, monitor.Birth{Name: "cove-aide", Cgroup: unified})
		return err
	})
	if err != nil {
		return nil, err
	}
	if c.CgroupManager == systemd {
		env.MonitorCgroups = []string{layout.Mount + scopeOf(&c.Container).Path() + "/" + monitorName}
	}
	if member := rootless.Member(); member >= 0 {
		files = append(files, monitor.File{Name: memberFile, FD: member})
	}
	if err := s.Start(env, files); err != nil {
		s.Kill()
		return nil, err
	}
	return s, nil
}

// stayAide starts one that stays with the container as long as it has something
// to do, and returns when it is ready. netns is the container's network
// namespace; files are what it needs for an ordinary user's network.
func (e *Engine) stayAide(c *Container, env wire.Envelope, netns int, files ...monitor.File) (*monitor.Conn, error) {
	env.Socket = e.socket(c.ID)
	more := e.aideEnvelope(c)
	env.Generation, env.Started, env.Handed, env.Checkpoints = more.Generation, more.Started, nil, true
	dir := e.aideDir(c.ID)
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return nil, cove.E("start aide of container", c.Name, fileKind(err), err)
	}
	f, err := runfile.Open(dir)
	if err != nil {
		return nil, cove.E("start aide of container", c.Name, fileKind(err), err)
	}
	defer f.Close()
	// Held by the aide as long as it has something that is the container's.
	for deadline := time.Now().Add(aidePatience); ; time.Sleep(time.Millisecond) {
		if err = unix.Flock(f.FD(), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			break
		}
		if err != unix.EWOULDBLOCK || time.Now().After(deadline) {
			return nil, cove.E("start aide of container", c.Name, cove.InUse, errors.New("the one before does not end"))
		}
	}
	files = append(files, monitor.File{Name: "run", FD: f.FD()})
	if netns >= 0 {
		files = append(files, monitor.File{Name: "ns:" + strconv.Itoa(unix.CLONE_NEWNET), FD: netns})
	}
	if err := e.keepEnvelope(c, env); err != nil {
		return nil, err
	}
	s, err := e.startAide(c, env, files)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), aidePatience)
	defer cancel()
	if err := s.Ready(ctx); err != nil {
		s.Kill()
		return nil, err
	}
	return s.Conversation(), nil
}

// envelopeName is the file beside its run file that says what an aide was told,
// for the one that takes its place when it is killed.
const envelopeName = "envelope"

func (e *Engine) keepEnvelope(c *Container, env wire.Envelope) error {
	fail := func(err error) error { return cove.E("start aide of container", c.Name, fileKind(err), err) }
	text, err := json.Marshal(env)
	if err != nil {
		return fail(err)
	}
	dir := e.aideDir(c.ID)
	f, err := unnamed.Create(dir, 0o600, false)
	if err != nil {
		return fail(err)
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Publish(filepath.Join(dir, envelopeName))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fail(err)
	}
	return nil
}

// aideTold reads what the aide that stays with a container, or did, was told.
func (e *Engine) aideTold(id string) (*wire.Envelope, error) {
	text, err := readOwn(filepath.Join(e.aideDir(id), envelopeName))
	if err != nil {
		return nil, err
	}
	env := new(wire.Envelope)
	return env, json.Unmarshal(text, env)
}

// lostAide gives what an aide is to be told that takes the place of one that was
// killed while its container ran; nil when none was.
func (e *Engine) lostAide(c *Container) *wire.Envelope {
	if c.Spec.Monitor == "" || c.Run.PID == 0 || !procfs.Lives(c.Run.PID, c.Run.PIDStart) {
		return nil
	}
	dir := e.aideDir(c.ID)
	aide, err := runfile.Read(dir)
	if err != nil || aide.Generation != c.Run.Generation || aide.BootID != c.Run.BootID || alive(dir) {
		return nil
	}
	env, err := e.aideTold(c.ID)
	if err != nil {
		return nil
	}
	env.Name = c.Name
	// The container may have been connected to others since.
	var networks []cove.Network
	err = e.store.View(func(tx state.Tx) error {
		networks, err = e.networksOf(tx, &c.Container)
		return err
	})
	if err != nil {
		return nil
	}
	env.Resolver = e.resolver(&c.Container, networks)
	if e.lan != nil {
		env.Forward.Targets = targets(&c.Container, networks)
	}
	if env.Health == nil && env.Resolver == nil && env.Uplink == nil && !e.resides(c) {
		return nil
	}
	return env
}

// resides tells whether the container's ports are its monitor's to forward, in
// the namespace of an ordinary user's bridges.
func (e *Engine) resides(c *Container) bool { return e.lan != nil && len(c.Attachments) > 0 }

// settleAide starts an aide in the place of one that was killed.
func (h *held) settleAide() error {
	env := h.e.lostAide(&h.Container)
	if env == nil {
		return nil
	}
	l := &launch{e: h.e, c: &h.Container.Container, uplink: env.Uplink, netns: -1}
	defer l.closeFiles()
	if h.e.resides(&h.Container) {
		if err := errors.Join(l.home(true), l.reservePorts()); err != nil {
			return err
		}
	}
	var err error
	if l.netns, err = networkOf(&h.Container); err != nil {
		return err
	}
	aide, err := h.e.stayAide(&h.Container, *env, l.netns, l.files...)
	if err != nil {
		return err
	}
	aide.Close()
	return nil
}

// awaitAide waits until the aide of a run that has ended has let go of what was
// the container's, its published ports before all.
func (e *Engine) awaitAide(id string) error {
	dir := e.aideDir(id)
	if monitorEnds(dir, 10*time.Second) {
		return nil
	}
	// Somebody has stopped it.
	run, err := runfile.Read(dir)
	if err != nil {
		return err
	}
	fd, err := procfs.Open(run.MonitorPID, run.MonitorStart)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	return endProcess(fd, 10*time.Second)
}

// aidePatience is how long an aide may take to be ready.
const aidePatience = 30 * time.Second
