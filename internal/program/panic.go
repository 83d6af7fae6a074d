package program

import (
	"syscall"
	"unsafe"
)

// runtimeWrite is what the Go runtime writes its own messages by: those of
// println, of GODEBUG and of what it dies of. The runtime keeps it to be set.
//
//go:linkname runtimeWrite runtime.overrideWrite
var runtimeWrite func(fd uintptr, p unsafe.Pointer, n int32) int32

// panicBriefly has a panic, and what else the runtime dies of, end the program as
// any error does: with one line, and 125. The image libraries panic where a lock
// file cannot be opened, for want of descriptors, and in goroutines of their own,
// where nobody could recover.
func panicBriefly() { runtimeWrite = writeBriefly }

// panicAtLength is for who wants to see where.
func panicAtLength() { runtimeWrite = nil }

// dying is the line so far: the runtime writes it in pieces.
var (
	dying  [1024]byte
	length int
)

// writeBriefly passes on what the runtime writes, up to the end of the line that
// tells what it dies of. It runs wherever the runtime may be, without a stack to
// grow and without memory to be had. The runtime wakes its poller by the same door,
// when a timer is set that comes before the others: that must be written at once.
//
//go:nosplit
//go:norace
func writeBriefly(fd uintptr, p unsafe.Pointer, n int32) int32 {
	if fd != 2 {
		return put(fd, p, uintptr(n))
	}
	for i := range n {
		c := *(*byte)(unsafe.Add(p, i))
		if length < len(dying) {
			dying[length] = c
			length++
		}
		if c != '\n' {
			continue
		}
		if begins("panic: ") || begins("fatal error: ") || begins("runtime: ") {
			dying[length-1] = '\n' // a longer one is cut
			put(fd, unsafe.Pointer(unsafe.StringData("Error: ")), 7)
			put(fd, unsafe.Pointer(&dying), uintptr(length))
			_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 125, 0, 0)
		}
		put(fd, unsafe.Pointer(&dying), uintptr(length))
		length = 0
	}
	return n
}

//go:nosplit
//go:norace
func begins(with string) bool {
	for i := range len(with) {
		if i >= length || dying[i] != with[i] {
			return false
		}
	}
	return true
}

//go:nosplit
//go:norace
func put(fd uintptr, p unsafe.Pointer, n uintptr) int32 {
	written, _, err := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(p), n)
	if err != 0 {
		return -int32(err) // as the runtime's own
	}
	return int32(written)
}
