package engine

import (
	"errors"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
)

// cgroupParent holds the cgroups of all containers, monitorCgroup the
// monitors, runtimeCgroup what cove-runtime was asked for without a place, under
// the root of each hierarchy.
const (
	cgroupParent  = "/cove"
	monitorCgroup = "/cove-monitor"
	runtimeCgroup = "/cove-runtime"
)

// The cgroup managers, in containers.conf's words.
const (
	cgroupfs = "cgroupfs"
	systemd  = "systemd"
)

// cgroupManager is that of containers made from now on. systemd, which is the
// default wherever it runs, is asked where it can delegate: by root, with
// cgroup version 2.
func (e *Engine) cgroupManager() string {
	if e.conf.File.Engine.CgroupManager == systemd {
		if layout, err := e.cgroups(); err == nil && layout.Systemd() {
			return systemd
		}
	}
	return cgroupfs
}

// cgroupsManaged chooses the manager and refuses a parent that is not of its
// kind, in podman's words.
func (d *draft) cgroupsManaged() error {
	d.c.CgroupManager = d.e.cgroupManager()
	if d.c.CgroupManager == cgroupfs && d.e.conf.File.Engine.CgroupManager == systemd && !d.e.conf.Rootless && !exists("/run/systemd/system") {
		// Without systemd it is no default: somebody has asked for it.
		d.warnings = append(d.warnings, "The cgroup manager is set to systemd but there is no systemd running. Using --cgroup-manager=cgroupfs")
	}
	parent := d.c.Spec.CgroupParent
	slice := strings.HasSuffix(path.Base(parent), ".slice")
	switch {
	case parent == "":
	case d.c.CgroupManager == systemd && !slice:
		return cove.E("create container", "", cove.Invalid, errors.New("did not receive systemd slice as cgroup parent when using systemd to manage cgroups: invalid argument"))
	case d.c.CgroupManager == cgroupfs && slice:
		return cove.E("create container", "", cove.Invalid, errors.New("systemd slice received as cgroup parent when using cgroupfs: invalid argument"))
	}
	return nil
}

// scopeOf is the container's unit under systemd. Its cgroup has two below it,
// for the monitor and for the container.
func scopeOf(c *cove.Container) cgroup.Scope {
	s := cgroup.Scope{Name: scopeName(c.ID), Slice: "machine.slice", Description: "cove container " + c.ID}
	if c.Spec.CgroupParent != "" {
		s.Slice = path.Base(c.Spec.CgroupParent)
	}
	return s
}

func scopeName(id string) string { return "cove-" + id + ".scope" }

// startScope makes the container's scope around its monitor. conmon's exit command,
// which starts a container anew, is in the scope of the run before, and so is what
// it forks: that scope stays, or it would wait for its own end.
func (e *Engine) startScope(c *cove.Container, layout cgroup.Layout, monitor int) error {
	s := scopeOf(c)
	if s.Inside() {
		return nil
	}
	s.PID, s.StopTimeout = monitor, time.Duration(e.stopTimeout(c)+10)*time.Second
	if err := s.Start(); err != nil {
		return err
	}
	// init may have been forked in between.
	return cgroup.Vacate(layout.Mount+s.Path(), monitorName)
}

const monitorName = "monitor"

// cgroupPath is the container's cgroup, from the root of its hierarchies.
func cgroupPath(c *cove.Container) string {
	if c.CgroupManager == systemd {
		return scopeOf(c).Path() + "/container"
	}
	parent := c.Spec.CgroupParent
	if parent == "" {
		parent = cgroupParent
	}
	return path.Join("/", parent, c.ID)
}

// shownCgroup is the one that inspect shows: of a scope, the scope.
func shownCgroup(c *cove.Container) string {
	if c.CgroupManager == systemd {
		return scopeOf(c).Path()
	}
	return cgroupPath(c)
}

// cgroupDirs are the directories of the container's cgroup, one in each
// hierarchy.
func (e *Engine) cgroupDirs(c *cove.Container) ([]string, error) {
	layout, err := e.cgroups()
	if err != nil {
		return nil, err
	}
	set, _, err := layout.Set(cgroupPath(c), &specs.LinuxResources{})
	return set.Dirs, err
}

// needsCgroup refuses what an ordinary user cannot do where no cgroup is his,
// in podman's words.
func (e *Engine) needsCgroup(verb string) error {
	layout, err := e.cgroups()
	switch {
	case err != nil:
		return err
	case !e.conf.Rootless || layout.Writable && layout.Unified:
		return nil
	case verb == "stats":
		err = errors.New("stats is not supported in rootless mode without cgroups v2")
	default:
		err = errors.New(verb + " is not supported for cgroupv1 rootless containers")
	}
	if layout.Unified {
		err = errors.New(verb + " needs a cgroup, and none is delegated to this user")
	}
	return cove.E("", "", cove.Unsupported, err)
}
