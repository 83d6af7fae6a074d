package test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// patience is how long one command of a script may take.
const patience = 6 * time.Minute

var fullID = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

// command is a prepared command of a script.
func (h *house) command(ctx context.Context, env []string, dir string, name string, args ...string) *exec.Cmd {
	if name == "ctr" || name == "host" || name == "roots" || name == "outside" {
		name = h.work + "/.bin/" + name
	} else if p, err := exec.LookPath(name); err == nil {
		name = p
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Dir = env, dir
	// kill 0, as of a PID that is not there just now, is the command's own end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.own(); err != nil {
		h.tb.Error(err)
	}
	cmd.Cancel = func() error { h.tellHang(cmd); return nil }
	// Whoever holds our pipes after the command ended is a fault of its own.
	cmd.WaitDelay = 15 * time.Second
	return cmd
}

// tellHang logs where a command that takes too long stands, with whatever works for it, and has
// it tell its goroutines' stacks, before it is killed.
func (h *house) tellHang(cmd *exec.Cmd) {
	own := strconv.Itoa(cmd.Process.Pid)
	pids, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range pids {
		line, _ := os.ReadFile(dir + "/cmdline")
		if filepath.Base(dir) != own && !bytes.Contains(line, []byte(h.work)) {
			continue
		}
		stands := string(bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
		tasks, _ := filepath.Glob(dir + "/task/[0-9]*")
		for _, task := range tasks {
			stands += "\n" + task
			for _, name := range []string{"wchan", "syscall", "stack"} { // not every kernel has all
				text, _ := os.ReadFile(task + "/" + name)
				stands += "\n" + strings.TrimSpace(string(text))
			}
		}
		h.tb.Log(stands)
	}
	_ = cmd.Process.Signal(unix.SIGQUIT)
}

// output runs a command for the harness itself.
func (h *house) output(limit time.Duration, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	out, err := h.command(ctx, h.env, h.work, name, args...).CombinedOutput()
	return string(out), err
}

// run runs a command of the script; what it prints is the script's stdout
// and stderr. A last argument <FILE is its standard input.
func run(ts *testscript.TestScript, args []string) (code int) {
	h := houseOf(ts)
	if len(args) == 0 {
		ts.Fatalf("a command is missing")
	}
	stdin := ""
	if n := len(args) - 1; strings.HasPrefix(args[n], "<") {
		stdin, args = ts.MkAbs(args[n][1:]), args[:n]
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := h.command(ctx, environ(ts), ts.MkAbs("."), args[0], args[1:]...)
	if stdin != "" {
		f, err := os.Open(stdin)
		ts.Check(err)
		defer f.Close()
		cmd.Stdin = f
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	_, _ = ts.Stdout().Write(out.Bytes())
	_, _ = ts.Stderr().Write(errs.Bytes())
	for _, id := range fullID.FindAllString(out.String(), -1) {
		h.seen[id] = true
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		ts.Fatalf("%s: took longer than %v", strings.Join(args, " "), patience)
	case errors.Is(err, exec.ErrWaitDelay):
		ts.Fatalf("%s: ended, but a process that it left behind keeps its output open", strings.Join(args, " "))
	case errors.As(err, &exit):
		if s := exit.Sys().(interface{ Signaled() bool }); s.Signaled() {
			return 128 + int(exit.Sys().(interface{ Signal() unix.Signal }).Signal())
		}
		return exit.ExitCode()
	default:
		ts.Fatalf("%v", err)
	}
	return -1
}

// environ is the script's present environment.
func environ(ts *testscript.TestScript) []string {
	h := houseOf(ts)
	env := make([]string, 0, len(h.env))
	seen := map[string]bool{}
	for _, kv := range h.env {
		k, _, _ := strings.Cut(kv, "=")
		if !seen[k] {
			seen[k] = true
			env = append(env, k+"="+ts.Getenv(k))
		}
	}
	for _, k := range h.exported {
		if !seen[k] {
			env = append(env, k+"="+ts.Getenv(k))
		}
	}
	return env
}

// judge fails the script when a command's success is not the expected one.
func judge(ts *testscript.TestScript, neg bool, code int) {
	if neg && code == 0 {
		ts.Fatalf("unexpected success")
	}
	if !neg && code != 0 {
		ts.Fatalf("exit code %d", code)
	}
}

// cmdCtr: [!] ctr ARG… [<FILE] — the engine under test.
func cmdCtr(ts *testscript.TestScript, neg bool, args []string) {
	judge(ts, neg, run(ts, append([]string{"ctr"}, args...)))
}

// cmdCode: code N[,N] COMMAND ARG… — the exit code must be one of those.
func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N command arg…")
	}
	if got := run(ts, args[1:]); !slices.Contains(strings.Split(args[0], ","), strconv.Itoa(got)) {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// cmdShell: [!] sh TEXT [<FILE] — a shell in the script's network namespace,
// where ctr, host and outside are commands.
func cmdShell(ts *testscript.TestScript, neg bool, args []string) {
	judge(ts, neg, run(ts, append([]string{shellOf(args), "/bin/sh", "-euc"}, args...)))
}

// shellOf is whose shell it is: the other side of the link is root's to reach.
func shellOf(args []string) string {
	if strings.Contains(strings.Join(args, " "), "outside ") {
		return "roots"
	}
	return "host"
}

// cmdAsRoot: [!] asroot TEXT — a shell of root's, whoever runs the scripts.
func cmdAsRoot(ts *testscript.TestScript, neg bool, args []string) {
	judge(ts, neg, run(ts, append([]string{"roots", "/bin/sh", "-euc"}, args...)))
}

// cmdOutside: [!] outside TEXT — a shell on the other side of the link.
func cmdOutside(ts *testscript.TestScript, neg bool, args []string) {
	judge(ts, neg, run(ts, append([]string{"outside", "/bin/sh", "-euc"}, args...)))
}

// leastUntil is how long a command until waits at least: what comes within a second here
// takes longer on a machine that has other things to do.
const leastUntil = 2 * time.Minute

// cmdUntil: until SECONDS TEXT — repeats a shell text until it succeeds, for so long or leastUntil.
func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: until seconds text")
	}
	seconds, err := strconv.ParseFloat(args[0], 64)
	ts.Check(err)
	h := houseOf(ts)
	limit := max(time.Duration(seconds*float64(time.Second)), leastUntil)
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		out, err := h.command(ctx, environ(ts), ts.MkAbs("."), shellOf(args[1:]), "/bin/sh", "-euc", args[1]).CombinedOutput()
		cancel()
		if err == nil {
			_, _ = ts.Stdout().Write(out)
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not within %v: %v\n%s", limit, err, out)
		}
	}
}

