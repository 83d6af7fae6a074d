package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/capability"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/plan"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/spec"
)

// Exec runs one more process in a running container. It takes no lock and
// writes nothing: the process is the monitor's child, in the container's
// cgroups, and ends with it.
func (e *Engine) Exec(ctx context.Context, nameOrID string, x ExecSpec, o AttachOptions) (ExecResult, error) {
	rec, err := e.find(nameOrID)
	if err != nil {
		return ExecResult{}, err
	}
	c, err := e.look(rec)
	if err != nil {
		return ExecResult{}, err
	}
	if c.Run.PID == 0 && (!c.Run.Down && c.Run.Generation > 0 || c.unsettled()) || e.lostAide(&c) != nil {
		// Not ended by its monitor, due to be started again by its policy, or without
		// its aide: the lock is taken for that only.
		h, err := e.hold(ctx, c.ID)
		if err != nil {
			return ExecResult{}, err
		}
		c = h.Container
		h.release()
	}
	if c.Run.PID == 0 || c.Status == cove.Paused {
		return ExecResult{}, errNoExec
	}
	if pending(&c.Container) {
		e.heal(ctx, &c)
	}
	_ = e.settleUplink(&c) // it may want to be reached
	if len(x.Command) == 0 {
		return ExecResult{}, cove.E("", "", cove.Invalid, errors.New("must provide a non-empty command to start an exec session: invalid argument"))
	}
	if err := checkKept(&c.Container, x.Keep); err != nil {
		return ExecResult{}, err
	}
	var keys []byte
	if !x.Detach {
		if keys, err = e.detachKeys(o); err != nil {
			return ExecResult{StartFailed: true}, err
		}
	}
	var p any
	if isForeign(&c.Container) {
		p, err = e.foreignExec(&c, x, o.Streams.Terminal)
	} else {
		p, err = e.execPlan(&c, x, o.Streams.Terminal)
	}
	if err != nil {
		return ExecResult{}, e.execFailed(rec.ID, err)
	}
	planFD, err := planFile(p)
	if err != nil {
		return ExecResult{}, err
	}
	defer planFD.Close()
	conn, err := e.dial(&c)
	if err != nil {
		return ExecResult{}, e.execFailed(rec.ID, err)
	}
	defer conn.Close()
	id := newID()
	r := &execRun{session: session{conn: conn, streams: o.Streams, terminal: x.Terminal}, id: id, spec: x}
	if err := r.start(planFD, o.Streams.Terminal); err != nil {
		return ExecResult{}, e.execFailed(rec.ID, err)
	}
	defer r.close()
	if x.Detach {
		if err := r.awaitStart(ctx); err != nil {
			return ExecResult{ID: id, Detached: true, StartFailed: true}, e.execFailed(rec.ID, err)
		}
		return ExecResult{ID: id, Detached: true}, nil
	}
	result, err := r.follow(ctx, keys)
	result.ID = id
	if result.StartFailed {
		err = e.execFailed(rec.ID, err)
	}
	return result, err
}

var errNoExec = cove.E("", "", cove.WrongStatus, errors.New("can only create exec sessions on running containers: container state improper"))

// execFailed gives the reason why no process could be had of a container's
// monitor: when it is not the command, mostly that the container is ending, has
// ended or gone since it was looked at, whatever a runtime says of that.
func (e *Engine) execFailed(id string, cause error) error {
	if cove.Is(cause, cove.NoCommand) || cove.Is(cause, cove.NotExecutable) {
		return cause
	}
	rec, err := e.find(id)
	if err != nil {
		return err
	}
	if now, err := e.look(rec); err == nil && (now.Run.PID == 0 || procfs.Ending(now.Run.PID)) {
		return errNoExec
	}
	return cause
}

// execPlan describes the process: the container's own plan gives its
// environment, user, capabilities and filter, the request changes them.
func (e *Engine) execPlan(c *Container, x ExecSpec, terminal *os.File) (*plan.Plan, error) {
	data, err := readOwn(filepath.Join(c.Dir, "plan"))
	if err != nil {
		return nil, cove.E("read plan of container", c.Name, fileKind(err), err)
	}
	var whole plan.Plan
	if err := json.Unmarshal(data, &whole); err != nil {
		return nil, cove.E("read plan of container", c.Name, cove.Internal, err)
	}
	p := whole.Process
	x.User = spec.UserAndGroup(x.User)
	p.Args, p.Terminal, p.MakeCwd, p.Reaper, p.OOMScoreAdj = x.Command, x.Terminal, false, false, nil
	p.Env = x.environment(p.Env)
	if x.Terminal {
		if size := windowSize(terminal); size != (wire.Size{}) {
			p.Rows, p.Cols = size.Rows, size.Cols
		}
	}
	if x.WorkDir != "" {
		p.Cwd = x.WorkDir
	}
	if x.User != "" {
		p.User, p.Groups, p.GIDs, p.UID, p.GID = x.User, nil, nil, 0, 0
		p.Caps = capsFor(p.Caps, x.asRoot())
	}
	p.SetHome, p.KeepFDs = true, keptBehind(x.Keep)
	if x.Privileged {
		all := ownCaps()
		p.Caps = plan.Caps{Bounding: all, Effective: all, Permitted: all}
		p.Seccomp, p.NoNewPrivs, p.AppArmor = nil, false, ""
	}
	return &plan.Plan{Version: plan.Version, Process: p}, nil
}

