package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/ctrinit/drive"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/lock/file"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/conmon"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/plan"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/state"
)

// A container may be watched by conmon in place of cove's own monitor. conmon
// is the parent of the container's process, copies its streams and tells its
// exit in a file. The run file is then written by whoever holds the container's
// lock: at the start by the command that starts it, at the end by the first that
// finds the exit file, which at the latest is conmon's exit command (Cleanup).
//
// conmon has the lock on the run file among the descriptors that it inherits,
// and lets go of it when the container has ended, before it tells the exit.
// So a run has ended when its exit is told, or when conmon is gone.

// chooseMonitor decides what watches a new container.
func (e *Engine) chooseMonitor(ctx context.Context, c *cove.Container) (err error) {
	if c.Spec.Monitor == "" {
		if c.Spec.Monitor, err = e.conf.Monitor(); err != nil {
			return err
		}
	}
	if c.Spec.Monitor == "" {
		return nil
	}
	program, err := e.conmonProgram(c.Spec.Monitor)
	if err != nil {
		return err
	}
	version, err := askConmon(ctx, program)
	if err != nil {
		return err
	}
	return conmon.Check(program, version)
}

// askConmon gives what a program says that its version is.
func askConmon(ctx context.Context, program string) (string, error) {
	out, err := askProgram(ctx, program, "--version")
	if err != nil {
		return "", cove.E("ask the version of conmon", program, cmp.Or(cove.KindOf(err), cove.Invalid), err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line, nil
}

// conmonProgram finds conmon: a path as it is, the name by containers.conf's
// conmon_path, then in PATH.
func (e *Engine) conmonProgram(name string) (string, error) {
	if strings.Contains(name, "/") {
		program, err := filepath.Abs(name)
		if err == nil {
			err = executable(program)
		}
		if err != nil {
			return "", cove.E("", "", cove.Invalid, fmt.Errorf("conmon %s cannot be executed: %w", name, err))
		}
		return program, nil
	}
	for _, p := range e.conf.File.Engine.ConmonPath.Get() {
		if executable(p) == nil {
			return p, nil
		}
	}
	program, err := exec.LookPath(name)
	if err == nil {
		program, err = filepath.Abs(program)
	}
	if err != nil {
		return "", cove.E("", "", cove.Invalid, fmt.Errorf("%s not found, neither in containers.conf's conmon_path nor in PATH: invalid argument", name))
	}
	return program, nil
}

// outputPatience is how long conmon may take to pass on the output of a container
// that has ended, before it tells that.
const outputPatience = 10 * time.Second

// exits is where conmon tells a container's exit: not in the bundle, which goes
// before the exit is recorded.
func (e *Engine) exits(id string) string { return filepath.Join(e.dir(id), "exits") }

// conmonLives tells whether the conmon of a run does, be it only to wait for its
// exit command.
func conmonLives(run *cove.Run) bool {
	return run.MonitorPID != 0 && !procfs.OtherBoot(run.BootID) && procfs.Lives(run.MonitorPID, run.MonitorStart)
}

// reported takes over into a look at a run what conmon has told of its end.
// lost is what would be said of it otherwise.
func (e *Engine) reported(c *Container, lost string) bool {
	if c.Spec.Monitor == "" || lost == exitUnknown {
		return false
	}
	end, told := conmon.ReadEnd(e.exits(c.ID), e.bundle(c.ID), c.ID)
	if !told {
		return false
	}
	c.Status, c.reported = cove.Exited, true
	c.Run.PID, c.Run.PIDStart = 0, 0
	c.Run.ExitCode, c.Run.Finished, c.Run.OOMKilled = end.Code, end.At, end.OOM
	if c.Run.Dumping {
		c.showCheckpoint()
	}
	return true
}

// conmonStart is a start with conmon.
type conmonStart struct {
	*monitor.Starting
	l      *launch
	run    *runfile.File
	told   *os.File // where conmon tells that the container is there
	conn   *monitor.Conn
	log    *os.File // nil for none
	birth  conmon.Birth
	env    wire.Envelope
	said   *os.File // its standard error; nil where that is the container's
	words  string   // the end of what it has said there, when it is over
	itself bool     // it had ended by itself when the start was given up
	// aide are the descriptors that are an aide's in the place of conmon's.
	aide []monitor.File
}

// forkConmon forks the process that will be conmon.
func (l *launch) forkConmon(program string, cgroup int) (starting, error) {
	conmonPath, err := l.e.conmonProgram(l.c.Spec.Monitor)
	if err != nil {
		return nil, err
	}
	stdio := l.stdio()
	var said *os.File
	if !l.through() { // else they are the container's
		fd, err := unix.MemfdCreate("conmon", unix.MFD_CLOEXEC)
		if err != nil {
			return nil, cove.E("start monitor", "", cove.Internal, err)
		}
		said = os.NewFile(uintptr(fd), "conmon")
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			_ = said.Close()
			return nil, cove.E("start monitor", "", cove.Internal, err)
		}
		defer null.Close()
		stdio = []uintptr{null.Fd(), null.Fd(), said.Fd()}
	}
	s, err := monitor.Fork(program, monitor.Birth{Name: "cove-conmon", Stdio: stdio, Cgroup: cgroup, Sibling: l.ofUnit()})
	if err != nil {
		_ = said.Close()
		return nil, err
	}
	c := l.c
	return &conmonStart{Starting: s, l: l, said: said, birth: conmon.Birth{
		Program: conmonPath, ID: c.ID, Name: c.Name, Bundle: l.e.bundle(c.ID), Exits: l.e.exits(c.ID),
		Runtime: []string{program, "drive"}, Restore: l.images(),
	}}, nil
}

// Clone does nothing: conmon starts the runtime when it starts.
func (s *conmonStart) Clone(string) error { return nil }

// Start makes the process conmon, whose OCI runtime is the driver, and sends
// that its plan.
func (s *conmonStart) Start(env wire.Envelope, files []monitor.File) error {
	e, b := s.l.e, &s.birth
	s.env = env
	b.Log, b.Terminal, b.Stdin, b.KeepStdin, b.Lifetime = env.Log, env.Terminal, env.Stdin, !env.StdinOnce, env.Lifetime
	var err error
	if b.ExitCommand, err = e.exitCommand(env.ID, env.Generation); err != nil {
		return err
	}
	if s.log, err = b.OpenLog(); err != nil {
		return cove.E("start container", env.Name, fileKind(err), err)
	}
	for _, dir := range []string{b.Bundle, b.Exits} {
		if err = os.RemoveAll(dir); err == nil {
			err = os.Mkdir(dir, 0o700)
		}
		if err != nil {
			return cove.E("start container", env.Name, fileKind(err), err)
		}
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return cove.E("start container", env.Name, cove.Internal, err)
	}
	defer writer.Close()
	s.told = reader
	prepare, become := wire.PrepareBody{Unread: !env.Terminal && !passthrough(env.Log.Driver)}, wire.Become{}
	if env.Restore != nil {
		prepare.Restore = &env.Restore.Images
	}
	var plan, inherited []int
	shm, ports := -1, 0
	inherited = append(inherited, int(writer.Fd()))
	for _, f := range files {
		switch {
		case f.Name == "plan":
			plan = append([]int{f.FD}, plan...)
		case f.Name == "shm":
			prepare.Shm, shm = true, f.FD
		case f.Name == "run":
			s.run = runfile.Attach(f.FD)
			inherited = append(inherited, f.FD)
		case f.Name == heldPort:
			ports++
			inherited = append(inherited, f.FD)
		case f.Name == memberFile:
			become.Member = wire.BecomeFD + len(inherited)
			inherited = append(inherited, f.FD)
		case f.Name == "home", f.Name == networkFile, strings.HasPrefix(f.Name, "port:"):
			s.aide = append(s.aide, f)
		case strings.HasPrefix(f.Name, "ns:"):
			flag, err := strconv.Atoi(f.Name[3:])
			if err != nil {
				return cove.E("start container", env.Name, cove.Internal, err)
			}
			// conmon holds them, for the runtime to find again at a checkpoint.
			prepare.Namespaces, prepare.Held = append(prepare.Namespaces, flag), append(prepare.Held, wire.BecomeFD+len(inherited))
			plan, inherited = append(plan, f.FD), append(inherited, f.FD)
		default:
			return cove.E("start container", env.Name, cove.Unsupported, errors.New("conmon has no use for "+f.Name))
		}
	}
	if shm >= 0 {
		plan = append(plan, shm)
	}
	if others := len(inherited) - ports; len(inherited) > wire.MaxFDs {
		return cove.E("start container", env.Name, cove.Unsupported, fmt.Errorf("conmon can hold %d published ports of it at most", wire.MaxFDs-others))
	}
	// Before there is anything to be found: whoever comes after a command that
	// is killed in here knows which process it was about.
	if err := s.note(); err != nil {
		return err
	}
	become.Args, become.Env, become.Cgroups = b.Args(), e.conmonEnv(), env.MonitorCgroups
	become.Env = append(become.Env, "_OCI_SYNCPIPE="+strconv.Itoa(wire.BecomeFD))
	err = s.SendJSON(wire.Start, become, inherited...)
	if err == nil {
		err = s.SendJSON(wire.Prepare, prepare, plan...)
	}
	if errors.Is(err, unix.EPIPE) {
		err = monitor.ErrEnded
	}
	if err != nil {
		return cove.E("start container", env.Name, cove.Internal, err)
	}
	return nil
}

// why tells of a conmon that has ended by itself which one it was, how it has
// ended and what it said: after Abort.
func (s *conmonStart) why(err error) error {
	if !errors.Is(err, monitor.ErrEnded) || !s.itself { // or it was its guard
		return err
	}
	text := fmt.Sprintf("conmon %s has ended: %s", s.birth.Program, s.End())
	if s.words != "" {
		text += "; it said: " + s.words
	}
	return cove.E("start container", s.l.c.Name, cove.Unavailable, errors.New(text))
}

// listened takes the end of what conmon has said, and hears no more.
func (s *conmonStart) listened() {
	if s.said == nil {
		return
	}
	const most = 300
	words := make([]byte, most)
	end, _ := s.said.Seek(0, io.SeekEnd)
	n, _ := s.said.ReadAt(words, max(0, end-most))
	s.words = strings.Join(strings.Fields(string(words[:n])), " ")
	_ = s.said.Close()
	s.said = nil
}

// note records conmon in the run file beside what is true of the run before.
func (s *conmonStart) note() error {
	run := s.l.run
	run.PID, run.PIDStart, run.MonitorPID, run.BootID = 0, 0, s.MonitorPID(), procfs.BootID()
	run.MonitorStart, _ = procfs.StartTime(s.MonitorPID())
	run.Poststop = s.poststop()
	if err := s.run.Write(&run, false); err != nil {
		return cove.E("write run file", s.l.c.Name, fileKind(err), err)
	}
	return nil
}

// poststop tells whether hooks are due at the end of the run.
func (s *conmonStart) poststop() bool { return s.l.hooks != nil && len(s.l.hooks.Poststop) > 0 }

// conmonEnv is what of our environment is conmon's and its exit command's, and
// of containers.conf's conmon_env_vars what our environment does not have: so
// podman, whose conmon gets all of its environment.
func (e *Engine) conmonEnv() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "PATH", "HOME", "TMPDIR", "LANG", "NOTIFY_SOCKET":
			return false
		}
		for _, prefix := range []string{"CONTAINERS_", "STORAGE_", "XDG_", "COVE_", "DBUS_", "_CONTAINERS_"} {
			if strings.HasPrefix(name, prefix) {
				return false
			}
		}
		return true
	})
	for _, kv := range e.conf.ConmonEnv() {
		name, _, _ := strings.Cut(kv, "=")
		if value, is := os.LookupEnv(name); is {
			kv = name + "=" + value
		}
		if !slices.Contains(env, kv) {
			env = append(env, kv)
		}
	}
	return env
}

