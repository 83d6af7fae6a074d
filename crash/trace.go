package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// order is what a tracing process has to do.
type order struct {
	Counts  kind
	At      int // 0 never strikes
	Strike  strike
	Follow  int    // a process that runs already, to be traced, too; 0 is none
	Victim  int    // who is killed in place of who makes the call; 0 is none
	Also    []kind // who dies at the same moment
	User    int    // who the command is run as
	Whole   bool   // on until all that was started has ended
	Command []string
}

// strike is what happens at the call drawn.
type strike struct {
	Signal  unix.Signal // its process gets it
	Errno   unix.Errno  // or, if not 0, the call fails so: then those that may are counted
	Lasting bool        // and all later ones do
}

// tracer runs a command under ptrace(2), counts the system calls of all threads
// of the processes of one kind, and kills a process, mostly that one, as it enters
// the one of the number asked for, or has it fail. Everything else runs on.
//
// It has to be a process of its own (the "trace" argument of this program):
// when it ends the kernel lets go of whatever is still traced.
type tracer struct {
	order
	threads map[int]*thread
	command int // its pid
	count   int
	struck  bool
	refused string          // the call that was made to fail
	status  unix.WaitStatus // of the command
	ended   bool
	tracer  chan int // how long one has lived at its end, in moments; nil before there is one
}

// moment is what counts as a call of who is not traced.
const moment = 100 * time.Microsecond

type thread struct {
	process int
	kind    kind
	inCall  bool
	fails   bool // the call that it is in
	unborn  bool // stopped until its parent's event has told of it
}

const traceOptions = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK |
	unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC

// traceMain is the life of the tracing process, whose argument is its order. It
// writes "count N" or "struck N", and the call refused, to descriptor 3 and ends
// as the command does.
func traceMain(text string) int {
	runtime.LockOSThread()
	t := &tracer{threads: map[int]*thread{}}
	err := json.Unmarshal([]byte(text), &t.order)
	if err == nil {
		err = t.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "trace:", err)
		return 125
	}
	if t.tracer != nil {
		if t.count = <-t.tracer; t.count < 0 {
			t.struck, t.count = true, t.At
		}
	}
	word := "count"
	if t.struck {
		word = "struck"
	}
	_, _ = fmt.Fprintf(os.NewFile(3, "result"), "%s %d %q\n", word, t.count, t.refused)
	if t.status.Signaled() {
		return 128 + int(t.status.Signal())
	}
	return t.status.ExitStatus()
}

func (t *tracer) run() error {
	if err := t.seize(t.Follow); err != nil {
		return err
	}
	// It waits until it is traced. PTRACE_SEIZE, because with the older
	// attachment what is born while we end is left stopped.
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var gate [2]int
	if err := unix.Pipe2(gate[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	pid, err := syscall.ForkExec(self, append([]string{self, "wait", strconv.Itoa(t.User)}, t.Command...), &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2, uintptr(gate[0])},
	})
	_ = unix.Close(gate[0])
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid), 0, traceOptions, 0, 0); errno != 0 {
		return errno
	}
	t.command = pid
	t.threads[pid] = &thread{process: pid, kind: kindOther} // until its exec
	_ = unix.Close(gate[1])
	var ws unix.WaitStatus
	for !t.ended || t.Whole {
		tid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err == unix.ECHILD && t.ended {
			return nil
		}
		if err != nil {
			return err
		}
		if err := t.event(tid, ws); err != nil {
			return err
		}
	}
	return nil
}

// seize attaches to the threads of a process that runs already.
func (t *tracer) seize(pid int) error {
	if pid == 0 {
		return nil
	}
	tasks, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return err
		}
		if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(tid), 0, traceOptions, 0, 0); errno != 0 {
			return errno
		}
		t.threads[tid] = &thread{process: pid, kind: kindFollowed}
		// It has to stop once for its calls to be seen from then on.
		if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_INTERRUPT, uintptr(tid), 0, 0, 0, 0); errno != 0 {
			return errno
		}
	}
	return nil
}

