package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// never is the interval of a check that no clock starts.
const never = -1 * time.Nanosecond

// healthCheck is the container's health check with every default filled in,
// nil without one. What was asked lies over what the image says.
func healthCheck(c *cove.Container) *cove.HealthCheck {
	if c.Spec.NoHealth {
		return nil
	}
	var h cove.HealthCheck
	if c.Image.Health != nil {
		h = *c.Image.Health
		if len(h.Test) == 1 && h.Test[0] == "CMD" {
			h.Test = nil // no command: nothing to be checked
		}
		// Others run an image whose times nobody can mean.
		for _, d := range []*time.Duration{&h.Interval, &h.Timeout, &h.StartPeriod} {
			switch {
			case d == &h.Interval && *d == never:
			case *d < 0:
				*d = 0
			case *d > 0:
				*d = max(*d, time.Millisecond)
			}
		}
	}
	if asked := c.Spec.Health; asked != nil {
		if len(asked.Test) > 0 {
			h.Test = asked.Test
		}
		for _, d := range []struct{ to, from *time.Duration }{
			{&h.Interval, &asked.Interval}, {&h.Timeout, &asked.Timeout}, {&h.StartPeriod, &asked.StartPeriod},
		} {
			if *d.from != 0 {
				*d.to = *d.from
			}
		}
		if asked.Retries != 0 {
			h.Retries = asked.Retries
		}
		h.OnFailure = asked.OnFailure
	}
	if len(h.Test) == 0 || h.Test[0] == "" || strings.EqualFold(h.Test[0], "NONE") {
		return nil
	}
	// docker's and podman's defaults, podman-run(1) --health-interval.
	if h.Interval == 0 {
		h.Interval = 30 * time.Second
	}
	if h.Timeout == 0 {
		h.Timeout = 30 * time.Second
	}
	if h.Retries == 0 {
		h.Retries = 3
	}
	return &h
}

// CheckHealth runs a container's health check now, and tells whether it found
// the container healthy. The outcome is recorded as that of any other.
func (e *Engine) CheckHealth(ctx context.Context, nameOrID string) (healthy bool, err error) {
	h, err := e.hold(ctx, nameOrID)
	if err != nil {
		return false, err
	}
	conn, err := h.dialHealth()
	h.release()
	if err != nil {
		return false, err
	}
	defer conn.Close()
	timeout := healthCheck(&h.Container.Container).Timeout
	if s := h.Spec.StartupHealth; s != nil {
		timeout = max(timeout, s.Timeout)
	}
	code, err := conn.Probe(ctx, timeout)
	if err != nil {
		return false, cove.E("run health check of container", h.Name, cove.KindOf(err), err)
	}
	return code == 0, nil
}

func (h *held) dialHealth() (*monitor.Conn, error) {
	switch {
	case h.Status != cove.Running:
		return nil, cove.E("", "", cove.WrongStatus, fmt.Errorf("container %s is not running", h.ID))
	case healthCheck(&h.Container.Container) == nil:
		return nil, cove.E("", "", cove.Invalid, fmt.Errorf("container %s has no defined healthcheck", h.ID))
	}
	return h.e.dial(&h.Container)
}

// validHealth refuses times that nobody can mean, by docker's rule.
func validHealth(h *cove.HealthCheck) error {
	if h == nil {
		return nil
	}
	for _, d := range []struct {
		name string
		time time.Duration
	}{{"interval", h.Interval}, {"timeout", h.Timeout}, {"start period", h.StartPeriod}} {
		if d.time != 0 && d.time < time.Millisecond && !(d.name == "interval" && d.time == never) {
			return fmt.Errorf("the health check's %s of %s is less than %s", d.name, d.time, time.Millisecond)
		}
	}
	return nil
}

// health tells the monitor how to probe the container. plan makes that of an
// exec of a command.
func health(c *cove.Container, plan func(args []string) (any, error)) (*wire.Health, error) {
	h := healthCheck(c)
	if h == nil {
		return nil, nil
	}
	data, err := probePlan(h.Test, plan)
	if err != nil {
		return nil, err
	}
	out := &wire.Health{
		Plan: data, Interval: max(h.Interval, 0), Timeout: h.Timeout, StartPeriod: h.StartPeriod,
		Retries: h.Retries, OnFailure: h.OnFailure, LogCount: c.Spec.HealthLogCount, LogSize: c.Spec.HealthLogSize,
	}
	if s := c.Spec.StartupHealth; s != nil {
		if data, err = probePlan(s.Test, plan); err != nil {
			return nil, err
		}
		out.Startup = &wire.Startup{Plan: data, Interval: max(s.Interval, 0), Timeout: s.Timeout, Retries: s.Retries, Successes: s.Successes}
	}
	return out, nil
}

// probePlan is the plan of a check's command, as the monitor keeps it.
func probePlan(test []string, plan func(args []string) (any, error)) ([]byte, error) {
	args := test
	switch test[0] {
	case "CMD":
		args = test[1:]
	case "CMD-SHELL":
		args = append([]string{"/bin/sh", "-c"}, test[1:]...)
	}
	if len(args) == 0 {
		return nil, cove.E("", "", cove.Invalid, errors.New("the health check has no command"))
	}
	p, err := plan(args)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(p)
	if err != nil {
		return nil, cove.E("", "", cove.Internal, err)
	}
	return data, nil
}