// cmdSet: set NAME COMMAND ARG… — puts a command's output, without the end of
// line, into an environment variable.
func cmdSet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: set name command arg…")
	}
	h := houseOf(ts)
	switch args[1] {
	case "sh":
		args = slices.Concat(args[:1], []string{"host", "/bin/sh", "-euc"}, args[2:])
	case "asroot":
		args = slices.Concat(args[:1], []string{"roots", "/bin/sh", "-euc"}, args[2:])
	}
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := h.command(ctx, environ(ts), ts.MkAbs("."), args[1], args[2:]...)
	cmd.Stdout, cmd.Stderr = &out, ts.Stderr()
	if err := cmd.Run(); err != nil {
		ts.Fatalf("%v", err)
	}
	for _, id := range fullID.FindAllString(out.String(), -1) {
		h.seen[id] = true
	}
	value := strings.TrimRight(out.String(), "\n")
	ts.Logf("%s=%s", args[0], value)
	ts.Setenv(args[0], value)
	if !slices.Contains(h.exported, args[0]) {
		h.exported = append(h.exported, args[0])
	}
}

// cmdLose: lose all|half DIR — removes everything below a directory, or each
// of it with the chance of one half, as something that clears up temporary
// files may do.
func cmdLose(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 || args[0] != "all" && args[0] != "half" {
		ts.Fatalf("usage: lose all|half directory")
	}
	seed := uint64(time.Now().UnixNano())
	ts.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	var doomed []string
	ts.Check(filepath.WalkDir(args[1], func(path string, _ fs.DirEntry, err error) error {
		if path != args[1] && (args[0] == "all" || chance.IntN(2) == 0) {
			doomed = append(doomed, path)
		}
		return err
	}))
	for _, path := range slices.Backward(doomed) {
		if fi, err := os.Lstat(path); err == nil && (!fi.IsDir() || args[0] == "all") {
			ts.Check(os.RemoveAll(path))
			ts.Logf("lost %s", path)
		} else if err == nil && os.Remove(path) == nil { // not empty ones
			ts.Logf("lost %s", path)
		}
	}
}
