package ctrinit

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Reaper is the life of --init's process: it runs the command as its child,
// passes every signal on to it, reaps whatever else ends, and ends as the
// command does. args are the command and its arguments.
func Reaper(args []string) {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		os.Exit(127)
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	_ = unix.Close(control) // the container has started
	name, f := lookPath(args, os.Environ())
	if f != nil {
		_, _ = os.Stderr.WriteString(f.Error() + "\n")
		os.Exit(127)
	}
	child, err := syscall.ForkExec(name, args, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2},
		// A group of its own in the foreground, so that a terminal's
		// signals reach it once.
		Sys: &syscall.SysProcAttr{Setpgid: true, Foreground: isTerminal(), Ctty: 0},
	})
	if err != nil {
		_, _ = os.Stderr.WriteString("exec " + name + ": " + err.Error() + "\n")
		if err == unix.ENOENT {
			os.Exit(127)
		}
		os.Exit(126)
	}
	for sig := range signals {
		switch sig {
		case unix.SIGCHLD:
			reap(child)
		case unix.SIGURG: // the Go runtime's own
		default:
			_ = unix.Kill(child, sig.(syscall.Signal))
		}
	}
}

// reap collects what has ended; with the command itself everything ends.
func reap(child int) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if pid != child {
			continue
		}
		if ws.Signaled() {
			os.Exit(128 + int(ws.Signal()))
		}
		os.Exit(ws.ExitStatus())
	}
}

func isTerminal() bool {
	_, err := unix.IoctlGetTermios(0, unix.TCGETS)
	return err == nil
}
