package engine

import (
	"path"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove"
)

// cgroupParent holds the cgroups of all containers, monitorCgroup the
// monitors, under the root of each hierarchy.
const (
	cgroupParent  = "/cove"
	monitorCgroup = "/cove-monitor"
)

// cgroupPath is the container's cgroup, from the root of its hierarchies.
func cgroupPath(c *cove.Container) string {
	parent := c.Spec.CgroupParent
	if parent == "" {
		parent = cgroupParent
	}
	return path.Join("/", parent, c.ID)
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
