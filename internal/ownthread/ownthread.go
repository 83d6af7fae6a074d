// Package ownthread runs what does not leave its thread as it was, as who enters
// another namespace.
//
// It is linked into the monitor: standard library and x/sys only.
package ownthread

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Run calls f on a thread that ends with it, and gives what f does. An f that has
// put everything back may leave the thread to others, by [runtime.UnlockOSThread].
//
// The thread is never the process's first. The Go runtime cannot end that one: it
// would stay and keep what it has entered; and it alone is what /proc/self shows,
// where everybody looks for our namespaces.
func Run[T any](f func() (T, error)) (result T, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			result, err = Run(f) // while the first is taken here, another is used
			return
		}
		result, err = f()
	}()
	<-done
	return result, err
}
