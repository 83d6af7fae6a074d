package serve

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Before a monitor listens to signals (see signalsAfter) those that ask it to
// stop its container must neither end it nor be lost. The runtime can do
// neither at this price, so the kernel is given two instructions of our own
// that take note (early_*.s).

// noted is set when a signal has come early.
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

var earlySignals = [...]unix.Signal{unix.SIGTERM, unix.SIGINT}

// runtimes are the handlers that were there before.
var runtimes [len(earlySignals)]sigaction

// noteSignals begins to take note.
func noteSignals() {
	act := sigaction{handler: noteSignal, flags: saOnStack | saRestart, restorer: sigreturn}
	if sigreturn != 0 {
		act.flags |= saRestorer
	}
	for i, s := range earlySignals {
		setAction(s, &act, &runtimes[i])
	}
}

// signalNoted gives the signals back to the runtime and tells whether one has
// come.
func signalNoted() bool {
	for i, s := range earlySignals {
		setAction(s, &runtimes[i], nil)
	}
	return atomic.LoadUint32(&noted) != 0
}

func setAction(s unix.Signal, act, old *sigaction) {
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(act)), uintptr(unsafe.Pointer(old)), unsafe.Sizeof(act.mask), 0, 0)
}
