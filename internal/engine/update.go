package engine

import (
	"context"
	"errors"
	"reflect"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// Update changes a container's limits, restart policy and health check, at once when
// it runs.
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
	check := !reflect.DeepEqual(healthOf(&c.Spec), healthOf(&h.Spec))
	if check && !c.Spec.NoHealth && c.Spec.Health != nil && healthCheck(&c) == nil {
		return "", nil, cove.E("update container", h.Name, cove.Invalid, errors.New("healthcheck command is not set"))
	}
	l := &launch{e: e, c: &c}
	if err := l.describe(ctx); err != nil { // refuses what a start would
		return "", nil, err
	}
	l.layout = l.layout.Under(h.CgroupBase)
	if h.Run.PID != 0 {
		if !reflect.DeepEqual(c.Spec.Resources, h.Spec.Resources) {
			if err := l.limit(); err != nil {
				return "", nil, cove.E("update container", h.Name, cove.KindOf(err), err)
			}
		}
		if policy {
			err := e.changePolicy(h, wire.Restart{Policy: c.Spec.Restart.Name, Retries: c.Spec.Restart.MaxRetries})
			if err != nil {
				return "", nil, err
			}
		}
		if check {
			if err := e.changeHealth(h, &c); err != nil {
				return "", nil, err
			}
		}
	}
	err = e.change(h.ID, func(now *cove.Container) error {
		now.Spec.Resources, now.Spec.Restart = c.Spec.Resources, c.Spec.Restart
		if check {
			now.Spec.NoHealth, now.Spec.Health, now.Spec.StartupHealth = c.Spec.NoHealth, c.Spec.Health, c.Spec.StartupHealth
			now.Spec.HealthLogCount, now.Spec.HealthLogSize = c.Spec.HealthLogCount, c.Spec.HealthLogSize
		}
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
	if err := l.e.hasCgroup(l.c, "update"); err != nil {
		return err
	}
	all := l.spec.Linux.Resources
	if m := all.Memory; m != nil {
		// Version 1 refuses a limit below what is in use, 2 kills for it.
		refuse := true
		m.CheckBeforeUpdate = &refuse
	}
	r := &specs.LinuxResources{Memory: all.Memory, CPU: all.CPU, Pids: all.Pids, BlockIO: all.BlockIO}
	set, warnings, err := l.layout.Set(l.spec.Linux.CgroupsPath, r)
	if err != nil {
		return err
	}
	if l.c.CgroupManager == systemd {
		set = set.Delegated()
		scope := scopeOf(l.c)
		if scope.Shares, err = l.layout.Shares(r); err == nil {
			err = scope.Share()
		}
		if err != nil {
			return err
		}
	}
	for _, w := range warnings {
		if !slices.Contains(l.warnings, w) {
			l.warnings = append(l.warnings, w)
		}
	}
	return set.Apply()
}

// healthOf is what was asked of a container's health.
func healthOf(s *cove.ContainerSpec) cove.ContainerSpec {
	return cove.ContainerSpec{
		NoHealth: s.NoHealth, Health: s.Health, StartupHealth: s.StartupHealth,
		HealthLogCount: s.HealthLogCount, HealthLogSize: s.HealthLogSize,
	}
}

// changeHealth tells the running container's monitor the health check of c, which
// is the container as it will be.
func (e *Engine) changeHealth(h *held, c *cove.Container) error {
	if h.Spec.Monitor != "" {
		return cove.E("update container", h.Name, cove.Unsupported, errors.New("the health check of a running container with conmon cannot be changed by cove yet"))
	}
	conf, err := health(c, func(args []string) (any, error) { return e.probe(&h.Container, args) })
	if err != nil {
		return err
	}
	conn, err := e.dial(&h.Container)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Request(wire.Probes, conf)
}

// probe is the plan of a health check's command in a running container.
func (e *Engine) probe(c *Container, args []string) (any, error) {
	x := ExecSpec{Command: args}
	if isForeign(&c.Container) {
		return e.foreignExec(c, x, nil)
	}
	return e.execPlan(c, x, nil)
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
