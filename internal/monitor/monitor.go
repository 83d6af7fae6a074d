// Package monitor starts container monitors and speaks with them, over the
// protocol of internal/monitor/wire. The monitor's own program is
// internal/monitor/serve.
package monitor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// Conn is a conversation with one monitor. It may be used by one reader and
// one writer at a time.
type Conn struct {
	fd  int
	buf []byte
}

// Starting is a monitor that has been forked and waits to be told what for.
type Starting struct {
	Conn
	pid    int
	pidfd  *os.File        // of one that is not our child
	reaped chan struct{}   // closed when the monitor's process is gone
	status unix.WaitStatus // by then
	// guard is who answers in the monitor's place where conmon is that, a
	// process: the driver, then the start's guard. -1 for none.
	guard int
}

// Birth is what has to be known of a container before its monitor is forked.
type Birth struct {
	Flags           uintptr // init's CLONE_NEW* flags
	Terminal, Stdin bool    // which streams the container has
	Foreign         bool    // another OCI runtime makes the container
	Through         bool    // they are those that the monitor is started with
	// Stdio are the process's own standard streams, nil for none.
	Stdio []uintptr
	// Keep are our descriptors that the command gets, by number.
	Keep []int
	// Name is the program's argv[0]; "" is that of a monitor.
	Name string
	// Sibling makes the monitor a child of our own parent: systemd kills a unit's main
	// process at once when it was another's child as it was told of it.
	Sibling bool
	// Cgroup is the directory of a version 2 cgroup that the monitor is born
	// in, -1 for the caller's.
	Cgroup int
}

// Fork starts the monitor's program. The caller must go on with Clone, Start
// and Go, or end with Abort.
func Fork(program string, b Birth) (*Starting, error) {
	ours, theirs, err := wire.Pair()
	if err != nil {
		return nil, cove.E("start monitor", "", cove.Internal, err)
	}
	defer unix.Close(theirs)
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = unix.Close(ours)
		return nil, cove.E("start monitor", "", cove.Internal, err)
	}
	defer unix.Close(null)
	streams := ""
	if b.Terminal {
		streams += "t"
	}
	if b.Stdin {
		streams += "i"
	}
	n := uintptr(null)
	files := append(b.Stdio, uintptr(theirs))
	if b.Stdio == nil {
		files = []uintptr{n, n, n, uintptr(theirs)}
	}
	if b.Through {
		streams += "s"
	}
	if b.Foreign {
		streams += "o"
	}
	for i, fd := range b.Keep {
		streams += []string{":", ","}[min(i, 1)] + strconv.Itoa(fd)
		files = append(files, uintptr(fd))
	}
	sys, pidfd := &syscall.SysProcAttr{UseCgroupFD: b.Cgroup >= 0, CgroupFD: b.Cgroup}, -1
	if b.Sibling { // clone3(2), which it takes to be born in a cgroup, has no siblings
		sys.Cloneflags, sys.PidFD, sys.UseCgroupFD = unix.CLONE_PARENT, &pidfd, false
	}
	pid, err := syscall.ForkExec(program,
		[]string{cmp.Or(b.Name, "cove-monitor"), strconv.Itoa(wire.Version), strconv.FormatUint(uint64(b.Flags), 10), streams},
		&syscall.ProcAttr{
			Dir: "/",
			// A monitor lives long and does little: one thread for Go code,
			// few pages kept.
			Env:   []string{"GOMAXPROCS=1", "GOGC=20", "GODEBUG=madvdontneed=1", "PATH=" + os.Getenv("PATH")},
			Files: files,
			Sys:   sys,
		})
	if err != nil {
		_ = unix.Close(ours)
		return nil, cove.E("start monitor", program, cove.Internal, err)
	}
	s := &Starting{Conn: Conn{fd: ours}, pid: pid, reaped: make(chan struct{}), guard: -1}
	if b.Sibling {
		s.pidfd = os.NewFile(uintptr(pidfd), "pidfd") // closed with it
		if b.Cgroup >= 0 {
			err = enter(b.Cgroup, pid)
		}
	}
	s.limit(startLimit)
	go s.reap()
	if err != nil {
		s.Kill()
		return nil, cove.E("start monitor", "", cove.Internal, err)
	}
	return s, nil
}

