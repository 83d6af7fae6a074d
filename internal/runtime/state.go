package runtime

import (
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cove-engine/cove"
)

// State is a container's state as state and list print it: that of
// runtime-spec with what runc adds.
type State struct {
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	PID         int               `json:"pid"`
	Status      Status            `json:"status"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Owner       string            `json:"owner"`
}

// State tells of one container.
func (r *Runtime) State(id string) (State, error) {
	c, err := r.Open(id)
	if err != nil {
		return State{}, err
	}
	return c.State()
}

// State tells of the container.
func (c *Container) State() (State, error) {
	status, err := c.Status()
	if err != nil {
		return State{}, err
	}
	s := State{
		Version: c.OCIVersion, ID: c.ID, PID: c.PID, Status: status, Bundle: c.Bundle, Rootfs: c.Rootfs,
		Created: c.Created, Annotations: c.Notes, Owner: c.Owner,
	}
	if status == Stopped {
		s.PID = 0
	}
	return s, nil
}

// List tells of all containers of the root, by their IDs.
func (r *Runtime) List() ([]State, error) {
	entries, err := os.ReadDir(r.Root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, cove.E("list containers", r.Root, kindOf(err), err)
	}
	var all []State
	for _, e := range entries {
		if checkID(e.Name()) != nil || !e.IsDir() {
			continue
		}
		s, err := r.State(e.Name())
		if cove.Is(err, cove.NotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			r.warn(err.Error())
			continue
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b State) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}