// waitMain is the command before its exec, as the user of the first argument: it
// goes on when descriptor 3 ends.
func waitMain(argv []string) int {
	unix.CloseOnExec(3)
	_, _ = unix.Read(3, make([]byte, 1))
	uid, err := strconv.Atoi(argv[0])
	if err == nil && uid != 0 {
		err = errors.Join(syscall.Setgroups(nil), syscall.Setgid(uid), syscall.Setuid(uid))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "trace:", err)
		return 125
	}
	argv = argv[1:]
	path, err := exec.LookPath(argv[0])
	if err == nil {
		err = syscall.Exec(path, argv, os.Environ())
	}
	fmt.Fprintln(os.Stderr, "trace:", err)
	return 125
}

// event handles one stop or end of a thread.
func (t *tracer) event(tid int, ws unix.WaitStatus) error {
	if ws.Exited() || ws.Signaled() {
		for child, th := range t.threads { // who has died may not have told of it
			if th.unborn {
				th.unborn = false
				t.proceed(child, 0)
			}
		}
		if tid == t.command {
			t.status, t.ended = ws, true
		}
		delete(t.threads, tid)
		return nil
	}
	th := t.threads[tid]
	if th == nil {
		// Born. What it is its parent's event tells, which may come later: until
		// then it waits, or its calls would not be counted.
		t.threads[tid] = &thread{process: tid, kind: kindOther, unborn: true}
		return nil
	}
	sig := 0
	switch stop := ws.StopSignal(); {
	case stop == unix.SIGTRAP|0x80:
		th.inCall = !th.inCall
		if err := t.atCall(tid, th); err != nil {
			return err
		}
	case ws>>16 == unix.PTRACE_EVENT_STOP && stop != unix.SIGTRAP:
		_, _, _ = unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_LISTEN, uintptr(tid), 0, 0, 0, 0) // a stop by job control
		return nil
	case ws.TrapCause() == unix.PTRACE_EVENT_STOP: // of its birth
	case ws.TrapCause() > 0:
		t.born(tid, th, ws.TrapCause())
		if th.kind == kindTracer {
			t.letGo(tid)
			return nil
		}
	case stop == unix.SIGTRAP:
	default:
		sig = int(stop)
	}
	t.proceed(tid, sig)
	return nil
}

// letGo lets a process be that nobody can look at, since it traces itself. If it is
// the one drawn it dies at a moment of its life in place of a call.
func (t *tracer) letGo(pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	_ = unix.PtraceDetach(pid)
	delete(t.threads, pid)
	if err != nil || t.Counts != kindTracer || t.tracer != nil {
		return
	}
	at := -1 // for ever
	var also []int
	if t.At > 0 {
		at = t.At
		for _, th := range t.threads {
			if slices.Contains(t.Also, th.kind) {
				also = append(also, th.process)
			}
		}
	}
	t.tracer = make(chan int, 1)
	go func() {
		defer unix.Close(fd)
		begun := time.Now()
		limit := time.Duration(math.MaxInt64)
		if at >= 0 {
			limit = time.Duration(at) * moment
		}
		for ended := false; !ended && time.Since(begun) < limit; {
			left := unix.NsecToTimespec(int64(min(limit-time.Since(begun), time.Hour)))
			n, _ := unix.Ppoll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, &left, nil)
			ended = n > 0
		}
		if time.Since(begun) >= limit && unix.PidfdSendSignal(fd, t.Strike.Signal, nil, 0) == nil {
			for _, pid := range also {
				_ = unix.Kill(pid, t.Strike.Signal)
			}
			t.tracer <- -1
			return
		}
		t.tracer <- int(time.Since(begun) / moment)
	}()
}

// atCall counts a call that a thread enters, and strikes at the one drawn.
func (t *tracer) atCall(tid int, th *thread) error {
	if th.fails {
		th.fails = false
		return gone(fail(tid, t.Strike.Errno))
	}
	if !th.inCall || !t.watched(th) {
		return nil
	}
	if t.Strike.Errno != 0 {
		return gone(t.refuse(tid, th))
	}
	if t.count++; t.count == t.At {
		t.struck = true
		victim := th.process
		if t.Victim != 0 {
			victim = t.Victim
		}
		_ = unix.Kill(victim, t.Strike.Signal)
	}
	return nil
}

