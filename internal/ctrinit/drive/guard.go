package drive

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/plan"
)

// A container that conmon's runtime has created waits to be started, and
// nothing of conmon's ends it if cove is killed before. A guard does, a process
// that lives from there to the start: at cove's word it has the runtime start the
// container, which is then independent of cove, without it it ends what there is.

const guardName = "cove-guard"

// The descriptors of a guard beside control.
const (
	guardConmon = 4 // pidfds
	guardInit   = 5
	guardFile   = 6 // locked for its life
)

// post starts the guard and gives a descriptor of its process, for cove to see
// its end: the socket stays open in conmon.
func (d *driver) post(init int) (guard int, f *wire.Failure) {
	const step = "start the start's guard"
	pidfd, err := unix.PidfdOpen(init, 0)
	if err != nil {
		return -1, wire.Fail(step, err)
	}
	defer unix.Close(pidfd)
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, wire.Fail(step, err)
	}
	defer unix.Close(null)
	file, err := unix.Openat(d.dir, plan.GuardFile, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, wire.Fail(step, err)
	}
	defer unix.Close(file)
	if err := unix.Flock(file, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return -1, wire.Fail(step, err)
	}
	n := uintptr(null)
	pid, err := syscall.ForkExec("/proc/self/exe", append([]string{guardName, d.ID, strconv.Itoa(init), d.Dir}, d.Runtime...), &syscall.ProcAttr{
		Dir: "/", Env: os.Environ(),
		Files: []uintptr{n, n, n, control, uintptr(d.conmon), uintptr(pidfd), uintptr(file)},
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &guard},
	})
	if err != nil {
		return -1, wire.Fail(step, err)
	}
	// For who wants to call the start off, by SIGTERM.
	if _, err := unix.Pwrite(file, []byte(strconv.Itoa(pid)), 0); err != nil {
		_ = unix.PidfdSendSignal(guard, unix.SIGKILL, nil, 0)
		return -1, wire.Fail(step, err)
	}
	return guard, nil
}

// IsGuard tells whether a command line is that of a container's guard.
func IsGuard(argv []string, id string) bool {
	return len(argv) > 1 && argv[0] == guardName && argv[1] == id
}

// Guard is the whole life of a guard; it does not return. Its caller has locked
// the main thread. args are the container's ID, its process, its bundle and the
// runtime with its global arguments.
func Guard(args []string) {
	if len(args) < 4 {
		os.Exit(125)
	}
	for fd := control; fd <= guardFile; fd++ {
		unix.CloseOnExec(fd)
	}
	calledOff, err := terminated()
	if err != nil || !conmonWaits(calledOff) {
		endStart()
		os.Exit(1)
	}
	buf := make([]byte, wire.Max)
	kind, _, _, err := wire.Receive(control, buf)
	switch {
	case err != nil:
		endStart()
	case kind == wire.Go:
		exe := "/proc/" + args[1] + "/exe"
		if runtime, err := os.Stat(exe); err == nil {
			go letGoWhenRun(exe, runtime)
		}
		start := request{
			runtime: args[3:], dir: args[2], name: "start", args: []string{args[0]}, limit: patience,
			until: []unix.PollFd{{Fd: int32(calledOff), Events: unix.POLLIN}},
			lets:  newWaiting(guardInit, args[2], args[0]),
		}
		if f := start.do(); f != nil {
			_ = wire.SendJSON(control, wire.Failed, f)
			if _, _, _, err := wire.Receive(control, buf); err != nil {
				endStart() // cove has not come to it
			}
			break
		}
		if pid, err := strconv.Atoi(args[1]); err == nil {
			awaitExec(pid)
		}
		_ = wire.SendJSON(control, wire.Started, wire.StartedBody{})
	}
	os.Exit(0)
}

// letGoWhenRun gives the lock up when the container's process is no longer the
// runtime's but the command: that is started then, whatever time the runtime
// takes for poststart hooks.
func letGoWhenRun(exe string, runtime os.FileInfo) {
	for {
		time.Sleep(2 * time.Millisecond)
		now, err := os.Stat(exe)
		if err == nil && os.SameFile(runtime, now) {
			continue
		}
		if err == nil {
			_ = unix.Flock(guardFile, unix.LOCK_UN)
		}
		return
	}
}

// terminated gives a descriptor that is readable from the first SIGTERM on.
func terminated() (int, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return -1, err
	}
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, unix.SIGTERM)
	go func() {
		<-ch
		_ = unix.Close(p[1])
	}()
	return p[0], nil
}

// conmonWaits returns when cove has something to say, or is gone; false when
// conmon has ended before, with which the start has failed, or it was called off.
func conmonWaits(calledOff int) bool {
	polled := []unix.PollFd{{Fd: guardConmon, Events: unix.POLLIN}, {Fd: int32(calledOff), Events: unix.POLLIN}, {Fd: control, Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(polled, -1)
		if err != unix.EINTR {
			return polled[0].Revents == 0 && polled[1].Revents == 0
		}
	}
}

// endStart ends conmon, so that it tells no exit of what never ran, and the
// container's process.
func endStart() {
	for _, fd := range []int{guardConmon, guardInit} {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
}
