package sysmon

import "golang.org/x/sys/unix"

// kernelSlack is the timer slack that processes have by default, nanoseconds
// (prctl(2), PR_SET_TIMERSLACK).
const kernelSlack = 50_000

// Exact gives the calling thread the kernel's timer slack, for what is executed on it,
// or forked by it: it may have been made by a thread that is [Calm], and the sleeps of a
// container's command would be as late.
func Exact() error { return unix.Prctl(unix.PR_SET_TIMERSLACK, kernelSlack, 0, 0, 0) }