// isCove tells by its main package whether a program is cove, whatever it is called,
// and not one with the engine in it.
func isCove(main string) bool {
	return main == "github.com/cove-engine/cove/cmd/cove" || main == "github.com/cove-engine/cove/cmd/cove-full"
}

// exitCommand is what conmon runs when a run has ended: cove.
func (e *Engine) exitCommand(id string, generation uint64) ([]string, error) {
	self, err := os.Executable()
	if info, told := debug.ReadBuildInfo(); err != nil || !told || !isCove(info.Path) || unix.Access(self, unix.X_OK) != nil {
		self, err = exec.LookPath("cove")
	}
	if err != nil {
		return nil, cove.E("find cove, which conmon is to run at the end", "", cove.Unsupported, err)
	}
	flags, err := e.conf.Flags()
	if err != nil {
		return nil, err
	}
	return slices.Concat([]string{self}, flags, []string{"container", "cleanup", "--run", strconv.FormatUint(generation, 10), id}), nil
}

// conmonPatience is how long conmon may take to call its runtime, and to tell that
// the container is there when that has made it.
const conmonPatience = 30 * time.Second

// Ready waits until the runtime has made the container.
func (s *conmonStart) Ready(ctx context.Context) error {
	err := s.Begun(ctx, conmonPatience)
	if errors.Is(err, monitor.ErrNoAnswer) {
		return cove.E("start container", s.l.c.Name, cove.Unavailable, fmt.Errorf("conmon %s has not called its OCI runtime after %v", s.birth.Program, conmonPatience))
	}
	if err == nil {
		err = s.Starting.Ready(ctx)
	}
	return err
}

