package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/cove-engine/cove"
)

// bytesOf reads a size such as 512m; flag names it in errors.
func bytesOf(flag, value string) (int64, error) {
	if value == "" {
		return 0, nil
	}
	n, err := units.RAMInBytes(value)
	if err != nil {
		return 0, fmt.Errorf("invalid value for %s: %w", flag, err)
	}
	return n, nil
}

// parseUlimit reads --ulimit NAME=SOFT[:HARD] or "host".
func parseUlimit(v string) (cove.Ulimit, error) {
	if v == "host" {
		return cove.Ulimit{Name: "host"}, nil
	}
	u, err := units.ParseUlimit(v)
	if err != nil {
		return cove.Ulimit{}, fmt.Errorf("ulimit option %q requires name=SOFT:HARD, failed to be parsed: %w", v, err)
	}
	return cove.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard}, nil
}

// parseRestart reads --restart.
func parseRestart(v string) (cove.RestartPolicy, error) {
	name, retries, has := strings.Cut(v, ":")
	p := cove.RestartPolicy{Name: name}
	if name == "never" {
		p.Name = "no"
	}
	switch p.Name {
	case "", "no", "always", "on-failure", "unless-stopped":
	default:
		return p, fmt.Errorf("%q is not a valid restart policy: invalid argument", name)
	}
	if !has {
		return p, nil
	}
	if p.Name != "on-failure" {
		return p, errors.New("restart policy retries can only be specified with on-failure restart policy")
	}
	n, err := strconv.Atoi(retries)
	if err != nil {
		return p, fmt.Errorf("parsing restart policy retry count: %w", err)
	}
	if n < 0 {
		return p, errors.New("must specify restart policy retry count as a number greater than 0")
	}
	p.MaxRetries = uint(n)
	return p, nil
}

// healthFlags are the --health-* flags; Set tells which were given.
type healthFlags struct {
	cmd, interval, timeout, startPeriod, onFailure string
	retries                                        uint
	none                                           bool
	set                                            func(name string) bool
}

// spec sets Health and NoHealth of s. A Health without Test changes only the
// other values of the image's check; a negative Interval means that no timer
// runs it.
func (f healthFlags) spec(s *cove.ContainerSpec) error {
	if f.none {
		if f.set("health-cmd") && f.cmd != "" {
			return errors.New("cannot specify both --no-healthcheck and --health-cmd")
		}
		s.NoHealth = true
		return nil
	}
	if strings.EqualFold(f.cmd, "none") {
		s.NoHealth = true
		return nil
	}
	var h cove.HealthCheck
	any := false
	if f.set("health-cmd") && f.cmd != "" {
		any = true
		h.Test = healthTest(f.cmd)
	}
	var err error
	if f.set("health-interval") {
		any = true
		if f.interval == "disable" {
			h.Interval = -1
		} else if h.Interval, err = time.ParseDuration(f.interval); err != nil {
			return fmt.Errorf("invalid healthcheck-interval: %w", err)
		} else if h.Interval == 0 {
			h.Interval = -1
		} else if h.Interval < 0 {
			return fmt.Errorf("invalid healthcheck-interval: %s is negative", f.interval)
		}
	}
	if f.set("health-timeout") {
		any = true
		if h.Timeout, err = time.ParseDuration(f.timeout); err != nil {
			return fmt.Errorf("invalid healthcheck-timeout: %w", err)
		}
		if h.Timeout < time.Second {
			return errors.New("healthcheck-timeout must be at least 1 second")
		}
	}
	if f.set("health-start-period") {
		any = true
		if h.StartPeriod, err = time.ParseDuration(f.startPeriod); err != nil {
			return fmt.Errorf("invalid healthcheck-start-period: %w", err)
		}
		if h.StartPeriod < 0 {
			return errors.New("healthcheck-start-period must be 0 seconds or greater")
		}
	}
	if f.set("health-retries") {
		any = true
		if f.retries < 1 {
			return errors.New("healthcheck-retries must be greater than 0")
		}
		h.Retries = int(f.retries)
	}
	if f.set("health-on-failure") {
		any = true
		switch f.onFailure {
		case "none", "kill", "restart", "stop":
			h.OnFailure = f.onFailure
		default:
			return fmt.Errorf("invalid on-failure action %q for health check: supported actions are none,kill,restart,stop", f.onFailure)
		}
	}
	if any {
		s.Health = &h
	}
	return nil
}

// healthTest reads --health-cmd: a JSON array in docker's form, or a shell
// command.
func healthTest(cmd string) []string {
	if strings.HasPrefix(cmd, "[") {
		if list := words(cmd); len(list) > 0 && list[0] != cmd {
			switch list[0] {
			case "CMD", "CMD-SHELL", "NONE":
				return list
			}
			return append([]string{"CMD"}, list...)
		}
	}
	if first, rest, ok := strings.Cut(cmd, " "); ok {
		switch first {
		case "CMD-SHELL":
			return []string{"CMD-SHELL", strings.TrimSpace(rest)}
		case "CMD":
			return append([]string{"CMD"}, strings.Fields(rest)...)
		}
	}
	return []string{"CMD-SHELL", cmd}
}
