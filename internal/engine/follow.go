package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/interrupt"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// Attach joins the caller to the streams of a running container.
func (e *Engine) Attach(ctx context.Context, nameOrID string, o AttachOptions) (RunResult, error) {
	h, err := e.hold(ctx, nameOrID)
	if err != nil {
		return RunResult{}, err
	}
	defer h.release()
	if h.Run.PID == 0 {
		return RunResult{}, cove.E("", "", cove.WrongStatus, errors.New("you can only attach to running containers"))
	}
	return e.attachRunning(ctx, h, o)
}

// attachRunning asks a container's monitor for its output and follows it. It
// releases the container's lock before it waits.
func (e *Engine) attachRunning(ctx context.Context, h *held, o AttachOptions) (RunResult, error) {
	result := RunResult{ID: h.ID, Detached: true}
	if driver := e.logDriver(&h.Container.Container); passthrough(driver) {
		return result, noOutput(driver, "attach")
	}
	conn, err := e.dial(&h.Container)
	if err == nil {
		defer conn.Close()
		if err = conn.Request(wire.Attach, wire.AttachBody{Output: true, Stdin: !o.NoStdin}); err != nil {
			err = cove.E("attach to container", h.Name, cove.Internal, err)
		}
	}
	if cove.Is(err, cove.NoFile) || errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		// It has ended since it was looked at.
		h.release()
		return e.lostExit(ctx, &h.Container, result)
	}
	if err != nil {
		return result, err
	}
	e.emit(&h.Container.Container, "attach")
	h.release()
	return e.follow(ctx, &h.Container, conn, o, result)
}

// errDetached ends an attachment by the detach keys.
var errDetached = errors.New("detached")

// follow copies between the caller's streams and the container's until the
// container has ended or the caller detaches.
func (e *Engine) follow(ctx context.Context, c *Container, conn *monitor.Conn, o AttachOptions, result RunResult) (RunResult, error) {
	s := &session{conn: conn, streams: o.Streams, terminal: c.Spec.Terminal}
	if passthrough(e.logDriver(&c.Container)) {
		s.streams, o.NoStdin = Streams{}, true
	}
	keys, err := e.detachKeys(o)
	if err != nil {
		return result, err
	}
	restore := s.enterRaw()
	defer restore()
	stopSignals := s.watchSignals(o.SigProxy, func(sig unix.Signal) { _ = e.signal(c, sig) })
	defer stopSignals()
	if o.Streams.In != nil && !o.NoStdin && c.Spec.Stdin {
		go s.feed(keys)
	}
	code, err := s.receive(ctx)
	if errors.Is(err, errDetached) {
		e.emit(&c.Container, "detach")
		return result, nil
	}
	if errors.Is(err, io.EOF) {
		// The monitor is gone without telling the exit.
		return e.lostExit(ctx, c, result)
	}
	if result.OutputLost = s.lost != nil; result.OutputLost {
		return result, cove.E("attach to container", c.Name, cove.Unavailable, err)
	}
	if err != nil {
		result.StartFailed = ctx.Err() == nil // by a hook that follows it
		return result, err
	}
	result.Detached, result.ExitCode = false, code
	return result, nil
}

// lostExit finds out how a container ended whose monitor was killed.
func (e *Engine) lostExit(ctx context.Context, c *Container, result RunResult) (RunResult, error) {
	result.Detached = false
	words := runfile.LastWords(e.dir(c.ID)) // before --rm is carried out
	if words != "" {
		result.Warnings = append(result.Warnings, exitMonitorLost+": "+words)
	}
	h, err := e.holdAsIs(ctx, c.ID)
	if cove.Is(err, cove.NotFound) {
		result.ExitCode = lostCode
		return result, nil
	}
	if err != nil {
		return result, err
	}
	defer h.release()
	result.ExitCode = h.Run.ExitCode
	if h.Run.Exit == exitMonitorLost && words == "" {
		result.Warnings = append(result.Warnings, exitMonitorLost)
	}
	if h.due {
		_, err = e.startHeld(ctx, h, StartOptions{})
	}
	return result, err
}

// session is one attachment of a caller to a process.
type session struct {
	conn     *monitor.Conn
	streams  Streams
	terminal bool  // the process has a terminal
	lost     error // the caller's end took no more output

	mu       sync.Mutex // serialises what is sent
	detached bool       // guarded by mu
}

func (s *session) send(kind wire.Kind, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn.Send(kind, body)
}