// refuse has the call that a thread enters fail if it is the one drawn, or a
// later one where all those do.
func (t *tracer) refuse(tid int, th *thread) error {
	var c call
	if err := c.ask(getSyscallInfo, tid); err != nil {
		return err
	}
	name, ok := c.may(th.process, t.Strike.Errno)
	if !ok {
		return nil
	}
	if t.count++; t.At == 0 || t.count < t.At {
		return nil
	}
	if !t.struck {
		t.refused = c.describe(tid, name)
	}
	t.struck, th.fails = true, true
	return c.skip(tid)
}

// gone takes it for no error that a thread has been killed meanwhile.
func gone(err error) error {
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make a call fail, which takes Linux 6.16: %w", err)
	}
	return nil
}

// watched tells whether a thread's calls still matter.
func (t *tracer) watched(th *thread) bool {
	return th.kind == t.Counts && (!t.struck || t.Strike.Lasting)
}

// born keeps the book of processes and what they are.
func (t *tracer) born(tid int, th *thread, cause int) {
	switch cause {
	case unix.PTRACE_EVENT_EXEC:
		// The thread that called exec has become its process's only one.
		for other, o := range t.threads {
			if o.process == tid && other != tid {
				delete(t.threads, other)
			}
		}
		th.process, th.inCall = tid, true // exec's own exit stop follows
		if th.kind = kindCommand; tid != t.command {
			th.kind = kindOf(tid)
		}
	default:
		msg, err := unix.PtraceGetEventMsg(tid)
		if err != nil {
			return
		}
		child := int(msg)
		c := t.threads[child]
		if c == nil {
			c = &thread{}
			t.threads[child] = c
		}
		if cause == unix.PTRACE_EVENT_CLONE && sameProcess(th.process, child) {
			c.process, c.kind = th.process, th.kind
		} else {
			c.process, c.kind = child, kindOther // until it executes something
		}
		if c.unborn {
			c.unborn = false
			t.proceed(child, 0)
		}
	}
}

// proceed lets a stopped thread run on, delivering a signal. Only where calls
// are counted does it stop at each.
func (t *tracer) proceed(tid, sig int) {
	th := t.threads[tid]
	if th != nil && (t.watched(th) || th.fails) {
		_ = unix.PtraceSyscall(tid, sig)
		return
	}
	_ = unix.PtraceCont(tid, sig)
}

// sameProcess tells a new thread from a new process, which clone(2) both makes.
func sameProcess(pid, tid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(tid) + "/status")
	return err == nil && strings.Contains(string(data), "\nTgid:\t"+strconv.Itoa(pid)+"\n")
}

// traced is what became of a command under the tracer.
type traced struct {
	result
	count   int    // the system calls of the processes that the role is about, up to the one drawn
	struck  bool   // that was reached
	refused string // the call that was made to fail
}

// trace runs a command in a tracing process.
func (s *scene) trace(d deed, r role, at int) (told traced, err error) {
	o := order{Counts: r.counts, Also: r.also, At: at, Strike: s.strike, Whole: d.whole && r.counts != kindCommand, Command: s.argv(slices.Concat(d.flags, d.command))}
	if s.user {
		o.User = user.ID
	}
	if o.Follow, err = s.running(r.follows); err == nil {
		o.Victim, err = s.running(r.victim)
	}
	if err != nil {
		return told, err
	}
	text, err := json.Marshal(o)
	if err != nil {
		return told, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return told, err
	}
	defer read.Close()
	self, err := os.Executable()
	if err != nil {
		return told, err
	}
	cmd := exec.Command(self, "trace", string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	cmd.ExtraFiles = []*os.File{write}
	told.result = s.finish(cmd, write)
	var word string
	if _, err := fmt.Fscanf(read, "%s %d %q\n", &word, &told.count, &told.refused); err != nil {
		if told.code < 0 {
			told.struck = true
			return told, nil // it hung
		}
		return told, errors.Join(fmt.Errorf("the tracer died: %s", told.result), err)
	}
	told.struck = word == "struck"
	return told, nil
}
