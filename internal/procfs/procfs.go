// Package procfs reads what proc(5) says of a process, and which boot this is.
//
// It is imported by the monitor's program: standard library and x/sys only.
package procfs

import (
	"bytes"
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// StartTime is when a process was started, in clock ticks since boot: field
// 22 of /proc/PID/stat, proc_pid_stat(5). With it a pid that was used again
// is told from the one that was meant.
func StartTime(pid int) (uint64, error) {
	_, start, err := Look(pid)
	return start, err
}

// Open gives a descriptor of the process that was started then, pidfd_open(2);
// ESRCH when it is gone, be its number another one's by now.
func Open(pid int, start uint64) (pidfd int, err error) {
	pidfd, err = unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, err
	}
	// After the opening: what is held by it keeps its number.
	if now, err := StartTime(pid); err != nil || now != start {
		_ = unix.Close(pidfd)
		return -1, unix.ESRCH
	}
	return pidfd, nil
}

// Lives tells whether the process that was started then has not ended. A thread
// of it is enough.
func Lives(pid int, start uint64) bool {
	pidfd, err := Open(pid, start)
	if err != nil {
		return false
	}
	defer unix.Close(pidfd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0)
	return n == 0 || err != nil
}

// Ending tells whether a process has ended or is just ending: its memory is
// gone. That is so before a descriptor of it tells, which the first process of
// a process namespace's does when all others are reaped.
func Ending(pid int) bool {
	memory, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	return err != nil || bytes.HasPrefix(memory, []byte("0 "))
}

// Look gives a process's state, a letter of proc_pid_stat(5), and its
// [StartTime].
func Look(pid int) (state byte, start uint64, err error) {
	fields, err := stat(pid)
	if err != nil {
		return 0, 0, err
	}
	start, err = strconv.ParseUint(string(fields[19]), 10, 64)
	return fields[0][0], start, err
}

// Parent is a process's parent, 0 when it is gone.
func Parent(pid int) int {
	fields, err := stat(pid)
	if err != nil {
		return 0
	}
	parent, _ := strconv.Atoi(string(fields[1]))
	return parent
}

// stat gives the fields of /proc/PID/stat from the third one on.
func stat(pid int) ([][]byte, error) {
	name := "/proc/" + strconv.Itoa(pid) + "/stat"
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	// The command's name may hold anything; fields count from its end.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 20 {
		return nil, errors.New(name + " is cut short")
	}
	return fields, nil
}
