package engine

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"reflect"
	"slices"
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
	if m := d.e.conf.File.Engine.CgroupManager; m != "" && m != cgroupfs && m != systemd {
		return cove.E("", "", cove.Invalid, fmt.Errorf("unsupported Cgroup manager: %s - cannot validate cgroup parent: invalid argument", m))
	}
	d.c.CgroupManager = d.e.cgroupManager()
	if err := d.cgroupsMade(); err != nil {
		return err
	}
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

// The values of containers.conf's cgroups, and of --cgroups.
const (
	cgroupsEnabled   = "enabled"
	cgroupsDisabled  = "disabled"
	cgroupsNoMonitor = "no-conmon"
	cgroupsSplit     = "split"
)

// cgroupsMade settles which cgroups are made, and refuses what goes together
// with none in podman's words. A scope of systemd's is made around the
// container's monitor, so that one that is to stay where it is has none.
func (d *draft) cgroupsMade() error {
	s := &d.c.Spec
	if len(s.Resources.CgroupConf) > 0 {
		if err := d.unified("--cgroup-conf"); err != nil {
			return err
		}
	}
	bad := func(why string) error { return cove.E("", "", cove.Invalid, errors.New(why+": invalid argument")) }
	s.Cgroups = cmp.Or(s.Cgroups, d.e.conf.File.Containers.Cgroups)
	switch s.Cgroups {
	case "", cgroupsEnabled:
		s.Cgroups = ""
		return nil
	case cgroupsNoMonitor:
	case cgroupsDisabled:
		switch name := path.Base(s.Runtime); {
		case s.CgroupParent != "":
			return bad("cannot set cgroup parent if not creating cgroups")
		case s.Runtime != "" && !slices.Contains(d.e.conf.File.Engine.RuntimeSupportsNoCgroups.Get(), name):
			return bad("requested OCI runtime " + name + " is not compatible with NoCgroups")
		case s.Runtime == "" && s.Monitor != "":
			return cove.E("create container", s.Name, cove.Unsupported, errors.New("--cgroups=disabled with conmon as the monitor and cove's own OCI runtime is not supported by cove yet"))
		case limited(&s.Resources):
			d.warnings = append(d.warnings, "Limits need a cgroup, and --cgroups=disabled makes none. Limits discarded")
		}
	case cgroupsSplit:
		if s.CgroupParent != "" {
			return bad("cannot specify --cgroup-mode=split with a cgroup-parent")
		}
		if err := d.unified("--cgroups=split"); err != nil {
			return err
		}
	default:
		return cove.E("running container create option", "", cove.Invalid, fmt.Errorf("invalid cgroup mode %q: invalid argument", s.Cgroups))
	}
	d.c.CgroupManager = cgroupfs
	return nil
}

// unified refuses, on a host with version 1, a flag that needs version 2.
func (d *draft) unified(flag string) error {
	layout, err := d.e.cgroups()
	if err == nil && !layout.Unified {
		err = cove.E("create container", d.c.Spec.Name, cove.Unsupported, errors.New(flag+" needs cgroup version 2"))
	}
	return err
}

// limited tells whether a limit was asked for.
func limited(r *cove.Resources) bool { return !reflect.ValueOf(*r).IsZero() }

// splitCgroup divides the caller's cgroup for a run, as podman does: what is in it
// goes into one below it, since a cgroup with members passes on no controllers.
func (l *launch) splitCgroup() error {
	if l.c.Spec.Cgroups != cgroupsSplit {
		return nil
	}
	layout, err := l.e.cgroups()
	if err != nil {
		return err
	}
	own, err := layout.Own()
	if err != nil {
		return err
	}
	if path.Base(own) == callersName { // divided already
		own = path.Dir(own)
	}
	if own == "/" {
		return cove.E("start container", l.c.Name, cove.Unsupported, errors.New("--cgroups=split in the root cgroup, which cannot be divided"))
	}
	if err := cgroup.Vacate(layout.Mount+layout.Base+own, callersName); err != nil {
		return err
	}
	l.c.CallerCgroup = own
	return nil
}

// The cgroups of a caller's that was divided, beside the container's.
const (
	callersName    = "runtime"
	supervisorName = "supervisor"
)

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
func (e *Engine) startScope(c *cove.Container, layout cgroup.Layout, shares cgroup.Shares, monitor int) error {
	s := scopeOf(c)
	if s.Inside() {
		return nil
	}
	s.PID, s.StopTimeout, s.Shares = monitor, time.Duration(e.stopTimeout(c)+10)*time.Second, shares
	if err := s.Start(); err != nil {
		return err
	}
	// init may have been forked in between.
	return cgroup.Vacate(layout.Mount+s.Path(), monitorName)
}

const monitorName = "monitor"

// cgroupPath is the container's cgroup, from the root of its hierarchies.
// "" where it is to have none, or had no run yet that tells where.
func cgroupPath(c *cove.Container) string {
	if c.CgroupManager == systemd {
		return scopeOf(c).Path() + "/container"
	}
	switch c.Spec.Cgroups {
	case cgroupsDisabled:
		return ""
	case cgroupsSplit:
		if c.CallerCgroup == "" {
			return ""
		}
		return path.Join(c.CallerCgroup, c.ID)
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
	set, _, err := layout.Under(c.CgroupBase).Set(cgroupPath(c), &specs.LinuxResources{})
	return set.Dirs, err
}

// hasCgroup refuses what cannot be done to a container without a cgroup, in
// podman's words.
func (e *Engine) hasCgroup(c *cove.Container, verb string) error {
	if c.Spec.Cgroups == cgroupsDisabled {
		return cove.E("", "", cove.Unsupported, fmt.Errorf("cannot %s without using Cgroups: this container does not have a cgroup", verb))
	}
	return e.needsCgroup(verb)
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