// environment lays the request's over the container's. HOME is another user's
// own.
func (x ExecSpec) environment(base []string) []string {
	env := mergeEnv(base, x.Env)
	if x.Terminal && !slices.ContainsFunc(env, func(s string) bool { return strings.HasPrefix(s, "TERM=") }) {
		env = append(env, "TERM=xterm")
	}
	if x.User != "" {
		env = slices.DeleteFunc(env, func(s string) bool { return strings.HasPrefix(s, "HOME=") })
	}
	return env
}

// asRoot tells whether root is asked for, by name or number.
func (x ExecSpec) asRoot() bool {
	user, _, _ := strings.Cut(x.User, ":")
	return user == "root" || user == "0"
}

// capsFor are the sets of a user: an ordinary one has none effective, as
// after the kernel's own change of user.
func capsFor(c plan.Caps, root bool) plan.Caps {
	if root {
		return plan.Caps{Bounding: c.Bounding, Effective: c.Bounding, Permitted: c.Bounding}
	}
	return plan.Caps{Bounding: c.Bounding}
}

// ownCaps is the bounding set of this process.
func ownCaps() (mask uint64) {
	for n := range capability.Names() {
		if set, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0); err == nil && set == 1 {
			mask |= 1 << n
		}
	}
	return mask
}

// mergeEnv lays later settings over earlier ones.
func mergeEnv(base, over []string) []string {
	out := slices.Clone(base)
	for _, kv := range over {
		key, _, _ := strings.Cut(kv, "=")
		out = slices.DeleteFunc(out, func(s string) bool { k, _, _ := strings.Cut(s, "="); return k == key })
		out = append(out, kv)
	}
	return out
}

// planFile puts a plan into memory that can be handed over.
func planFile(p any) (*os.File, error) {
	data, err := json.Marshal(p)
	if err != nil {
		return nil, cove.E("", "", cove.Internal, err)
	}
	fd, err := unix.MemfdCreate("plan", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, cove.E("hand over plan", "", cove.Internal, err)
	}
	f := os.NewFile(uintptr(fd), "plan")
	if _, err := f.Write(data); err != nil {
		_ = f.Close()
		return nil, cove.E("hand over plan", "", cove.Unavailable, err)
	}
	return f, nil
}

// execRun is one exec as its caller sees it. Output comes through pipes of
// our own, not through the monitor.
type execRun struct {
	session
	id      string
	spec    ExecSpec
	in      *os.File // our end of stdin; nil without
	out     []*os.File
	master  *os.File // with a terminal
	copying sync.WaitGroup
	// unwritten is why the caller's streams took no more output.
	unwritten atomic.Pointer[error]
}

// start sends the request with the process's ends of the pipes.
func (r *execRun) start(planFD *os.File, terminal *os.File) error {
	fds := []int{int(planFD.Fd())}
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			_ = f.Close()
		}
	}()
	if !r.spec.Terminal {
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return cove.E("exec", "", cove.Internal, err)
		}
		theirs = append(theirs, null)
		stdio := [3]*os.File{null, null, null}
		if r.spec.Stdin && r.streams.In != nil {
			pr, pw, err := os.Pipe()
			if err != nil {
				return cove.E("exec", "", cove.Internal, err)
			}
			stdio[0], r.in = pr, pw
			theirs = append(theirs, pr)
		}
		for i := 1; i < 3 && !r.spec.Detach; i++ {
			pr, pw, err := os.Pipe()
			if err != nil {
				return cove.E("exec", "", cove.Internal, err)
			}
			stdio[i] = pw
			r.out = append(r.out, pr)
			theirs = append(theirs, pw)
		}
		for _, f := range stdio {
			fds = append(fds, int(f.Fd()))
		}
	}
	fds = append(fds, r.spec.Keep...)
	body := wire.ExecBody{Version: wire.Version, Terminal: r.spec.Terminal, Detach: r.spec.Detach, ID: r.id, Keep: r.spec.Keep}
	if err := r.conn.SendJSON(wire.Exec, body, fds...); err != nil {
		return cove.E("exec", "", cove.Internal, err)
	}
	return nil
}

func (r *execRun) close() {
	for _, f := range append(r.out, r.in, r.master) {
		if f != nil {
			_ = f.Close()
		}
	}
}