// enter puts a process into the cgroup of that directory.
func enter(dir, pid int) error {
	fd, err := unix.Openat(dir, "cgroup.procs", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.Write(fd, []byte(strconv.Itoa(pid)))
		_ = unix.Close(fd)
	}
	return err
}

// reap waits for the monitor's end. One that is no child of ours may have been
// killed as far as we know.
func (s *Starting) reap() {
	defer close(s.reaped)
	for {
		var err error
		if s.pidfd == nil {
			_, err = unix.Wait4(s.pid, &s.status, 0, nil)
		} else {
			s.status = unix.WaitStatus(unix.SIGKILL)
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(s.pidfd.Fd()), Events: unix.POLLIN}}, -1)
		}
		if err != unix.EINTR {
			return
		}
	}
}

// kill ends the process. The number is its own as long as nobody has reaped it.
func (s *Starting) kill() {
	if s.pidfd == nil {
		_ = unix.Kill(s.pid, unix.SIGKILL)
	} else {
		_ = unix.PidfdSendSignal(int(s.pidfd.Fd()), unix.SIGKILL, nil, 0)
	}
	<-s.reaped
}

// Clone lets the monitor clone init, in the version 2 cgroup at path unless
// that is empty. It does not wait for it.
func (s *Starting) Clone(cgroup string) error {
	if err := wire.Send(s.fd, wire.Clone, []byte(cgroup)); err != nil {
		return s.why("", err)
	}
	return nil
}

// Keep starts the process that connects the network namespace of an ordinary
// user's bridges with u.Keep, and returns once it is connected. files are the
// namespace and the file of locks. A caller that is killed before takes the
// process along.
func Keep(program string, u wire.Uplink, files ...int) error {
	const op = "connect the network of this user"
	ours, theirs, err := wire.Pair()
	if err != nil {
		return cove.E(op, "", cove.Internal, err)
	}
	c := &Conn{fd: ours}
	defer c.Close()
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = unix.Close(theirs)
		return cove.E(op, "", cove.Internal, err)
	}
	n := uintptr(null)
	pid, err := syscall.ForkExec(program, []string{"cove-uplink"}, &syscall.ProcAttr{
		Dir: "/", Env: []string{"GOMAXPROCS=1", "GOGC=20", "GODEBUG=madvdontneed=1"},
		Files: []uintptr{n, n, n, uintptr(theirs)},
		Sys:   &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS},
	})
	_ = unix.Close(null)
	_ = unix.Close(theirs)
	if err != nil {
		return cove.E(op, program, cove.Internal, err)
	}
	go func() { // it may end before us
		for {
			if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
				return
			}
		}
	}()
	if err := c.SendJSON(wire.Prepare, u, files...); err != nil {
		return cove.E(op, "", cove.Internal, err)
	}
	c.limit(keepLimit)
	kind, body, _, err := c.receive()
	if err == ErrNoAnswer {
		_ = unix.Kill(pid, unix.SIGKILL)
		return cove.E(op, "", cove.Unavailable, errors.New(u.Args[0]+" does not get ready"))
	}
	if err != nil {
		return cove.E(op, "", cove.Internal, errors.New("the process that connects it has ended unexpectedly"))
	}
	return expect(kind, body, wire.Ready)
}

// keepLimit is how long the program may take to connect the network.
const keepLimit = 20 * time.Second

// File is a descriptor handed to the monitor, under the name that
// [wire.Envelope.Handed] explains.
type File struct {
	Name string
	FD   int
}

// Start tells the monitor what its container is. It returns once the
// envelope is sent; the container is then prepared, but nothing of it is
// executed before Go.
func (s *Starting) Start(env wire.Envelope, files []File) error {
	env.Version = wire.Version
	fds := make([]int, len(files))
	for i, f := range files {
		env.Handed = append(env.Handed, f.Name)
		fds[i] = f.FD
	}
	for len(fds) >= wire.MaxFDs { // one more may be the envelope
		if err := wire.Send(s.fd, wire.FDs, nil, fds[:wire.MaxFDs]...); err != nil {
			return cove.E("start monitor", env.ID, cove.Internal, err)
		}
		fds = fds[wire.MaxFDs:]
	}
	if err := wire.SendLong(s.fd, wire.Start, env, fds...); err != nil {
		return s.why(env.ID, err)
	}
	return nil
}

