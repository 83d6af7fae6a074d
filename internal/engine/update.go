package engine

import (
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// Update changes a container's limits and restart policy, at once when it runs.
// The kernel comes before the record: what it refuses is not recorded, and after
// a kill in between the same command does the rest.
func (e *Engine) Update(ctx context.Context, nameOrID string, edit func(*cove.ContainerSpec) error) (id string, warnings []string, err error) {
	h, err := e.hold(ctx, nameOrID)
	if err != nil {
		return "", nil, err
	}
	defer h.release()
	c := h.Container.Container
	if err := edit(&c.Spec); err != nil {
		return "", nil, err
	}
	policy := c.Spec.Restart != h.Spec.Restart
	if policy && c.Spec.Remove && c.Spec.Restart.Name != "" && c.Spec.Restart.Name != "no" {
		return "", nil, cove.E("update container", h.Name, cove.Invalid, errors.New("the restart policy of a container with --rm cannot be changed"))
	}
	l := &launch{e: e, c: &c}
	if err := l.describe(ctx); err != nil { // refuses what a start would
		return "", nil, err
	}
	if h.Run.PID != 0 {
		if err := l.limit(); err != nil {
			return "", nil, cove.E("update container", h.Name, cove.KindOf(err), err)
		}
		if policy {
			err := e.changePolicy(h, wire.Restart{Policy: c.Spec.Restart.Name, Retries: c.Spec.Restart.MaxRetries})
			if err != nil {
				return "", nil, err
			}
		}
	}
	err = e.change(h.ID, func(now *cove.Container) error {
		now.Spec.Resources, now.Spec.Restart = c.Spec.Resources, c.Spec.Restart
		return nil
	})
	if err != nil {
		return "", nil, err
	}
	e.emit(&c, "update")
	return h.ID, l.warnings, nil
}

// limit gives the cgroups of the running container their limits, but for its
// devices, which stay.
func (l *launch) limit() error {
	if err := l.e.needsCgroup("update"); err != nil {
		return err
	}
	all := l.spec.Linux.Resources
	if m := all.Memory; m != nil {
		// Version 1 refuses a limit below what is in use, 2 kills for it.
		refuse := true
		m.CheckBeforeUpdate = &refuse
	}
	set, warnings, err := l.layout.Set(l.spec.Linux.CgroupsPath, &specs.LinuxResources{Memory: all.Memory, CPU: all.CPU, Pids: all.Pids, BlockIO: all.BlockIO})
	if err != nil {
		return err
	}
	if l.c.CgroupManager == systemd {
		set = set.Delegated()
	}
	for _, w := range warnings {
		if !slices.Contains(l.warnings, w) {
			l.warnings = append(l.warnings, w)
		}
	}
	return set.Apply()
}

// changePolicy tells the container's monitor the restart policy. With conmon it
// is the record's that counts.
func (e *Engine) changePolicy(h *held, r wire.Restart) error {
	if h.Spec.Monitor != "" {
		return nil
	}
	if r.Policy == "no" {
		r.Policy = ""
	}
	conn, err := e.dial(&h.Container)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Request(wire.Policy, r)
}