// enterRaw makes the caller's terminal transparent for the process's own.
func (s *session) enterRaw() (restore func()) {
	t := s.streams.Terminal
	if t == nil || !s.terminal || s.streams.In == nil {
		return func() {}
	}
	old, err := term.MakeRaw(int(t.Fd()))
	if err != nil {
		return func() {}
	}
	return func() { _ = term.Restore(int(t.Fd()), old) }
}

// promptSignals are those that people and service managers send to a command
// in the foreground.
var promptSignals = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGTERM,
	unix.SIGCONT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU}

// otherSignals is when the rest is forwarded too. Asking for a signal costs two
// switches of threads, and there are 64: more than the exec of a command.
const otherSignals = 100 * time.Millisecond

// watchSignals forwards the caller's signals, and its terminal's size.
func (s *session) watchSignals(proxy bool, forward func(unix.Signal)) (stop func()) {
	ch := make(chan os.Signal, 16)
	var others <-chan time.Time
	back := func() {}
	if proxy && !s.terminal {
		back = interrupt.Forward(ch, promptSignals...)
		others = time.After(otherSignals)
	}
	if s.terminal {
		signal.Notify(ch, unix.SIGWINCH)
	}
	s.resize()
	done := make(chan struct{})
	go func() {
		// In here, where nobody waits for it: a command is about to exit.
		defer signal.Stop(ch)
		for {
			select {
			case <-done:
				return
			case <-others:
				signal.Notify(ch) // all of them
			case sig := <-ch:
				switch sig {
				case unix.SIGWINCH:
					if s.terminal {
						s.resize()
					} else {
						forward(unix.SIGWINCH)
					}
				case unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE: // the runtime's and our own
				default:
					forward(sig.(unix.Signal))
				}
			}
		}
	}()
	return func() { close(done); back() }
}

func (s *session) resize() {
	t := s.streams.Terminal
	if t == nil || !s.terminal {
		return
	}
	if size := windowSize(t); size != (wire.Size{}) {
		if body, err := json.Marshal(size); err == nil {
			_ = s.send(wire.Resize, body)
		}
	}
}

// windowSize is the size of a terminal; zero when there is none.
func windowSize(t *os.File) wire.Size {
	if t == nil {
		return wire.Size{}
	}
	ws, err := unix.IoctlGetWinsize(int(t.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return wire.Size{}
	}
	return wire.Size{Rows: ws.Row, Cols: ws.Col}
}

// feed sends the caller's input until it ends or the detach keys are pressed.
func (s *session) feed(keys []byte) {
	var in io.Reader = s.streams.In
	if len(keys) > 0 && s.terminal {
		in = newEscapeReader(in, keys)
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := in.Read(buf)
		if n > 0 && s.send(wire.Stdin, buf[:n]) != nil {
			return
		}
		if errors.Is(err, errDetached) {
			s.mu.Lock()
			s.detached = true
			s.mu.Unlock()
			_ = s.send(wire.Detach, nil)
			return
		}
		if err != nil {
			_ = s.send(wire.Stdin, nil)
			return
		}
	}
}

// receive passes output on until the process has ended and everything of it
// is taken down.
func (s *session) receive(ctx context.Context) (int, error) {
	defer context.AfterFunc(ctx, func() { _ = unix.Shutdown(s.conn.FD(), unix.SHUT_RDWR) })()
	code, told := 0, false
	var failed error // a hook that followed the start
	for {
		m, err := s.conn.Receive()
		if err != nil {
			s.mu.Lock()
			detached := s.detached
			s.mu.Unlock()
			switch {
			case told:
				return code, failed
			case detached:
				return 0, errDetached
			case ctx.Err() != nil:
				return 0, ctx.Err()
			}
			return 0, err
		}
		switch m.Kind {
		case wire.Stdout:
			s.lost = write(s.streams.Out, m.Body)
		case wire.Stderr:
			s.lost = write(s.streams.Err, m.Body)
		case wire.Exit:
			var x wire.ExitBody
			if err := json.Unmarshal(m.Body, &x); err != nil {
				return 0, cove.E("read exit", "", cove.Internal, err)
			}
			code, told = x.Code, true
		case wire.Failed:
			f := new(wire.Failure)
			if json.Unmarshal(m.Body, f) == nil {
				failed = monitor.FailureError(f)
			}
		case wire.Done:
			return code, failed
		}
		if s.lost != nil {
			return 0, s.lost
		}
	}
}

// write passes output on, unless the caller wants none.
func write(w io.Writer, b []byte) error {
	if w == nil {
		return nil
	}
	_, err := w.Write(b)
	return err
}
