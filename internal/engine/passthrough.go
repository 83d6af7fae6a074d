package engine

import (
	"errors"
	"fmt"

	"golang.org/x/term"

	"github.com/cove-engine/cove"
)

// The log drivers passthrough and passthrough-tty keep no log: the container's
// standard streams are those of the process that starts it. The monitor keeps
// them for the runs that follow by the restart policy; conmon does not.

func passthrough(driver string) bool { return driver == "passthrough" || driver == "passthrough-tty" }

// through tells whether the container has streams that are not its monitor's to
// copy. With a terminal it has its own, whose output is nobody's.
func (l *launch) through() bool {
	return passthrough(l.e.logDriver(l.c)) && !l.c.Spec.Terminal
}

// stdio are the streams that its monitor is started with; nil for none.
func (l *launch) stdio() []uintptr {
	if !l.through() || l.unasked {
		return nil
	}
	return []uintptr{0, 1, 2}
}

// refuseTerminal keeps a container from putting characters into the input of
// the caller's terminal (TIOCSTI).
func refuseTerminal(driver string) error {
	if driver != "passthrough" {
		return nil
	}
	for fd := range 3 {
		if term.IsTerminal(fd) {
			return cove.E("", "", cove.Invalid, errors.New("the '--log-driver passthrough' option cannot be used on a TTY.  If you really want it, use '--log-driver passthrough-tty'"))
		}
	}
	return nil
}

// UnitLabel is the label with the unit of systemd that has made a container, and the
// variable by which that unit tells us so.
const UnitLabel = "PODMAN_SYSTEMD_UNIT"

// unitEntries are what the journal's entries of a unit's container have, whose
// streams are the unit's; nil when it has no such unit. Its processes are told by
// their cgroup, since the unit's own entries are cove's too, and by the stream:
// events are entries of the monitor's, in the same scope.
func (e *Engine) unitEntries(c *cove.Container, driver string) []string {
	if !passthrough(driver) || c.Spec.Labels[UnitLabel] == "" {
		return nil
	}
	const stream = "_TRANSPORT=stdout"
	if c.CgroupManager == systemd {
		return []string{stream, "_SYSTEMD_UNIT=" + scopeName(c.ID)}
	}
	layout, err := e.cgroups()
	if err != nil || !layout.Unified { // the journal knows systemd's own hierarchy alone
		return nil
	}
	return []string{stream, "_SYSTEMD_CGROUP=" + layout.Under(c.CgroupBase).Base + cgroupPath(c)}
}

// noOutput is why the log of a container cannot be read, or nobody attach to it;
// nil when they can.
func noOutput(driver, what string) error {
	if driver != "none" && !passthrough(driver) {
		return nil
	}
	return cove.E("", "", cove.Unsupported, fmt.Errorf("this container is using the '%s' log driver, cannot %s: this container is not logging output", driver, what))
}