// Begun waits until conmon has called its OCI runtime, the driver, and no longer
// than limit: [ErrNoAnswer].
func (s *Starting) Begun(ctx context.Context, limit time.Duration) error {
	s.limit(limit)
	defer s.limit(startLimit)
	return s.await(ctx, wire.Driver)
}

// Ready waits until the container is prepared up to its exec, or ctx ends. Where
// conmon is the monitor Begun comes before it.
func (s *Starting) Ready(ctx context.Context) error { return s.await(ctx, wire.Ready) }

func (s *Starting) await(ctx context.Context, want wire.Kind) error {
	stop := context.AfterFunc(ctx, func() { _ = unix.Shutdown(s.fd, unix.SHUT_RDWR) })
	kind, body, err := s.answer()
	if !stop() {
		return ctx.Err()
	}
	if err != nil {
		return s.why("", err)
	}
	return expect(kind, body, want)
}

// Go lets the container's command be executed and returns what it has become.
func (s *Starting) Go(body wire.GoBody) (wire.StartedBody, error) {
	var started wire.StartedBody
	if err := wire.SendLong(s.fd, wire.Go, body); err != nil {
		return started, s.why("", err)
	}
	kind, answer, err := s.answer()
	if err != nil {
		return started, s.why("", err)
	}
	if err := expect(kind, answer, wire.Started); err != nil {
		return started, err
	}
	s.limit(0)
	return started, json.Unmarshal(answer, &started)
}

// answer is the next message; an end of who is to send it is an end of file. A
// descriptor that comes with it is who sends the next.
func (s *Starting) answer() (wire.Kind, []byte, error) {
	if !s.answers() {
		return 0, nil, io.EOF
	}
	kind, body, fds, err := s.receive()
	if len(fds) > 0 {
		if s.guard >= 0 {
			_ = unix.Close(s.guard)
		}
		s.guard = fds[0]
	}
	return kind, body, err
}

// answers waits until the guard, if there is one, has something to say; false
// when it has ended without.
func (s *Starting) answers() bool {
	if s.guard < 0 {
		return true
	}
	polled := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}, {Fd: int32(s.guard), Events: unix.POLLIN}}
	_, err := unix.Poll(polled, int(startLimit.Milliseconds()))
	for err == unix.EINTR {
		_, err = unix.Poll(polled, int(startLimit.Milliseconds()))
	}
	if polled[0].Revents == 0 && polled[1].Revents != 0 {
		_, _ = unix.Poll(polled[:1], 0) // its last words
		return polled[0].Revents != 0
	}
	return true
}

// Close ends the conversation.
func (s *Starting) Close() {
	s.Conn.Close()
	if s.guard >= 0 {
		_ = unix.Close(s.guard)
		s.guard = -1
	}
}

// why prefers what the monitor has to say to the fact that it is gone.
func (s *Starting) why(id string, err error) error {
	if err == ErrNoAnswer {
		return cove.E("start container", id, cove.Unavailable, err)
	}
	// What it has said is there. One that could not be told something, and waits
	// for it, has nothing to say, and conmon may have this open for long.
	_ = unix.Shutdown(s.fd, unix.SHUT_RD)
	if kind, body, _, rerr := s.receive(); rerr == nil && kind == wire.Failed {
		return expect(kind, body, wire.Ready)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE) {
		err = ErrEnded
	}
	return cove.E("start container", id, cove.Internal, err)
}

// Hooked waits for the hooks that follow a start. When one fails the container
// has ended by the time it returns.
func (c *Conn) Hooked() error {
	c.limit(startLimit)
	defer c.limit(0)
	for {
		kind, body, _, err := c.receive()
		if err != nil {
			if err == io.EOF {
				err = ErrEnded
			}
			return cove.E("start container", "", cove.Internal, err)
		}
		switch kind {
		case wire.Hooked:
			return nil
		case wire.Failed:
			failure := expect(kind, body, wire.Hooked)
			for err == nil && kind != wire.Done {
				kind, _, _, err = c.receive()
			}
			return failure
		}
	}
}

