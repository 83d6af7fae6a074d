// Package early takes note of signals before a program listens to them: that
// costs a goroutine and a thread, more than many a command and many a container's
// monitor takes in its whole life. Until then the signals must neither end the
// program nor be lost. The runtime can do neither at this price, so the kernel is
// given two instructions of our own that take note (early_*.s).
//
// It is imported by the monitor's program: standard library and x/sys only.
package early

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// noted is the last signal that has come early.
var noted uint32

// noteSignal and sigreturn are addresses: of the handler, and of what the
// kernel has it return to where that is the program's business.
var noteSignal, sigreturn uintptr

// sigaction is the kernel's struct, sigaction(2).
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

const (
	saRestorer = 0x04000000
	saOnStack  = 0x08000000 // goroutines' stacks are small, the runtime has others
	saRestart  = 0x10000000
)

// runtimes are the handlers that were there before, under mu.
var (
	mu       sync.Mutex
	runtimes = map[unix.Signal]sigaction{}
)

// Note begins to take note of a signal. An exec ends that, so who is about to
// needs [End] before.
func Note(s unix.Signal) {
	mu.Lock()
	defer mu.Unlock()
	act := sigaction{handler: noteSignal, flags: saOnStack | saRestart, restorer: sigreturn}
	if sigreturn != 0 {
		act.flags |= saRestorer
	}
	var before sigaction
	setAction(s, &act, &before)
	runtimes[s] = before
}

// Noted gives the last signal that has come, 0 for none.
func Noted() unix.Signal { return unix.Signal(atomic.LoadUint32(&noted)) }

// End gives the signals back to the runtime, which somebody may have asked for them
// by now, and tells the last one that has come, 0 for none or when it was told.
func End() unix.Signal {
	mu.Lock()
	defer mu.Unlock()
	for s, before := range runtimes {
		setAction(s, &before, nil)
		delete(runtimes, s)
	}
	return unix.Signal(atomic.SwapUint32(&noted, 0))
}

// Default has a signal do what it does to a program that says nothing of it, also
// beyond an exec.
func Default(s unix.Signal) { setAction(s, &sigaction{}, nil) }

func setAction(s unix.Signal, act, old *sigaction) {
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(act)), uintptr(unsafe.Pointer(old)), unsafe.Sizeof(act.mask), 0, 0)
}
