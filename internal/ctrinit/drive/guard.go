package drive

import (
	"os"
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
	_, err = syscall.ForkExec("/proc/self/exe", append([]string{guardName, d.ID, strconv.Itoa(init), d.Dir}, d.Runtime...), &syscall.ProcAttr{
		Dir: "/", Env: os.Environ(),
		Files: []uintptr{n, n, n, control, uintptr(d.conmon), uintptr(pidfd), uintptr(file)},
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &guard},
	})
	if err != nil {
		return -1, wire.Fail(step, err)
	}
	return guard, nil
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
	if !conmonWaits() {
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
		if f := Call(args[3:], args[2], "start", []string{args[0]}, patience); f != nil {
			_ = wire.SendJSON(control, wire.Failed, f)
			if _, _, _, err := wire.Receive(control, buf); err != nil {
				endStart() // cove has not come to it
			}
			break
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

// conmonWaits returns when cove has something to say, or is gone; false when
// conmon has ended before, with which the start has failed.
func conmonWaits() bool {
	polled := []unix.PollFd{{Fd: guardConmon, Events: unix.POLLIN}, {Fd: control, Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(polled, -1)
		if err != unix.EINTR {
			return polled[0].Revents == 0
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