// Abort calls the start off: the monitor undoes what it has done and ends.
// It returns when the monitor is gone, and tells whether it was killed and has
// undone nothing. It may be called after any of the other methods has failed,
// and more than once.
func (s *Starting) Abort() (killed bool) {
	s.Close()
	select {
	case <-s.reaped:
	case <-time.After(answerLimit):
		s.kill() // somebody has stopped it
	}
	return s.status.Signaled()
}

// Kill ends the monitor's process, whatever it does or has become, and waits
// until it is gone. Nothing is undone by it.
func (s *Starting) Kill() {
	s.Close()
	select {
	case <-s.reaped:
	default:
		s.kill()
	}
}

// Ends tells whether the monitor's process ends by itself in so short a time.
func (s *Starting) Ends(within time.Duration) bool {
	select {
	case <-s.reaped:
		return true
	case <-time.After(within):
		return false
	}
}

// End is how the monitor's process has ended, once it is gone, as far as it is our child's.
func (s *Starting) End() string {
	if s.pidfd != nil {
		return "nobody told us how"
	}
	if s.status.Signaled() {
		return "signal: " + s.status.Signal().String()
	}
	return "exit status " + strconv.Itoa(s.status.ExitStatus())
}

// Conversation is the connection to the monitor once its container runs.
// Waiting on it has no end.
func (s *Starting) Conversation() *Conn {
	s.limit(0)
	return &s.Conn
}

// Wrap makes a Conn of a connected socket; of -1 one on which nothing can be
// said.
func Wrap(fd int) *Conn { return &Conn{fd: fd} }

// MonitorPID is the process ID of the monitor.
func (s *Starting) MonitorPID() int { return s.pid }

// Dial connects to the monitor that listens on the socket at path. The error
// is of kind NoFile when nobody does.
func Dial(path string) (*Conn, error) {
	file, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	fd := -1
	if err == nil {
		fd, err = wire.Connect(file, unix.SOCK_SEQPACKET, answerLimit)
		_ = unix.Close(file)
	}
	if err != nil {
		kind := cove.Internal
		switch err {
		case unix.ENOENT, unix.ENOTDIR, unix.ECONNREFUSED:
			kind = cove.NoFile
		case unix.EAGAIN:
			kind, err = cove.Unavailable, ErrNoAnswer
		}
		return nil, cove.E("connect to monitor", path, kind, err)
	}
	return &Conn{fd: fd}, nil
}

// Close ends the conversation. The container is not concerned.
func (c *Conn) Close() {
	if c.fd >= 0 {
		_ = unix.Close(c.fd)
		c.fd = -1
	}
}

// Message is one packet from the monitor. Body is valid until the next one.
type Message struct {
	Kind wire.Kind
	Body []byte
	FDs  []int
}

// Receive waits for the next message; io.EOF when the monitor is gone.
func (c *Conn) Receive() (Message, error) {
	kind, body, fds, err := c.receive()
	return Message{kind, body, fds}, err
}

func (c *Conn) receive() (wire.Kind, []byte, []int, error) {
	if c.buf == nil {
		c.buf = make([]byte, wire.Max)
	}
	kind, body, fds, err := wire.Receive(c.fd, c.buf)
	if err == unix.EAGAIN {
		err = ErrNoAnswer
	}
	return kind, body, fds, err
}

// Send sends a message with a raw body.
func (c *Conn) Send(kind wire.Kind, body []byte, fds ...int) error {
	return wire.Send(c.fd, kind, body, fds...)
}

// SendJSON sends a message whose body is v as JSON.
func (c *Conn) SendJSON(kind wire.Kind, v any, fds ...int) error {
	return wire.SendJSON(c.fd, kind, v, fds...)
}

// Request sends a message and waits for its Ack, passing over what else
// arrives in between.
func (c *Conn) Request(kind wire.Kind, v any) error {
	c.limit(answerLimit)
	defer c.limit(0)
	if err := wire.SendLong(c.fd, kind, v); err != nil {
		return err
	}
	for {
		k, body, _, err := c.receive()
		if err != nil {
			return err
		}
		switch k {
		case wire.Ack:
			return nil
		case wire.Failed:
			return expect(k, body, wire.Ack)
		case wire.Exit, wire.Done:
			return nil // what was asked for has come to pass
		}
	}
}

