// Package conmon speaks with conmon, which can watch a container in place of
// cove's own monitor: how it is called, where it tells the exit, its attach
// socket and its control fifo, conmon(8). [Open] makes of that a conversation
// in the words of internal/monitor/wire, so that whoever asks a container's
// monitor for something need not know which one it is.
//
// What cove's monitor does beyond watching is done by others: the container is
// taken down, removed and started again by the exit command, which is cove
// itself.
package conmon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// Birth is how conmon is started for one run of a container.
type Birth struct {
	Program  string
	ID, Name string
	// Bundle gets conmon's sockets and fifos, Exits the file that tells the
	// exit, named by the container's ID.
	Bundle, Exits string
	// Runtime is what it runs as its OCI runtime, with arguments.
	Runtime []string
	// Restore is where the images are that the container goes on from; "" to create it.
	Restore string
	// ExitCommand is run when the container has ended.
	ExitCommand     []string
	Log             wire.Log
	Terminal, Stdin bool
	// KeepStdin leaves the container's input open when a client goes.
	KeepStdin bool
	Lifetime  time.Duration
}

// Args is the command line.
func (b *Birth) Args() []string {
	args := []string{
		b.Program, "--api-version", "1", "--sync", "--cid", b.ID, "--cuuid", b.ID, "--name", b.Name,
		"--bundle", b.Bundle, "--container-pidfile", filepath.Join(b.Bundle, "pid"), "--exit-dir", b.Exits,
		"--full-attach", "--no-sync-log", "--log-path", b.log(),
	}
	switch {
	case b.Log.Driver == journald:
		if b.Log.Tag != "" { // conmon refuses one for a file
			args = append(args, "--log-tag", b.Log.Tag)
		}
	case b.Log.MaxSize > 0 && !b.special():
		args = append(args, "--log-size-max", strconv.FormatInt(b.Log.MaxSize, 10))
	}
	if b.Restore != "" {
		args = append(args, "--restore", b.Restore)
	}
	if b.Lifetime > 0 {
		args = append(args, "--timeout", strconv.Itoa(int(b.Lifetime.Seconds())))
	}
	switch {
	case b.Terminal:
		args = append(args, "--terminal")
	case b.Stdin:
		args = append(args, "--stdin")
	}
	if b.KeepStdin {
		args = append(args, "--leave-stdin-open")
	}
	args = append(args, "--runtime", b.Runtime[0])
	for _, a := range b.Runtime[1:] {
		args = append(args, "--runtime-arg", a)
	}
	args = append(args, "--exit-command", b.ExitCommand[0])
	for _, a := range b.ExitCommand[1:] {
		args = append(args, "--exit-command-arg", a)
	}
	return args
}

// journald is the log driver to systemd's journal, in conmon's words as in ours.
const journald = "journald"

func (b *Birth) log() string {
	switch {
	case b.Log.Driver == journald:
		return journald + ":"
	case strings.HasPrefix(b.Log.Driver, "passthrough"):
		return "passthrough"
	case b.Log.Driver == "none" || b.Log.Path == "":
		return "none"
	}
	return "k8s-file:" + b.Log.Path
}

