package serve

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/coldjson"
	"github.com/cove-engine/cove/internal/interrupt/early"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/sysmon"
)

// Become is the life of the process that cove forks where conmon is the
// monitor: it waits in the monitors' cgroup, as one of ours would, until it is
// told how to become conmon. So it is known by its number and can be given a
// scope before there is anything that conmon could do. It does not return.
func Become() {
	closeBut(0)
	kind, body, fds, err := wire.Receive(control, make([]byte, wire.Max))
	if err != nil || kind != wire.Start {
		os.Exit(1) // called off
	}
	f := become(body, fds)
	_ = wire.SendJSON(control, wire.Failed, f)
	os.Exit(1)
}

func become(body []byte, fds []int) *wire.Failure {
	var b wire.Become
	if err := coldjson.Unmarshal(body, &b); err != nil || len(b.Args) == 0 {
		return wire.Fail("read the start", err)
	}
	if f := enterCgroups(b.Cgroups); f != nil {
		return f
	}
	// Out of the way first: one may have a number that another is to get.
	for i, fd := range fds {
		high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, wire.BecomeFD+len(fds))
		if err != nil {
			return wire.Fail("hand descriptors on", err)
		}
		_ = unix.Close(fd)
		fds[i] = high
	}
	for i, fd := range fds {
		if err := unix.Dup3(fd, wire.BecomeFD+i, 0); err != nil {
			return wire.Fail("hand descriptors on", err)
		}
	}
	if b.Member != 0 {
		// The kernel takes the lock away with any descriptor of the file that
		// this process closes, fcntl_locking(2): none of them is left to exec.
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		becomeMember(b.Member)
	}
	if err := sysmon.Exact(); err != nil {
		return wire.Fail("set timer slack", err)
	}
	// What is ignored stays so across exec, down to the container: an interrupt
	// where a shell has started us in the background.
	for s := unix.Signal(1); s < 32; s++ {
		early.Default(s)
	}
	return wire.Fail("run "+b.Args[0], unix.Exec(b.Args[0], b.Args, b.Env))
}
