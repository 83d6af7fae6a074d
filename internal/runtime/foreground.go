package runtime

import (
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// Watch stays with a process of ours that runs in the foreground: it passes
// signals on, copies its terminal, reaps what ends, and gives the code that a
// shell would.
func (b *Born) Watch(reap bool) int {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	defer signal.Stop(signals)
	if b.Master >= 0 {
		defer b.terminal()()
	}
	for {
		// Before the first signal, too: it may have ended before we listened.
		if code, ended := reapAll(b.PID, reap); ended {
			return code
		}
		switch sig := <-signals; sig {
		case unix.SIGCHLD:
		case unix.SIGWINCH:
			b.resize()
		case unix.SIGURG, unix.SIGPIPE: // the Go runtime's own, and our streams'
		default:
			_ = unix.PidfdSendSignal(b.PIDFD, sig.(unix.Signal), nil, 0)
		}
	}
}

// reapAll collects what has ended, as the parent of all orphans if so asked.
func reapAll(pid int, all bool) (code int, ended bool) {
	who := pid
	if all {
		who = -1
	}
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(who, &ws, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || got <= 0 {
			return code, ended
		}
		if got == pid {
			code, ended = ws.ExitStatus(), true
			if ws.Signaled() {
				code = 128 + int(ws.Signal())
			}
		}
	}
}

// terminal copies between the process's terminal and ours; done puts ours back.
func (b *Born) terminal() (done func()) {
	restore := func() {}
	if old, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
		raw := *old
		// cfmakeraw(3)
		raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
		raw.Oflag &^= unix.OPOST
		raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
		raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
		if unix.IoctlSetTermios(0, unix.TCSETS, &raw) == nil {
			restore = func() { _ = unix.IoctlSetTermios(0, unix.TCSETS, old) }
		}
	}
	b.resize()
	master := os.NewFile(uintptr(b.Master), "terminal")
	copied := make(chan struct{})
	go func() {
		_, _ = io.Copy(os.Stdout, master) // EIO at its end
		close(copied)
	}()
	go func() {
		_, _ = io.Copy(master, os.Stdin)
	}()
	return func() {
		<-copied
		restore()
		_ = master.Close()
	}
}

func (b *Born) resize() {
	if b.Master < 0 {
		return
	}
	if size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
		_ = unix.IoctlSetWinsize(b.Master, unix.TIOCSWINSZ, size)
	}
}
