package procfs

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Drops tells whether a signal that comes from outside would be lost on a
// process: on the first one of a process namespace it is unless there is a
// handler or it is blocked, pid_namespaces(7), and that one may have just begun
// and be about to handle it. SIGKILL and SIGSTOP are never lost.
func Drops(pid int, sig unix.Signal) bool {
	if sig <= 0 || sig == unix.SIGKILL || sig == unix.SIGSTOP {
		return false
	}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return false
	}
	first, heard := false, false
	for line := range bytes.Lines(data) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		fields := bytes.Fields(value)
		if len(fields) == 0 {
			continue
		}
		last := string(fields[len(fields)-1])
		switch string(name) {
		case "NSpid": // its number in each namespace, the innermost last
			first = len(fields) > 1 && last == "1"
		case "SigBlk", "SigCgt":
			set, _ := strconv.ParseUint(last, 16, 64)
			heard = heard || set>>(sig-1)&1 != 0
		}
	}
	return first && !heard
}

// Executed tells whether a process has executed a program since it was forked;
// a process that is gone has.
func Executed(pid int) bool {
	const forkNoExec = 0x40 // PF_FORKNOEXEC of include/linux/sched.h
	fields, err := stat(pid)
	if err != nil {
		return true
	}
	flags, err := strconv.ParseUint(string(fields[6]), 10, 64)
	return err != nil || flags&forkNoExec == 0
}
