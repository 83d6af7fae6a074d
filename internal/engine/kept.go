package engine

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// A command may be given descriptors of the process that calls us, under their own
// numbers (--preserve-fds). The first run's alone: nobody has them later, and the
// monitor keeps none, or whoever has the other end would wait for it.

// Inherited tells whether a descriptor was open when this process began: all others
// are closed on exec.
func Inherited(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC == 0
}

func (l *launch) checkKept() error {
	if l.listen != nil && (l.c.Spec.Init || isForeign(l.c)) {
		// Nobody has asked for it: the unit may do without.
		l.keep, l.listen = nil, nil
		l.warnings = append(l.warnings, "systemd's sockets (LISTEN_FDS) are not passed on: cove does not support that yet with --init, another OCI runtime or conmon")
	}
	if len(l.keep) > 0 && l.c.Spec.Init {
		return cove.E("", "", cove.Unsupported, errors.New("--preserve-fds with --init is not supported by cove yet"))
	}
	return checkKept(l.c, l.keep)
}

// checkKept refuses descriptors that a container's command cannot be given.
func checkKept(c *cove.Container, keep []int) error {
	switch {
	case len(keep) == 0:
		return nil
	case isForeign(c):
		return cove.E("", "", cove.Unsupported, errors.New("--preserve-fds is not supported by cove with another OCI runtime or conmon yet"))
	case !wire.Keepable(keep):
		return cove.E("", "", cove.Invalid, fmt.Errorf("descriptors to preserve must be different ones from 3 to %d: invalid argument", wire.MaxKept))
	}
	return nil
}

// keptBehind is how many descriptors behind the standard streams init leaves open.
func keptBehind(keep []int) int {
	if len(keep) == 0 {
		return 0
	}
	return slices.Max(keep) - 2
}
