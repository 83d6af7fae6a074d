package drive

import (
	"encoding/json"
	"io"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/ctrinit"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/sysmon"
)

// logFile is the runtime's log below the bundle; in JSON if the runtime's
// arguments ask for that.
const logFile = "log"

// request is one command of the runtime, to be done. What it has to say when it fails is
// the last error of its log, or else the end of its standard error.
func (d *driver) request(command string, args []string, limit time.Duration, id string) *request {
	_ = unix.Unlinkat(d.dir, logFile, 0)
	c := &request{runtime: d.Runtime, dir: d.scratch(), name: command, args: append(args, id), limit: limit}
	// Whoever has us do it, cove or the monitor, calls it off by closing the socket.
	c.until = []unix.PollFd{{Fd: control, Events: unix.POLLRDHUP}}
	if d.runtimeArgs != nil {
		c.until = append(c.until, unix.PollFd{Fd: int32(d.conmon), Events: unix.POLLIN})
	}
	return c
}

// making is request for a command that makes a process, which has our streams.
func (d *driver) making(command string, args []string, limit time.Duration, id string) *request {
	r := d.request(command, args, limit, id)
	r.stdio, r.unread = &[3]int{0, 1, 2}, d.unread
	if d.Process.Terminal {
		r.stdio[2] = -1 // it has another one
	}
	return r
}

// Call runs a command of a runtime, given with its global arguments, and kills
// it after limit. Its log is in dir. Monitors use it to take a container down.
func Call(runtime []string, dir, command string, args []string, limit time.Duration) *wire.Failure {
	return (&request{runtime: runtime, dir: dir, name: command, args: args, limit: limit}).do()
}

// TurnFD is the number under which a runtime, and CRIU from it, gets the lock of a
// checkpoint.
const TurnFD = 20

// request is one command of a runtime.
type request struct {
	runtime []string // with its global arguments
	dir     string   // for its log
	name    string
	args    []string
	limit   time.Duration
	// until are descriptors whose events call it off.
	until []unix.PollFd
	// lets is what a start lets go; nil for another command.
	lets *waiting
	// stdio are its streams, nil for none; -1 for an error stream that is ours.
	stdio *[3]int
	// turn is what CRIU is to hold as long as it is at work; 0 for nothing.
	turn int
	// makes is the pid file that it is to write; "" for none.
	makes string
	// unread tells that its error stream is a pipe that nobody reads yet.
	unread bool
}

// waiting is the process of a container that waits for its start.
type waiting struct {
	pidfd int
	// fifo is where it waits, with runc and crun, which remove that when it has gone on.
	fifo string
}

func newWaiting(pidfd int, bundle, id string) *waiting {
	return &waiting{pidfd, bundle + "/state/" + id + "/exec.fifo"}
}

// waits tells whether nobody has let the process go, as far as one can see.
func (w *waiting) waits() bool {
	var st unix.Stat_t
	return unix.Lstat(w.fifo, &st) == nil
}

// lostPatience is how long a start may take to find out that who waited for it has died.
// crun opens the fifo after having looked for that, and waits for a reader for ever.
const lostPatience = 5 * time.Second