// Go records the run and has the runtime start the container.
func (s *conmonStart) Go(down wire.GoBody) (wire.StartedBody, error) {
	var started wire.StartedBody
	e, c, l := s.l.e, s.l.c, s.l
	if l.restore != nil {
		// It runs at once: when we are killed before it is recorded, whoever
		// comes next ends it, and it is as checkpointed as before.
		if _, err := s.Starting.Go(down); err != nil {
			return started, err
		}
	}
	pid, err := conmon.Created(s.told, conmonPatience)
	if err != nil {
		return started, err
	}
	run := cove.Run{
		Generation: l.run.Generation + 1, BootID: procfs.BootID(), PID: pid, MonitorPID: s.MonitorPID(),
		Started: time.Now(), Restarts: l.restarts, Poststop: s.poststop(),
	}
	if l.restore != nil {
		run.Started, run.Restored = l.restore.Started, time.Now()
	}
	run.MonitorStart, _ = procfs.StartTime(run.MonitorPID)
	run.PIDStart, _ = procfs.StartTime(pid)
	if err = s.run.Write(&run, false); err == nil && !c.Spec.Remove {
		err = s.run.Reserve() // an exit must find its place on a disk that is full by then
	}
	if err != nil {
		return started, cove.E("write run file", c.Name, fileKind(err), err)
	}
	if c.Spec.PidFile != "" {
		_ = os.WriteFile(c.Spec.PidFile, []byte(strconv.Itoa(pid)), 0o644)
	}
	now := Container{Container: *c, Dir: e.dir(c.ID)}
	now.Run = run
	if s.env.Health != nil || s.env.Resolver != nil || s.env.Uplink != nil || len(s.aide) > 0 {
		// Before the command can ask for a name, or for what lies beyond.
		aide, err := e.stayAide(&now, s.env, l.netns, s.aide...)
		if err != nil {
			return started, err
		}
		defer aide.Close()
	}
	s.conn = monitor.Wrap(-1)
	switch {
	case l.attach != nil && passthrough(s.env.Log.Driver):
		if s.conn, err = e.speakConmon(&now, nil); err != nil {
			return started, err
		}
	case l.attach != nil:
		// From the first byte on.
		stream, err := conmon.Attach(s.birth.Bundle)
		if err != nil {
			return started, err
		}
		if s.conn, err = e.speakConmon(&now, stream); err != nil {
			return started, err
		}
		if size := windowSize(l.attach.Streams.Terminal); c.Spec.Terminal && size != (wire.Size{}) {
			_ = conmon.Resize(s.birth.Bundle, size)
		}
	}
	// Whoever ends the container waits for the lock on the file: it is conmon's
	// alone from here on, however long the runtime waits for hooks.
	l.closeRunFile()
	// By the guard, which does not mind our being killed from here on.
	if l.restore == nil {
		if _, err := s.Starting.Go(down); err != nil {
			s.conn.Close()
			return started, err
		}
	}
	s.Starting.Close()
	s.listened()
	_ = s.told.Close()
	_ = s.log.Close()
	return wire.StartedBody{PID: pid, PIDStart: run.PIDStart, Monitor: run.MonitorPID}, nil
}

