package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// role says which of the processes that a command starts is meant.
type role string

const (
	roleCommand role = "cove"    // the command itself
	roleMonitor role = "monitor" // the container's monitor
	roleInit    role = "init"    // the container's init, until its exec
	// Of the container x, which runs already.
	roleItsMonitor role = "x's monitor"
	roleItsInit    role = "x's init"  // killed at the command's calls, for it makes none
	roleOther      role = "container" // the container's own processes, and what else there is
)

// tracer runs a command under ptrace(2), counts the system calls of all threads
// of the process of one role, and kills a process, mostly that one, as it enters
// the one of the number asked for. Everything else runs on.
//
// It has to be a process of its own (the "trace" argument of this program):
// when it ends the kernel lets go of whatever is still traced.
type tracer struct {
	target role
	at     int // 0 never kills
	signal unix.Signal
	victim int // another process than the one whose calls are counted; 0 is none

	threads map[int]*thread
	command int // its pid
	count   int
	killed  bool
	status  unix.WaitStatus // of the command
	ended   bool
}

type thread struct {
	process int
	role    role
	inCall  bool
	execed  bool // since it was born
}

const traceOptions = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK |
	unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC

// traceMain is the life of the tracing process: arguments are the role, the
// number of the system call, the signal, the pid of a process that runs already
// (or 0), who the command is to run as, and the command. It writes "count N" or "killed N" to descriptor 3 and
// ends as the command does.
func traceMain(args []string) int {
	if len(args) < 6 {
		return 125
	}
	var numbers [4]int
	for i := range numbers {
		n, err := strconv.Atoi(args[1+i])
		if err != nil {
			return 125
		}
		numbers[i] = n
	}
	runtime.LockOSThread()
	t := &tracer{target: role(args[0]), at: numbers[0], signal: unix.Signal(numbers[1]), threads: map[int]*thread{}}
	pid := numbers[2]
	if t.target == roleItsInit {
		t.target, t.victim, pid = roleCommand, pid, 0
	}
	if err := t.run(args[5:], pid, numbers[3]); err != nil {
		fmt.Fprintln(os.Stderr, "trace:", err)
		return 125
	}
	word := "count"
	if t.killed {
		word = "killed"
	}
	_, _ = fmt.Fprintf(os.NewFile(3, "result"), "%s %d\n", word, t.count)
	if t.status.Signaled() {
		return 128 + int(t.status.Signal())
	}
	return t.status.ExitStatus()
}

func (t *tracer) run(argv []string, running, uid int) error {
	if err := t.seize(running); err != nil {
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
	pid, err := syscall.ForkExec(self, append([]string{self, "wait", strconv.Itoa(uid)}, argv...), &syscall.ProcAttr{
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
	t.threads[pid] = &thread{process: pid, role: roleOther} // until its exec
	_ = unix.Close(gate[1])
	var ws unix.WaitStatus
	for !t.ended {
		tid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		t.event(tid, ws)
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
		t.threads[tid] = &thread{process: pid, role: t.target}
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
func (t *tracer) event(tid int, ws unix.WaitStatus) {
	if ws.Exited() || ws.Signaled() {
		if tid == t.command {
			t.status, t.ended = ws, true
		}
		delete(t.threads, tid)
		return
	}
	th := t.threads[tid]
	if th == nil { // born; its parent's event may come later
		th = &thread{process: tid, role: roleOther}
		t.threads[tid] = th
	}
	sig := 0
	switch stop := ws.StopSignal(); {
	case stop == unix.SIGTRAP|0x80:
		th.inCall = !th.inCall
		if th.inCall && th.role == t.target && !t.killed {
			t.count++
			if t.count == t.at {
				t.killed = true
				victim := th.process
				if t.victim != 0 {
					victim = t.victim
				}
				_ = unix.Kill(victim, t.signal)
			}
		}
	case ws>>16 == unix.PTRACE_EVENT_STOP && stop != unix.SIGTRAP:
		_, _, _ = unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_LISTEN, uintptr(tid), 0, 0, 0, 0) // a stop by job control
		return
	case ws.TrapCause() == unix.PTRACE_EVENT_STOP: // of its birth
	case ws.TrapCause() > 0:
		t.born(tid, th, ws.TrapCause())
	case stop == unix.SIGTRAP:
	default:
		sig = int(stop)
	}
	t.proceed(tid, sig)
}

// born keeps the book of processes and their roles.
func (t *tracer) born(tid int, th *thread, cause int) {
	switch cause {
	case unix.PTRACE_EVENT_EXEC:
		// The thread that called exec has become its process's only one.
		for other, o := range t.threads {
			if o.process == tid && other != tid {
				delete(t.threads, other)
			}
		}
		th.process, th.inCall, th.execed = tid, true, true // exec's own exit stop follows
		if th.role = roleCommand; tid != t.command {
			th.role = roleOf(tid)
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
		if c.execed {
			return // it was faster than its parent's event
		}
		if cause == unix.PTRACE_EVENT_CLONE && sameProcess(th.process, child) {
			c.process, c.role = th.process, th.role
		} else {
			c.process, c.role = child, roleOther // until it executes something
		}
	}
}

// proceed lets a stopped thread run on, delivering a signal. Only where calls
// are counted does it stop at each.
func (t *tracer) proceed(tid, sig int) {
	th := t.threads[tid]
	if th != nil && th.role == t.target && !t.killed {
		_ = unix.PtraceSyscall(tid, sig)
		return
	}
	_ = unix.PtraceCont(tid, sig)
}

// roleOf tells what a process has just become.
func roleOf(pid int) role {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return roleOther
	}
	switch argv0, _, _ := bytes.Cut(data, []byte{0}); string(argv0) {
	case "cove-monitor":
		return roleMonitor
	case "cove-init":
		return roleInit
	}
	return roleOther
}

// sameProcess tells a new thread from a new process, which clone(2) both makes.
func sameProcess(pid, tid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(tid) + "/status")
	return err == nil && strings.Contains(string(data), "\nTgid:\t"+strconv.Itoa(pid)+"\n")
}

// trace runs a command in a tracing process. It gives how many system calls
// the process of the role made, or, when at is reached, was killed at.
func (s *scene) trace(target role, at int, argv ...string) (r result, count int, killed bool, err error) {
	running := 0
	if target == roleItsMonitor || target == roleItsInit {
		if running, err = s.running(target); err != nil {
			return r, 0, false, err
		}
	}
	read, write, err := os.Pipe()
	if err != nil {
		return r, 0, false, err
	}
	defer read.Close()
	self, err := os.Executable()
	if err != nil {
		return r, 0, false, err
	}
	uid := 0
	if s.user {
		uid = user.ID
	}
	cmd := exec.Command(self, append([]string{"trace", string(target), strconv.Itoa(at), strconv.Itoa(int(s.signal)), strconv.Itoa(running), strconv.Itoa(uid)}, s.argv(argv)...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	cmd.ExtraFiles = []*os.File{write}
	r = s.finish(cmd, write)
	var word string
	if _, err := fmt.Fscanf(read, "%s %d\n", &word, &count); err != nil {
		return r, 0, false, errors.Join(fmt.Errorf("the tracer died: %s", r), err)
	}
	return r, count, word == "killed", nil
}
