package spec

import (
	"path"
	"slices"
	"strings"

	"github.com/cove-engine/cove"
)

// systemdSignal asks a systemd to shut down: systemd(1).
const systemdSignal = "SIGRTMIN+3"

// Systemd settles, for good, whether c is made for a systemd: always when that
// was asked for, else by its command, as podman-run(1) has it under --systemd.
// Such a container is stopped by the signal that systemd knows.
func Systemd(c *cove.Container) error {
	switch strings.ToLower(c.Spec.Systemd) {
	case "false":
	case "always":
		if c.Spec.Init {
			return invalid("cannot use container-init binary with systemd=always")
		}
		c.Systemd = true
	case "", "true":
		c.Systemd = !c.Spec.Init && isSystemd(command(c))
	default:
		return invalid(`invalid config provided: --systemd values must be one of "true, false, always": invalid configuration`)
	}
	if c.Systemd && c.Image.StopSignal == "" && c.Spec.StopSignal == "" {
		c.Spec.StopSignal = systemdSignal
	}
	return nil
}

// isSystemd tells it of a command, also of one below the shell that builders put
// before it.
func isSystemd(args []string) bool {
	if len(args) > 2 && args[0] == "/bin/sh" && args[1] == "-c" {
		args = args[2:]
	}
	return len(args) > 0 && (path.Base(args[0]) == "systemd" ||
		slices.Contains([]string{"/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init"}, args[0]))
}

// systemd refuses what systemd ends at, where it was asked for by name.
func (b *builder) systemd() error {
	if strings.EqualFold(b.in.Systemd, "always") && !b.dividesCgroup() {
		return unsupported("--systemd=always needs cgroup version 2, and a cgroup and a cgroup namespace of the container's own")
	}
	return nil
}

// dividesCgroup tells that the container may make cgroups below its own, which is
// safe where it sees no other and the kernel keeps it from its own limits: in
// version 2 with a namespace (and nsdelegate, with which systemd mounts it).
func (b *builder) dividesCgroup() bool {
	return b.c.Systemd && b.host.OwnCgroup && b.modes.cgroup.is("private")
}
