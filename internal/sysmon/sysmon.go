// Package sysmon calms the watcher thread of the Go runtime.
//
// While anything of a Go program runs, that thread sleeps 20 µs at a time,
// which with the kernel's timer slack of 50 µs is some 10,000 wake-ups a
// second, each of them a preemption on a busy machine: a tenth of the CPU time
// of a container's start, which four such programs share. A larger slack for
// that thread alone makes it coalesce its sleeps.
//
// What the thread is for (taking the processor of a goroutine that blocks in a
// system call, preempting one that runs for 10 ms, polling the network when
// nobody does) comes that much later, so only programs that live for
// milliseconds, or wait in one place, should ask for it.
//
// It is imported by the monitor's program: standard library and x/sys only.
package sysmon

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Calm sets the timer slack of every thread but the caller's
// (proc_pid_timerslack_ns(5)). It is meant for the first lines of main, when
// the runtime's own threads are the only others; threads made later inherit
// the slack of their makers. Where it is not permitted nothing changes.
func Calm(slack time.Duration) {
	fd, err := unix.Open("/proc/self/task", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var buf [1024]byte
	n, err := unix.ReadDirent(fd, buf[:])
	if err != nil {
		return
	}
	self := strconv.Itoa(unix.Gettid())
	value := strconv.AppendInt(nil, slack.Nanoseconds(), 10)
	_, _, names := unix.ParseDirent(buf[:n], -1, nil)
	for _, tid := range names {
		if tid == self {
			continue
		}
		// Below task there is no such file; a thread's number works as a
		// process's, though /proc does not list it.
		if f, err := unix.Open("/proc/"+tid+"/timerslack_ns", unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
			_, _ = unix.Write(f, value)
			_ = unix.Close(f)
		}
	}
}