// awaitStart waits until the process has become its command.
func (r *execRun) awaitStart(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = unix.Shutdown(r.conn.FD(), unix.SHUT_RDWR) })()
	for {
		m, err := r.conn.Receive()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return cove.E("exec", "", cove.Internal, err)
		}
		for _, fd := range m.FDs {
			_ = unix.Close(fd)
		}
		switch m.Kind {
		case wire.Started, wire.Exit:
			return nil
		case wire.Failed:
			return execFailure(m)
		}
	}
}

func execFailure(m monitor.Message) error {
	f := new(wire.Failure)
	if err := json.Unmarshal(m.Body, f); err != nil {
		return cove.E("exec", "", cove.Internal, err)
	}
	if f.Errno == unix.ESRCH && !f.Exec {
		return errNoExec // its init had ended by then
	}
	return monitor.FailureError(f)
}

// follow copies the streams until the process has ended.
func (r *execRun) follow(ctx context.Context, keys []byte) (ExecResult, error) {
	restore := r.enterRaw()
	defer restore()
	stop := r.watchSignals(false, nil)
	defer stop()
	if r.in != nil {
		go func() {
			_, _ = io.Copy(r.in, r.streams.In)
			_ = r.in.Close()
		}()
	}
	detached := make(chan struct{})
	defer context.AfterFunc(ctx, func() { _ = unix.Shutdown(r.conn.FD(), unix.SHUT_RDWR) })()
	for {
		m, err := r.conn.Receive()
		if err != nil {
			select {
			case <-detached:
				return ExecResult{Detached: true}, nil
			default:
			}
			if ctx.Err() != nil {
				return ExecResult{}, ctx.Err()
			}
			if err := r.unwritten.Load(); err != nil {
				return r.outputLost(*err)
			}
			// The monitor is gone: the container was killed.
			return ExecResult{ExitCode: lostCode}, nil
		}
		switch m.Kind {
		case wire.Ready:
			if len(m.FDs) == 1 {
				r.takeTerminal(m.FDs[0], keys, detached)
			}
		case wire.Started:
			// Not before: why it cannot be started another OCI runtime writes to
			// the process's standard error, too.
			for i, f := range r.out {
				r.copyOut([]io.Writer{r.streams.Out, r.streams.Err}[i], f)
			}
		case wire.Failed:
			return ExecResult{StartFailed: true}, execFailure(m)
		case wire.Exit:
			var body wire.ExitBody
			if err := json.Unmarshal(m.Body, &body); err != nil {
				return ExecResult{}, cove.E("exec", "", cove.Internal, err)
			}
			r.drain()
			if err := r.unwritten.Load(); err != nil {
				return r.outputLost(*err)
			}
			return ExecResult{ExitCode: body.Code}, nil
		}
	}
}

// takeTerminal copies between the caller's terminal and the process's.
func (r *execRun) takeTerminal(fd int, keys []byte, detached chan struct{}) {
	_ = unix.SetNonblock(fd, true)
	r.master = os.NewFile(uintptr(fd), "terminal")
	r.copyOut(r.streams.Out, r.master)
	if r.streams.In == nil || !r.spec.Stdin {
		return
	}
	go func() {
		in := r.streams.In
		if len(keys) > 0 {
			in = newEscapeReader(in, keys)
		}
		_, err := io.Copy(r.master, in)
		if errors.Is(err, errDetached) {
			close(detached)
			_ = unix.Shutdown(r.conn.FD(), unix.SHUT_RDWR)
			return
		}
		_, _ = r.master.Write([]byte{4})
	}()
}

func (r *execRun) copyOut(to io.Writer, from *os.File) {
	r.copying.Add(1)
	go func() {
		defer r.copying.Done()
		if to == nil {
			to = io.Discard
		}
		if _, err := io.Copy(checked{to, &r.unwritten}, from); err != nil && r.unwritten.Load() != nil {
			_ = unix.Shutdown(r.conn.FD(), unix.SHUT_RDWR)
		}
	}()
}

// checked is a writer that notes why it took no more: a copy's error may be the
// reader's.
type checked struct {
	io.Writer
	failed *atomic.Pointer[error]
}

func (c checked) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	if err != nil {
		c.failed.Store(&err)
	}
	return n, err
}

func (r *execRun) outputLost(cause error) (ExecResult, error) {
	return ExecResult{OutputLost: true}, cove.E("exec", "", cove.Unavailable, cause)
}

// drain waits for the output that the process has written. A grandchild that
// holds the pipe open is given a moment, not forever.
func (r *execRun) drain() {
	done := make(chan struct{})
	go func() { r.copying.Wait(); close(done) }()
	select {
	case <-done:
		return
	case <-time.After(time.Second):
	}
	for _, f := range append(r.out, r.master) {
		if f != nil {
			_ = f.SetReadDeadline(time.Now())
		}
	}
	<-done
}
