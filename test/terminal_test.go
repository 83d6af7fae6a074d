package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal with what has been read from it.
type terminal struct {
	ctrl *os.File
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
	from int          // guarded by mu; what expect has consumed
}

// cmdTerm: term CODE DIALOGUE COMMAND ARG… — runs a command on a terminal of
// 80 by 24. DIALOGUE is a file of lines
//
//	expect REGEXP
//	send TEXT          with Go's escapes
//	sleep DURATION
//	size COLUMNS ROWS
//
// The script's stdout becomes what the terminal showed.
func cmdTerm(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: term code dialogue command arg…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	dialogue := ts.ReadFile(args[1])
	h := houseOf(ts)
	t, tty, err := openTerminal()
	ts.Check(err)
	defer t.ctrl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := h.command(ctx, environ(ts), ts.MkAbs("."), args[2], args[3:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		tty.Close()
		ts.Fatalf("%v", err)
	}
	tty.Close()
	closed := make(chan struct{})
	go func() {
		t.read()
		close(closed)
	}()
	talk := t.talk(dialogue)
	if talk != nil {
		cancel()
	}
	err = cmd.Wait()
	select {
	case <-closed:
	case <-time.After(5 * time.Second): // somebody has it open still, as podman's process for a user's namespace
	}
	t.mu.Lock()
	shown := strings.ReplaceAll(t.text.String(), "\r\n", "\n")
	t.mu.Unlock()
	fmt.Fprint(ts.Stdout(), shown)
	if talk != nil {
		ts.Fatalf("%v", talk)
	}
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func openTerminal() (*terminal, *os.File, error) {
	ctrl, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	fail := func(err error) (*terminal, *os.File, error) {
		ctrl.Close()
		return nil, nil, err
	}
	if err := unix.IoctlSetPointerInt(int(ctrl.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return fail(err)
	}
	n, err := unix.IoctlGetInt(int(ctrl.Fd()), unix.TIOCGPTN)
	if err != nil {
		return fail(err)
	}
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return fail(err)
	}
	t := &terminal{ctrl: ctrl}
	return t, tty, t.size(80, 24)
}

func (t *terminal) size(columns, rows uint16) error {
	return unix.IoctlSetWinsize(int(t.ctrl.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows})
}

// read collects until the last holder of the terminal has closed it.
func (t *terminal) read() {
	buf := make([]byte, 4096)
	for {
		n, err := t.ctrl.Read(buf)
		t.mu.Lock()
		t.text.Write(buf[:n])
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (t *terminal) talk(dialogue string) error {
	for line := range strings.Lines(dialogue) {
		line = strings.TrimRight(line, "\n")
		verb, rest, _ := strings.Cut(line, " ")
		var err error
		switch verb {
		case "":
		case "expect":
			err = t.expect(rest)
		case "send":
			var s string
			if s, err = strconv.Unquote(`"` + rest + `"`); err == nil {
				_, err = t.ctrl.WriteString(s)
			}
		case "sleep":
			var d time.Duration
			d, err = time.ParseDuration(rest)
			time.Sleep(d)
		case "size":
			var c, r uint16
			if _, err = fmt.Sscan(rest, &c, &r); err == nil {
				err = t.size(c, r)
			}
		default:
			err = errors.New("unknown word")
		}
		if err != nil {
			return fmt.Errorf("dialogue: %s: %w", line, err)
		}
	}
	return nil
}

// expect waits until what the terminal shows after the last match matches.
func (t *terminal) expect(pattern string) error {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(patience / 2); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		t.mu.Lock()
		at := re.FindIndex(t.text.Bytes()[t.from:])
		if at != nil {
			t.from += at[1]
		}
		t.mu.Unlock()
		if at != nil {
			return nil
		}
	}
	return errors.New("not seen")
}