// OpenLog opens the log as cove's own monitor does, which follows no link and does not wait
// for the reader of a named pipe, as conmon would; nil where that has no file. It stays open until
// conmon has it, or such a reader would see its end.
func (b *Birth) OpenLog() (*os.File, error) {
	path, is := strings.CutPrefix(b.log(), "k8s-file:")
	if !is {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if why, is := errors.AsType[*os.PathError](err); is {
		why.Op = "open log"
	}
	return f, err
}

// special tells whether the log is there and no regular file: conmon would put
// one in the place of a device.
func (b *Birth) special() bool {
	st, err := os.Lstat(b.Log.Path)
	return err == nil && !st.Mode().IsRegular()
}

// minimum is the oldest conmon that podman 5 takes.
var minimum = [3]int{2, 0, 24}

// Check refuses a program that is not conmon or too old a one, by what it says
// that its version is.
func Check(program, line string) error {
	text, is := strings.CutPrefix(line, "conmon version ")
	have := [3]int{}
	for i, part := range strings.SplitN(strings.TrimSpace(text), ".", 3) {
		digits := strings.IndexFunc(part, func(r rune) bool { return r < '0' || r > '9' })
		if digits >= 0 {
			part = part[:digits]
		}
		n, err := strconv.Atoi(part)
		is = is && err == nil
		have[i] = n
	}
	if !is {
		return cove.E("", "", cove.Invalid, fmt.Errorf("%s is not conmon: it says %q", program, line))
	}
	for i := range have {
		if have[i] != minimum[i] {
			if have[i] < minimum[i] {
				return cove.E("", "", cove.Unsupported, fmt.Errorf("%s is conmon %s, cove needs %d.%d.%d", program, text, minimum[0], minimum[1], minimum[2]))
			}
			break
		}
	}
	return nil
}

// Created waits on the reading end of the pipe that conmon has as _OCI_SYNCPIPE
// until it tells the process of the container that its runtime has made.
func Created(pipe *os.File, limit time.Duration) (pid int, err error) {
	_ = pipe.SetReadDeadline(time.Now().Add(limit))
	var told struct {
		Data, PID *int
		Message   string
	}
	if err := json.NewDecoder(pipe).Decode(&told); err != nil {
		why := errors.New("conmon has told no process")
		switch {
		case errors.Is(err, io.EOF):
			why = monitor.ErrEnded
		case errors.Is(err, os.ErrDeadlineExceeded):
			why = fmt.Errorf("conmon has told no process after %v", limit)
		}
		return 0, cove.E("start container", "", cove.Unavailable, why)
	}
	if told.Data == nil {
		told.Data = told.PID
	}
	if told.Data == nil || *told.Data <= 0 {
		return 0, cove.E("start container", "", cove.Internal, errors.New("conmon says: "+strings.Join(strings.Fields(told.Message), " ")))
	}
	return *told.Data, nil
}

// Watches gives the process of the container in a bundle and when it was made, as conmon has
// written down what [Created] tells.
func Watches(bundle string) (pid int, made time.Time, err error) {
	text, made, err := read(filepath.Join(bundle, "pid"))
	if err == nil {
		pid, err = strconv.Atoi(text)
	}
	if err != nil {
		return 0, time.Time{}, err
	}
	return pid, made, nil
}

// read gives the number that conmon has written to a file, as text, and when. What is
// in the place of the file is an error, and is not waited for.
func read(name string) (text string, at time.Time, err error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", time.Time{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &os.PathError{Op: "read", Path: name, Err: unix.EINVAL}
	}
	if err != nil {
		return "", time.Time{}, err
	}
	data, err := io.ReadAll(io.LimitReader(f, 20))
	return strings.TrimSpace(string(data)), st.ModTime(), err
}

// End is what conmon has told of a container's end.
type End struct {
	Code int
	At   time.Time
	OOM  bool
}

// ReadEnd reads the exit file; false when there is none (yet).
func ReadEnd(exits, bundle, id string) (End, bool) {
	text, at, err := read(filepath.Join(exits, id))
	if err != nil {
		return End{}, false
	}
	code, err := strconv.Atoi(text)
	if err != nil {
		return End{}, false
	}
	if code < 0 { // its time was over, and conmon has killed it
		code = 128 + int(unix.SIGKILL)
	}
	end := End{Code: code, At: at}
	_, err = os.Lstat(filepath.Join(bundle, "oom"))
	end.OOM = err == nil
	return end, true
}

// Resize gives the container's terminal a size.
func Resize(bundle string, size wire.Size) error {
	// conmon holds the fifo open for both; without it nobody would read.
	fd, err := unix.Open(filepath.Join(bundle, "ctl"), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(fmt.Sprintf("1 %d %d\n", size.Rows, size.Cols)))
	return err
}