func (r *request) do() *wire.Failure {
	stdio := r.stdio
	if stdio == nil {
		null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return wire.Fail("open /dev/null", err)
		}
		defer unix.Close(null)
		stdio = &[3]int{null, null, -1}
	}
	words, err := r.listen(stdio)
	if err != nil {
		return wire.Fail("listen to OCI runtime "+r.runtime[0], err)
	}
	defer words.close()
	step := spoken(r.runtime[0]) + " " + r.name
	argv := append(append([]string{}, r.runtime...), "--log", r.dir+"/"+logFile, r.name)
	pidfd := -1
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := sysmon.Exact(); err != nil {
		return wire.Fail("set timer slack", err)
	}
	files := []uintptr{uintptr(stdio[0]), uintptr(stdio[1]), uintptr(stdio[2])}
	if r.turn > 0 {
		// Behind those that a runtime gives CRIU, which begin with 3.
		for len(files) < TurnFD {
			files = append(files, ^uintptr(0))
		}
		files = append(files, uintptr(r.turn))
	}
	pid, err := syscall.ForkExec(r.runtime[0], append(argv, r.args...), &syscall.ProcAttr{
		Dir: "/", Env: environment(),
		Files: files,
		Sys:   &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL, PidFD: &pidfd},
	})
	if err != nil {
		return &wire.Failure{Step: "run OCI runtime " + r.runtime[0], Text: err.Error()}
	}
	if pidfd >= 0 {
		defer unix.Close(pidfd)
		if text := r.awaitEnd(pidfd); text != "" {
			endRuntime(pid)
			_, _ = unix.Wait4(pid, nil, 0, nil)
			if said := words.end(); said != "" {
				text += "; it said: " + said
			}
			return &wire.Failure{Step: step, Text: text}
		}
	}
	var ws unix.WaitStatus
	for {
		if _, err = unix.Wait4(pid, &ws, 0, nil); err != unix.EINTR {
			break
		}
	}
	switch {
	case err != nil:
		return wire.Fail(step, err)
	case ws.Exited() && ws.ExitStatus() == 0 && r.made():
		return nil
	}
	text := lastError(r.dir+"/"+logFile, step)
	if text == "" {
		text = words.end()
	}
	if ws.Exited() && ws.ExitStatus() == 0 {
		none := "it has ended without an error, and has written no pid file"
		if text != "" {
			none += "; it said: " + text
		}
		return &wire.Failure{Step: step, Text: none}
	}
	if text != "" {
		if strings.HasPrefix(text, step) { // as runc says it
			step = ""
		}
		return &wire.Failure{Step: step, Text: text}
	}
	if ws.Signaled() {
		return &wire.Failure{Step: step, Text: "it was ended by a signal: " + ws.Signal().String()}
	}
	return &wire.Failure{Step: step, Text: "it has failed without a word in its log"}
}

// made tells whether there is what the command makes.
func (r *request) made() bool {
	var st unix.Stat_t
	return r.makes == "" || unix.Lstat(r.makes, &st) == nil
}

// endRuntime kills a runtime with its process group and those of its children: hooks
// may have groups of their own, as cove-runtime's have.
func endRuntime(pid int) {
	_ = unix.Kill(-pid, unix.SIGSTOP) // it reaps none: their numbers stay theirs
	processes, _ := os.ReadDir("/proc")
	for _, p := range processes {
		if child, err := strconv.Atoi(p.Name()); err == nil && procfs.Parent(child) == pid {
			_ = unix.Kill(-child, unix.SIGKILL)
		}
	}
	_ = unix.Kill(-pid, unix.SIGKILL)
}

// spoken is what a program is called in messages: cove's own lies under a name that
// ends with the beginning of its checksum (internal/companion).
func spoken(program string) string {
	name := path.Base(program)
	if strings.HasPrefix(name, ownRuntime+"-") {
		return ownRuntime
	}
	return name
}

const ownRuntime = "cove-runtime"

// environment is the runtime's: of ours, what is set for init to be small is
// nothing to it, nor is systemd's socket, which is for conmon to tell of itself:
// runc would have the container tell, at a socket in its state directory, whose path
// may be too long for one.
func environment() (env []string) {
	for _, e := range os.Environ() {
		switch key, _, _ := strings.Cut(e, "="); key {
		case "GOMAXPROCS", "GOGC", "GODEBUG", "NOTIFY_SOCKET":
		default:
			env = append(env, e)
		}
	}
	return env
}

