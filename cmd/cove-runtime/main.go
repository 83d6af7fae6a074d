// Command cove-runtime is an OCI runtime: docker, containerd, podman and CRI-O
// run containers with it in place of runc, whose command line it has.
package main

import (
	"os"
	stdruntime "runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/ctrinit"
	"github.com/cove-engine/cove/internal/rootless"
	"github.com/cove-engine/cove/internal/runtime"
	"github.com/cove-engine/cove/internal/sysmon"
)

// Only a lock taken during initialisation keeps main on the process's main
// thread (package runtime): the one whose credentials and namespaces exec
// keeps, and in whose name children are cloned into namespaces.
func init() { stdruntime.LockOSThread() }

func main() {
	sysmon.Calm(5 * time.Millisecond)
	switch {
	case (os.Args[0] == runtime.InitName || os.Args[0] == runtime.CloneName) && len(os.Args) > 1:
		socket, err := strconv.Atoi(os.Args[1])
		if err != nil {
			break
		}
		if err := rootless.Joined(); err != nil {
			ctrinit.Refuse(socket, err)
		}
		if os.Args[0] == runtime.CloneName {
			runtime.CloneWithin(socket, os.Args[2:])
		}
		ctrinit.Runtime(socket)
	case os.Args[0] == runtime.MapName:
		runtime.HoldMap()
	}
	inherited := inherits()
	// What the caller has left open is for nobody but who is promised it.
	_ = unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC)
	os.Exit(run(os.Args[1:], inherited, os.Stdout, os.Stderr))
}

// inherits counts the descriptors from 3 on that the caller has left open. What
// comes after a gap is not counted: the gap may be filled by now, with what is ours
// and closed by exec.
func inherits() (n int) {
	for {
		flags, err := unix.FcntlInt(uintptr(3+n), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			return n
		}
		n++
	}
}