// Conversation is with conmon, for who is attached.
func (s *conmonStart) Conversation() *monitor.Conn { return s.conn }

// Abort ends conmon and whatever it has had made. The guard, if there is one, is
// told that it need not.
func (s *conmonStart) Abort() (killed bool) {
	s.itself = s.Ends(100 * time.Millisecond) // its end of the socket is closed before it is gone
	_ = s.Send(wire.Done, nil)
	s.Kill()
	s.listened()
	if s.told != nil {
		_ = s.told.Close()
	}
	_ = s.log.Close()
	now := Container{Container: *s.l.c, Dir: s.l.e.dir(s.l.c.ID)}
	if !s.l.overtaken {
		_ = s.l.e.clear(&now)
	}
	return true
}

// dialConmon begins a conversation with the monitor of a container that conmon
// watches; NoFile when it does not run.
func (e *Engine) dialConmon(c *Container) (*monitor.Conn, error) {
	if c.Run.PID == 0 {
		return nil, cove.E("reach monitor of container", c.Name, cove.NoFile, unix.ESRCH)
	}
	return e.speakConmon(c, nil)
}

func (e *Engine) speakConmon(c *Container, attached *conmon.Stream) (*monitor.Conn, error) {
	f, err := runfile.Open(c.Dir)
	if err != nil {
		return nil, cove.E("reach monitor of container", c.Name, fileKind(err), err)
	}
	now := *c
	return conmon.Open(conmon.Watched{
		Bundle: e.bundle(c.ID),
		Signal: func(sig unix.Signal) error { return e.signal(&now, sig) },
		Drops:  func(sig unix.Signal) bool { return procfs.Drops(now.Run.PID, sig) },
		Stopping: func() { // under the container's lock
			if run, err := f.Read(); err == nil && run.PID == now.Run.PID {
				run.Stopping = true
				_ = f.Write(run, false)
			}
		},
		Ended: func(ctx context.Context) (wire.ExitBody, error) {
			run, err := e.awaitConmon(ctx, &now, f)
			return wire.ExitBody{Code: run.ExitCode, OOMKilled: run.OOMKilled}, err
		},
		Settle: func(ctx context.Context) { _ = e.settleRun(lock.Track(ctx), now.ID, now.Run.Generation) },
		Aide:   func(k wire.Kind) (*monitor.Conn, error) { return e.aideFor(&now, k) },
		Close:  f.Close,
	}, attached)
}

