package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
	"github.com/cove-engine/cove/internal/plan"
	"github.com/cove-engine/cove/internal/procfs"
)

// recordVersion is that of the record's form.
const recordVersion = 1

// record is state.json.
type record struct {
	Version    int               `json:"version"`
	ID         string            `json:"id"`
	OCIVersion string            `json:"ociVersion"`
	Bundle     string            `json:"bundle"`
	Rootfs     string            `json:"rootfs"`
	Created    time.Time         `json:"created"`
	Owner      string            `json:"owner"`
	Notes      map[string]string `json:"annotations,omitempty"`
	// Complete says that create has come to its end.
	Complete bool   `json:"complete,omitempty"`
	PID      int    `json:"pid,omitempty"`
	PIDStart uint64 `json:"pidStart,omitempty"`

	Cgroups []string `json:"cgroups,omitempty"` // directories
	// Own says that they were made for the container: until then there may be
	// somebody else in them.
	Own bool `json:"ownCgroups,omitempty"`
	// Inodes are those that they had then; earlier releases do not say.
	Inodes     []uint64 `json:"cgroupInodes,omitempty"`
	CgroupPath string   `json:"cgroupPath,omitempty"`
	// RootMount is the mount of the root where the container has no mount namespace, and
	// RootMountBoot the boot that it is of: the next one numbers its own from the beginning.
	RootMount     uint64 `json:"rootMount,omitempty"`
	RootMountBoot string `json:"rootMountBoot,omitempty"`
	// Process is what exec starts from, with the compiled filter.
	Process       *specs.Process `json:"process"`
	Seccomp       []byte         `json:"seccomp,omitempty"`
	SeccompFlags  uint           `json:"seccompFlags,omitempty"`
	UserNamespace bool           `json:"userNamespace,omitempty"`
	Keyring       string         `json:"keyring,omitempty"` // session keyring; "" is the caller's
	Poststart     []plan.Hook    `json:"poststart,omitempty"`
	Poststop      []plan.Hook    `json:"poststop,omitempty"`
	// TellsHooks says that there are startContainer hooks, and that init tells start
	// when they have run; that of earlier releases does not.
	TellsHooks bool `json:"tellsHooks,omitempty"`
}

// Container is a container of the root, as it was recorded.
type Container struct {
	record
	r *Runtime
}

// Open finds a container.
func (r *Runtime) Open(id string) (*Container, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	if err := r.ours(id); err != nil {
		return nil, err
	}
	return r.read(id)
}

// read reads a container's record.
func (r *Runtime) read(id string) (*Container, error) {
	c := &Container{r: r}
	data, err := os.ReadFile(filepath.Join(r.dir(id), "state.json"))
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(r.dir(id)); err != nil {
			return nil, missing(id)
		}
		// A create that was killed at once, or that has just begun.
		c.record = record{Version: recordVersion, ID: id}
		return c, nil
	}
	if err != nil {
		return nil, cove.E("read container", id, cove.Internal, err)
	}
	if err := json.Unmarshal(data, &c.record); err != nil {
		return nil, cove.E("read container", id, cove.Internal, err)
	}
	if c.ID != id {
		return nil, cove.E("read container", id, cove.Internal, fmt.Errorf("its record is that of %q", c.ID))
	}
	c.Own = c.Own || c.Complete // which earlier releases do not say
	if c.Version > recordVersion {
		return nil, cove.E("read container", id, cove.Unsupported, errors.New("it was made by a newer cove-runtime"))
	}
	return c, nil
}

// save writes the record; it is there as a whole or not at all.
func (c *Container) save() error {
	data, err := json.Marshal(&c.record)
	if err != nil {
		return cove.E("record container", c.ID, cove.Internal, err)
	}
	path := filepath.Join(c.r.dir(c.ID), "state.json")
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return cove.E("record container", c.ID, cove.Internal, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return cove.E("record container", c.ID, cove.Internal, err)
	}
	return nil
}

// own gives the cgroups that were made for the container and are there still.
// When it has ended, another may have got one of the same name. It is for those
// of which Own is true.
func (c *Container) own() ([]string, error) {
	if len(c.Inodes) != len(c.Cgroups) {
		return c.Cgroups, nil
	}
	now, err := cgroup.Inodes(c.Cgroups)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for i, d := range c.Cgroups {
		if now[i] == c.Inodes[i] {
			dirs = append(dirs, d)
		}
	}
	return dirs, nil
}

// all is own of a container that lives: one that lacks some of them has ended, and
// what is in their place is another's.
func (c *Container) all() ([]string, error) {
	dirs, err := c.own()
	if err == nil && len(dirs) < len(c.Cgroups) {
		err = errNotRunning()
	}
	return dirs, err
}

// Status is what the container does.
type Status string

// The statuses of runtime-spec, and that of a frozen container.
const (
	Creating Status = "creating"
	Created  Status = "created"
	Running  Status = "running"
	Paused   Status = "paused"
	Stopped  Status = "stopped"
)

// Status derives the status.
func (c *Container) Status() (Status, error) {
	switch {
	case !c.Complete && c.busy():
		return Creating, nil
	case !c.alive(), !c.Complete:
		return Stopped, nil
	}
	if frozen, err := cgroup.Frozen(c.Cgroups); err != nil || frozen {
		return Paused, err
	}
	if c.locked("waiting", unix.LOCK_SH) {
		return Created, nil
	}
	return Running, nil
}

// alive reports whether init is there and not a zombie.
func (c *Container) alive() bool {
	if c.PID == 0 {
		return false
	}
	state, start, err := procfs.Look(c.PID)
	return err == nil && start == c.PIDStart && state != 'Z' && state != 'X'
}

// busy reports whether a verb that changes the container is at work.
func (c *Container) busy() bool { return c.locked(".", unix.LOCK_SH) }

func (c *Container) locked(name string, how int) bool {
	fd, err := unix.Open(filepath.Join(c.r.dir(c.ID), name), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Flock(fd, how|unix.LOCK_NB) == unix.EWOULDBLOCK
}

// hold opens init by descriptor: a pid is only a number.
func (c *Container) hold() (int, error) {
	if !c.alive() {
		return -1, errNotRunning()
	}
	fd, err := unix.PidfdOpen(c.PID, 0)
	if err != nil {
		return -1, errNotRunning()
	}
	if !c.alive() {
		_ = unix.Close(fd)
		return -1, errNotRunning()
	}
	return fd, nil
}

func errNotRunning() error {
	return cove.E("", "", cove.WrongStatus, errors.New("container not running"))
}

// hookState is what hooks read.
func (c *Container) hookState(status Status) plan.HookState {
	s := plan.HookState{Version: c.OCIVersion, ID: c.ID, Status: string(status), Bundle: c.Bundle, Annotations: c.Notes}
	if status != Stopped {
		s.PID = c.PID
	}
	return s
}