// awaitEnd returns when the command's process has ended, or tells why it is to be killed.
func (r *request) awaitEnd(pidfd int) (why string) {
	fds := append([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}, {Fd: -1}}, r.until...) // poll passes over -1
	if r.lets != nil {
		fds[1] = unix.PollFd{Fd: int32(r.lets.pidfd), Events: unix.POLLIN}
	}
	limit := r.limit
	for begun := time.Now(); ; {
		left := limit - time.Since(begun)
		if left <= 0 && limit < r.limit { // what was to be let go has ended
			if r.lets.waits() {
				return "the container's process has ended before it, it has not after " + lostPatience.String() + " more and was killed"
			}
			limit = r.limit
			continue
		}
		if left <= 0 {
			return "it has not ended after " + limit.String() + " and was killed"
		}
		if r.turn > 0 {
			left = min(left, OrphanWait)
		}
		n, err := unix.Poll(fds, int(left.Milliseconds())+1)
		switch {
		case err == unix.EINTR:
		case err != nil, fds[0].Revents != 0:
			return "" // wait and see
		case fds[1].Revents != 0:
			fds[1].Fd, limit = -1, min(limit, time.Since(begun)+lostPatience)
		case n > 0:
			return "it was stopped before it had started"
		case r.turn > 0:
			EndOrphans("/proc/self/fd/" + strconv.Itoa(r.turn))
		}
	}
}

// lastError is the last error of a runtime's log, one line, with the one before unless it
// begins with step, as runc's does: crun writes a cause, and what has come of it.
func lastError(name, step string) string {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	data, _ := ctrinit.ReadAll(fd)
	before, text := "", ""
	for line := range strings.Lines(string(data)) {
		if msg := strings.Join(strings.Fields(errorIn(line)), " "); msg != "" {
			before, text = text, msg
		}
	}
	if before != "" && !strings.HasPrefix(text, step) {
		text = tail(before, 200) + ": " + text
	}
	return text
}

// errorIn is the error that a line of a log tells of, "" for none: in JSON, as
// time="…" level=error msg="…", or in words alone. gVisor writes its sandbox's
// entry and its own into one line; the first one is the cause.
func errorIn(line string) (text string) {
	d := json.NewDecoder(strings.NewReader(line))
	for n := 0; ; n++ {
		var e struct{ Level, Msg string }
		if err := d.Decode(&e); err == io.EOF && n > 0 {
			return text
		} else if err != nil {
			break
		}
		if e.Level != "error" {
			continue
		}
		if text != "" {
			e.Msg = tail(text, 200) + ": " + e.Msg
		}
		text = e.Msg
	}
	_, msg, found := strings.Cut(strings.TrimSpace(line), "level=error msg=")
	if whole, err := strconv.Unquote(msg); found && err == nil {
		return whole
	}
	if !found && strings.Contains(line, "level=") {
		return ""
	}
	if !found {
		msg = line
	}
	return msg
}

// tail is the end of a text.
func tail(text string, most int) string {
	if len(text) > most {
		return "…" + strings.ToValidUTF8(text[len(text)-most:], "")
	}
	return text
}

// blame finds out whether a failure is the command's own: a runtime says so in
// words only.
func (d *driver) blame(f *wire.Failure, root int) {
	if d.unseen || len(d.Process.Args) == 0 {
		return
	}
	name := d.Process.Args[0]
	places := []string{name}
	if name == "" {
		places = nil
	} else if !strings.Contains(name, "/") {
		places = nil
		for _, e := range d.Process.Env {
			if list, ok := strings.CutPrefix(e, "PATH="); ok {
				places = nil
				for dir := range strings.SplitSeq(list, ":") {
					places = append(places, path.Join(dir, name))
				}
			}
		}
	} else if !path.IsAbs(name) {
		places[0] = path.Join(d.Process.Cwd, name)
	}
	f.Exec, f.NoFile = true, true
	for _, p := range places {
		fd, err := unix.Openat2(root, p, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
		if err != nil {
			continue
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		_ = unix.Close(fd)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o111 != 0 {
			f.Exec, f.NoFile = false, false
			return
		}
		f.NoFile = false
	}
}
