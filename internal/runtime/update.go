package runtime

import (
	"path"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove/internal/cgroup"
)

// Update changes a container's limits to those that are given.
func (r *Runtime) Update(id string, limits *specs.LinuxResources) error {
	c, err := r.Open(id)
	if err != nil {
		return err
	}
	status, err := c.Status()
	if err != nil {
		return err
	}
	if status == Stopped || status == Creating {
		return errNotRunning()
	}
	layout, err := cgroup.Detect()
	if err != nil {
		return err
	}
	set, warnings, err := layout.SetAll(c.CgroupPath, noTasks(limits, c.OCIVersion))
	if err != nil {
		return err
	}
	for _, w := range warnings {
		r.warn(w)
	}
	if _, err := c.all(); err != nil {
		return err
	}
	if err := set.Apply(); err != nil {
		if !c.alive() {
			return errNotRunning()
		}
		return err
	}
	at := path.Dir(c.CgroupPath)
	if !layout.Systemd() || path.Base(c.CgroupPath) != scoped || path.Ext(at) != ".scope" {
		return nil
	}
	scope := cgroup.Scope{Name: path.Base(at)}
	if scope.Shares, err = layout.Shares(limits); err != nil {
		return err
	}
	return scope.Share()
}