// Checkpoint has the monitor checkpoint its container. It returns when that is
// done, or when ctx ends: the monitor goes on alone then. Files that go with it are
// closed when they are sent: a lock among them is whose it is then.
func (c *Conn) Checkpoint(ctx context.Context, body wire.CheckpointBody, handed ...*os.File) error {
	return c.ask(ctx, wire.Checkpoint, body, handed, func(kind wire.Kind, answer []byte) (done bool, err error) {
		if kind == wire.Exit { // that comes if it ends before
			return false, nil
		}
		return true, expect(kind, answer, wire.Ack)
	})
}

// Probe has the monitor run the container's health check now, or wait for the
// one that runs, and gives its exit code, -1 when it could not be run or took
// too long: timeout is what it may take.
func (c *Conn) Probe(ctx context.Context, timeout time.Duration) (code int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*timeout+answerLimit, ErrNoAnswer)
	defer cancel()
	err = c.ask(ctx, wire.HealthRun, nil, nil, func(kind wire.Kind, answer []byte) (done bool, err error) {
		if kind != wire.Exit {
			return true, expect(kind, answer, wire.Exit)
		}
		var exit wire.ExitBody
		err = json.Unmarshal(answer, &exit)
		code = exit.Code
		return true, err
	})
	return code, err
}

// ask sends a request that may take any time and passes what comes to answer
// until that is done, or ctx ends. Files that go with it are closed.
func (c *Conn) ask(ctx context.Context, kind wire.Kind, body any, handed []*os.File, answer func(wire.Kind, []byte) (done bool, err error)) error {
	stop := context.AfterFunc(ctx, func() { _ = unix.Shutdown(c.fd, unix.SHUT_RDWR) })
	var fds []int
	for _, f := range handed {
		fds = append(fds, int(f.Fd()))
	}
	err := c.SendJSON(kind, body, fds...)
	for _, f := range handed {
		_ = f.Close()
	}
	for done := false; err == nil && !done; {
		var came wire.Kind
		var text []byte
		if came, text, _, err = c.receive(); err == nil {
			done, err = answer(came, text)
		}
	}
	if !stop() {
		return context.Cause(ctx)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE) {
		err = cove.E("", "", cove.WrongStatus, errors.New("the container has ended"))
	}
	return err
}

// How long a monitor that is asked for something may take, and how long the
// preparation of a container, which may have to change the owners of a tree or
// to mount what is far away. A lock is held meanwhile.
const (
	answerLimit = 30 * time.Second
	startLimit  = 10 * time.Minute
)

// ErrNoAnswer says that a monitor has not answered in that time.
var ErrNoAnswer = errors.New("the monitor does not answer")

// ErrEnded says that a monitor has ended, and has not been asked to.
var ErrEnded = errors.New("the monitor has ended unexpectedly")

// limit gives every wait on the connection an end, 0 none.
func (c *Conn) limit(d time.Duration) {
	t := unix.NsecToTimeval(d.Nanoseconds())
	_ = unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &t)
	_ = unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &t)
}

// FD gives the socket, for poll.
func (c *Conn) FD() int { return c.fd }

// expect turns any other answer than the wanted one into an error.
func expect(kind wire.Kind, body []byte, want wire.Kind) error {
	if kind == want {
		return nil
	}
	if kind == wire.Failed {
		f := new(wire.Failure)
		if json.Unmarshal(body, f) == nil {
			return FailureError(f)
		}
	}
	return cove.E("", "", cove.Internal, errors.New("unexpected answer of the monitor"))
}

// FailureError gives a failure of the monitor or of init its kind.
func FailureError(f *wire.Failure) error {
	kind := cove.Internal
	switch {
	case f.Exec && f.NoFile:
		kind = cove.NoCommand
	case f.Exec:
		kind = cove.NotExecutable
	case f.NoFile:
		kind = cove.NoFile
	case f.Errno == unix.ENOENT, f.Errno == unix.ENOTDIR, f.Errno == unix.EINVAL, f.Errno == 0:
		kind = cove.Invalid
	case f.Errno == unix.ENOSYS:
		kind = cove.Unsupported
	case f.Errno == unix.EPERM, f.Errno == unix.EACCES:
		kind = cove.Denied
	case f.Errno == unix.ENOSPC, f.Errno == unix.ENOMEM:
		kind = cove.Unavailable
	}
	return cove.E("", "", kind, f)
}