// awaitConmon waits for the end of a run. Its file stays open: somebody may
// have removed the container by then.
func (e *Engine) awaitConmon(ctx context.Context, c *Container, f *runfile.File) (cove.Run, error) {
	if fd, err := procfs.Open(c.Run.PID, c.Run.PIDStart); err == nil {
		defer unix.Close(fd)
		for ctx.Err() == nil {
			if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 200); n > 0 || err != nil && err != unix.EINTR {
				break
			}
		}
	}
	for wait := 500 * time.Microsecond; ; wait = min(2*wait, 50*time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return cove.Run{}, err
		}
		run, err := f.Read()
		if err != nil {
			return cove.Run{}, err
		}
		if run.Generation != c.Run.Generation { // recorded, and started again
			if before, err := f.ReadGeneration(c.Run.Generation); err == nil {
				run = before
			}
			return *run, nil
		}
		if run.PID != c.Run.PID {
			return *run, nil // recorded
		}
		now := Container{Container: c.Container, Dir: c.Dir}
		now.Run = *run
		why := lost(&c.Container, run, alive(c.Dir))
		if e.reported(&now, why) && !now.dumping {
			return now.Run, nil
		}
		if why != "" && !now.dumping {
			// Whoever has recorded what conmon told may have removed that since, and
			// have recorded it in a file made anew.
			if now, err := runfile.Read(c.Dir); err == nil && now.Generation == c.Run.Generation && now.PID == 0 {
				return *now, nil
			}
			if run, err = f.Read(); err == nil && run.PID == c.Run.PID {
				run.ExitCode = lostCode
			}
			return *run, err
		}
		time.Sleep(wait)
	}
}

