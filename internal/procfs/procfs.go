// Package procfs reads what proc(5) says of a process.
//
// It is imported by the monitor's program: standard library only.
package procfs

import (
	"bytes"
	"errors"
	"os"
	"strconv"
)

// StartTime is when a process was started, in clock ticks since boot: field
// 22 of /proc/PID/stat, proc_pid_stat(5). With it a pid that was used again
// is told from the one that was meant.
func StartTime(pid int) (uint64, error) {
	_, start, err := Look(pid)
	return start, err
}

// Look gives a process's state, a letter of proc_pid_stat(5), and its
// [StartTime].
func Look(pid int) (state byte, start uint64, err error) {
	name := "/proc/" + strconv.Itoa(pid) + "/stat"
	data, err := os.ReadFile(name)
	if err != nil {
		return 0, 0, err
	}
	// The command's name may hold anything; fields count from its end.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 20 {
		return 0, 0, errors.New(name + " is cut short")
	}
	start, err = strconv.ParseUint(string(fields[19]), 10, 64)
	return fields[0][0], start, err
}
