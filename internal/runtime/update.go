package runtime

import (
	"encoding/json"
	"path"
	"reflect"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove/internal/cgroup"
)

// Update changes a container's limits to those that are given. Device rules stay as
// they are, as runc's do.
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
	if len(limits.Devices) > 0 {
		// An engine sends the spec's whole section.
		if !c.hasDevices(limits.Devices) {
			r.warn("linux.resources.devices: stay as they are")
		}
		others := *limits
		others.Devices, limits = nil, &others
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

// hasDevices tells whether these device rules are those of the container's spec.
func (c *Container) hasDevices(rules []specs.LinuxDeviceCgroup) bool {
	data, _, err := readConfig(c.Bundle)
	if err != nil {
		return false
	}
	var s specs.Spec
	return json.Unmarshal(data, &s) == nil && s.Linux != nil && s.Linux.Resources != nil && reflect.DeepEqual(s.Linux.Resources.Devices, rules)
}
