package runtime

import (
	"errors"
	"path"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
)

// cgroups are a container's cgroups before they are made.
type cgroups struct {
	layout cgroup.Layout
	set    cgroup.Set
	tasks  cgroup.Set // the limit of tasks, which init's own threads are not to meet
	path   string
	scope  *cgroup.Scope // systemd's, around init
	made   bool
}

// scoped is the cgroup within a scope that is ours: what lies in the scope's
// own, systemd resets.
const scoped = "container"

func (r *Runtime) planCgroups(s *specs.Spec, id string) (*cgroups, error) {
	layout, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	g := &cgroups{layout: layout}
	if r.Systemd {
		if !layout.Systemd() {
			return nil, cove.E("", "--systemd-cgroup", cove.Unsupported, errors.New("systemd does not manage cgroups of version 2 here"))
		}
		if g.scope, err = scopeOf(s.Linux.CgroupsPath, id); err != nil {
			return nil, err
		}
		g.path = path.Join(g.scope.Path(), scoped)
	} else if g.path = path.Clean("/" + s.Linux.CgroupsPath); g.path == "/" {
		g.path = "/cove-runtime/" + id
	}
	// An ordinary user's cgroups are below the one that is delegated to him: an
	// engine that knows which names it, others do not.
	if below, ok := strings.CutPrefix(g.path, layout.Base+"/"); ok {
		g.path = "/" + below
	}
	var warnings []string
	g.set, warnings, err = layout.SetAll(g.path, resources(s))
	if err != nil {
		return nil, err
	}
	g.set.Shared = true
	for _, w := range warnings {
		r.warn(w)
	}
	if g.scope != nil {
		g.set = g.set.Delegated()
		if g.scope.Shares, err = layout.Shares(s.Linux.Resources); err != nil {
			return nil, err
		}
	}
	g.tasks = g.set.Tasks()
	return g, nil
}

// resources are the spec's. A container without device rules gets what runc
// gives it, the devices that every container has.
func resources(s *specs.Spec) *specs.LinuxResources {
	all := specs.LinuxResources{}
	if s.Linux.Resources != nil {
		all = *s.Linux.Resources
	}
	if len(all.Devices) == 0 {
		all.Devices = []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	}
	return noTasks(&all, s.Version)
}

// noTasks words a limit of 0 tasks, which since version 1.3 of runtime-spec is one.
// For who is there already it is the same as 1, which runc sets, since systemd knows
// no 0. Before, it was what engines wrote who wanted none: podman did for -1.
func noTasks(r *specs.LinuxResources, version string) *specs.LinuxResources {
	if r.Pids == nil || r.Pids.Limit == nil || *r.Pids.Limit != 0 {
		return r
	}
	minor, _, _ := strings.Cut(strings.TrimPrefix(version, "1."), ".")
	if n, err := strconv.Atoi(minor); err != nil || n < 3 {
		return r
	}
	one, same := int64(1), *r
	same.Pids = &specs.LinuxPids{Limit: &one}
	return &same
}

// scopeOf reads "slice:prefix:name".
func scopeOf(text, id string) (*cgroup.Scope, error) {
	slice, prefix, name := "system.slice", "cove-runtime", id
	if text != "" {
		parts := strings.Split(text, ":")
		if len(parts) != 3 {
			return nil, invalid("linux.cgroupsPath: %q is not slice:prefix:name", text)
		}
		prefix, name = parts[1], parts[2]
		if parts[0] != "" {
			slice = parts[0]
		}
	}
	if !strings.HasSuffix(slice, ".slice") || strings.Contains(slice, "/") {
		return nil, invalid("linux.cgroupsPath: %q is not a slice", slice)
	}
	if strings.HasSuffix(name, ".slice") || strings.Contains(name+prefix, "/") {
		return nil, invalid("linux.cgroupsPath: %q is not the name of a scope", name)
	}
	if prefix != "" {
		name = prefix + "-" + name
	}
	return &cgroup.Scope{Name: name + ".scope", Slice: slice, Description: "container " + id}, nil
}

// make makes them with init inside, and without the limit of tasks.
func (g *cgroups) make(pid int) error {
	if g.scope != nil {
		g.scope.PID = pid
		if err := g.scope.Start(); err != nil {
			return err
		}
	}
	if g.scope == nil || len(g.set.Dirs) != 1 {
		if err := g.set.Make(); err != nil {
			return err
		}
		g.made = true
		return cgroup.Enter(g.set.Dirs, pid)
	}
	// systemd has put init into the scope's own cgroup, which with a member
	// cannot give controllers to ours: it waits beside until that is made.
	top := path.Dir(g.set.Dirs[0])
	if err := cgroup.Vacate(top, "init"); err != nil {
		return err
	}
	if err := g.set.Make(); err != nil {
		return err
	}
	g.made = true
	if err := cgroup.Enter(g.set.Dirs, pid); err != nil {
		return err
	}
	return cgroup.Remove([]string{top + "/init"})
}