// undecided tells whether the command that starts a container was killed, and
// the guard that it had has not yet ended the start or carried it out.
func (e *Engine) undecided(c *Container) bool {
	if c.Spec.Monitor == "" {
		return false
	}
	locked, err := file.Locked(filepath.Join(e.bundle(c.ID), plan.GuardFile))
	return locked && err == nil
}

// endGuard has the guard of a start end what there is, if it is still there.
func (e *Engine) endGuard(id string) {
	text, err := readOwn(filepath.Join(e.bundle(id), plan.GuardFile))
	if err != nil {
		return
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		return // it is just being started
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if argv, _ := commandLine(pid); drive.IsGuard(argv, id) {
		_ = unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0)
	}
}

// settleRun has a run that has ended recorded and taken down, by us or by
// whoever holds the container's lock: it returns when that is done.
func (e *Engine) settleRun(ctx context.Context, id string, generation uint64) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		now, err := e.recorded(id)
		if err != nil || now == nil {
			return err
		}
		// What is being removed has a record longer than a run.
		if now.Status != cove.Removing && (now.Run.Generation != generation || now.Run.PID == 0 && now.Run.Down && !now.Spec.Remove) {
			return nil
		}
		l, err := e.locks.TryLock(ctx, lock.Container, id)
		if err == nil {
			h, err := e.holdLocked(ctx, id, l)
			if errors.Is(err, errSettledAway) || cove.Is(err, cove.NotFound) {
				return nil
			}
			if err == nil {
				h.release()
			}
			if !errors.Is(err, errAboutToStart) { // its guard is still there
				return err
			}
		} else if !cove.Is(err, cove.InUse) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// settleConmon ends what a command that was killed before go has left of a
// start, and does what conmon's exit command would have, had it not been killed
// between recording the end and that. done tells that nothing else is to be
// settled.
func (h *held) settleConmon(ctx context.Context) (done bool, err error) {
	lives := conmonLives(&h.Run)
	if h.Run.PID == 0 && !h.reported && lives && alive(h.Dir) {
		if err := h.e.endConmon(&h.Run); err != nil {
			return false, cove.E("end conmon of container", h.Name, cove.Internal, err)
		}
		if err := h.e.clear(&h.Container); err != nil {
			return false, err
		}
		return false, h.again()
	}
	if h.Status != cove.Exited || !h.Run.Down {
		return false, nil
	}
	if h.goes() {
		return true, h.settleAway(ctx)
	}
	h.due = h.restartWanted() && !lives
	return false, nil
}

