package ctrinit

import (
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// plainSignals gives the container's process no say of whoever started it in
// what it does with signals: exec keeps what is ignored and what is blocked,
// signal(7), and under nohup(1) a shell could not even trap SIGHUP. The Go
// runtime leaves alone the signals below, the last three are threading
// libraries'; for all others it has handlers, which exec ends. They end here
// where all is asked for: a process that is no Go program but a copy of one is
// to wait for its exec.
func plainSignals(all bool) {
	type action [4]uint64 // of nothing but zeros: SIG_DFL, no flags, no mask
	const setSize, setMask = 8, 2
	left := []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGTSTP, unix.SIGCONT, unix.SIGTTIN, unix.SIGTTOU, 32, 33, 34}
	for sig := unix.Signal(1); sig <= 64; sig++ {
		if all || slices.Contains(left, sig) {
			_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(new(action))), 0, setSize, 0, 0)
		}
	}
	none := uint64(0)
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&none)), 0, setSize, 0, 0)
}