// restartWanted tells whether the restart policy asks for another run of a
// container that conmon has watched to its end.
func (c *Container) restartWanted() bool {
	return c.Status == cove.Exited && c.Run.Down && c.Run.Checkpointed.IsZero() && c.Run.Exit == "" && !procfs.OtherBoot(c.Run.BootID) &&
		c.Desired == cove.DesireRun && !c.Run.Stopping &&
		(c.Run.RestartDue || // and counted
			c.Run.Error == "" && (c.Spec.Restart.Restarts(c.Run.ExitCode, c.Run.Restarts) || c.restartsUnhealthy()))
}

// goes tells whether a container that has ended goes with its end, as --rm asks:
// not when a checkpoint has ended it, nor while its policy has another run follow. That is for our own monitor to
// see to, and where it was killed there is none.
func (c *Container) goes() bool {
	return c.Spec.Remove && c.Run.Checkpointed.IsZero() && (c.Spec.Monitor == "" || !c.restartWanted())
}

// endConmon kills a run's conmon.
func (e *Engine) endConmon(run *cove.Run) error {
	if !conmonLives(run) {
		return nil
	}
	fd, err := procfs.Open(run.MonitorPID, run.MonitorStart)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	return endProcess(fd, 10*time.Second)
}

// Cleanup is what conmon's exit command does: it records the end of a run and
// takes the container down, unless somebody has done so, removes it if it is to
// be, and applies the restart policy.
func (e *Engine) Cleanup(ctx context.Context, id string, generation uint64) error {
	if generation == 0 {
		return e.cleanupAny(ctx, id)
	}
	if e.untold(id, generation) {
		return nil
	}
	if err := e.settleRun(ctx, id, generation); err != nil {
		return err
	}
	due := func() (*Container, error) {
		now, err := e.recorded(id)
		if err != nil || now == nil || now.Run.Generation != generation || !now.restartWanted() {
			return nil, err
		}
		return now, nil
	}
	now, err := due()
	if now == nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(restartPause(&now.Run)):
	}
	// Before the lock, too: who has stopped or removed it may keep that long.
	if now, err = due(); now == nil {
		return err
	}
	h, err := e.holdAsIs(ctx, id)
	if err != nil {
		return err
	}
	defer h.release()
	if h.Run.Generation != generation || !h.restartWanted() {
		return nil
	}
	h.due = true
	e.emit(&h.Container.Container, "restart")
	_, err = e.startHeld(ctx, h, StartOptions{})
	return err
}

// untold tells whether conmon, which we are the exit command of, could not write down how a
// run has ended. Who waits for that waits for conmon's end, which comes with ours: we must
// not wait for him. It is left to him, or to the next command, as that of a killed conmon.
func (e *Engine) untold(id string, generation uint64) bool {
	if !e.watches(os.Getppid(), id) {
		return false
	}
	now, err := e.recorded(id)
	return err == nil && now != nil && now.Run.Generation == generation && now.Run.PID != 0
}

// recorded looks at a container by its full ID; nil when there is none.
func (e *Engine) recorded(id string) (*Container, error) {
	c := new(cove.Container)
	err := e.store.View(func(tx state.Tx) error { return tx.Get(state.Containers, id, c) })
	if cove.Is(err, cove.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	now, err := e.look(c)
	return &now, err
}

// cleanupAny settles what a container's last run may have left.
func (e *Engine) cleanupAny(ctx context.Context, nameOrID string) error {
	h, err := e.holdAsIs(ctx, nameOrID)
	if errors.Is(err, errSettledAway) {
		return nil
	}
	if err != nil {
		return err
	}
	defer h.release()
	if h.Run.PID != 0 {
		return cove.E("", "", cove.WrongStatus, fmt.Errorf("container %s is running or paused, refusing to clean up: container state improper", h.ID))
	}
	return nil
}

// restartPause is how long a container that has ended waits for its next run:
// twice as long with every restart, unless it has run for ten seconds.
func restartPause(run *cove.Run) time.Duration {
	const first, longest = 100 * time.Millisecond, time.Minute
	if run.Finished.Sub(run.Started) > 10*time.Second {
		return first
	}
	return min(first<<min(run.Restarts, 10), longest)
}
