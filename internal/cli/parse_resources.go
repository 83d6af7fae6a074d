package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

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
	startup                                        startupFlags
	logDestination                                 string
	retries, logCount, logSize                     uint
	none                                           bool
	set                                            func(name string) bool
}

func (f *healthFlags) flags(fs *pflag.FlagSet) {
	f.set = fs.Changed
	fs.StringVar(&f.cmd, "health-cmd", "", "set a healthcheck command for the container ('none' disables the existing healthcheck)")
	fs.StringVar(&f.interval, "health-interval", "30s", "set an interval for the healthcheck. (a value of disable results in no automatic timer setup)")
	fs.StringVar(&f.logDestination, "health-log-destination", "local", "set the destination of the HealthCheck log: local, the container's own state")
	fs.UintVar(&f.logCount, "health-max-log-count", cove.HealthLogCount, "set maximum number of attempts in the HealthCheck log file ('0' value means as many as there is room for)")
	fs.UintVar(&f.logSize, "health-max-log-size", cove.HealthLogSize, "set maximum length in characters of stored HealthCheck log ('0' value means as much as there is room for)")
	f.startup.flags(fs)
	fs.StringVar(&f.onFailure, "health-on-failure", "none", "action to take once the container turns unhealthy")
	fs.UintVar(&f.retries, "health-retries", 3, "the number of retries allowed before a healthcheck is considered to be unhealthy")
	fs.StringVar(&f.startPeriod, "health-start-period", "0s", "the initialization time needed for a container to bootstrap")
	fs.StringVar(&f.timeout, "health-timeout", "30s", "the maximum time allowed to complete the healthcheck before an interval is considered failed")
	fs.BoolVar(&f.none, "no-healthcheck", false, "Disable healthchecks on container")
}

// update lays those that were given over what s has.
func (f healthFlags) update(s *cove.ContainerSpec) error {
	given := func(names string) bool { return slices.ContainsFunc(strings.Fields(names), f.set) }
	values := given("health-interval health-retries health-start-period health-timeout health-on-failure")
	startup := given("health-startup-interval health-startup-retries health-startup-success health-startup-timeout")
	logs := given("health-log-destination health-max-log-count health-max-log-size")
	if f.none && (values || startup || logs || given("health-cmd health-startup-cmd")) {
		return errors.New("cannot specify both --no-healthcheck and other HealthCheck flags")
	}
	if f.set("health-cmd") {
		s.NoHealth = false
	}
	switch {
	case values && s.NoHealth:
		return errors.New("healthcheck command is not set")
	case startup && !f.set("health-startup-cmd") && s.StartupHealth == nil:
		return errors.New("startup healthcheck command is not set")
	}
	before := s.StartupHealth
	if err := f.spec(s); err != nil {
		return err
	}
	if f.none || f.set("health-startup-cmd") {
		return nil
	}
	if s.StartupHealth = before; !startup {
		return nil
	}
	f.startup.cmd = "of before"
	changed, err := f.startup.value()
	if err != nil {
		return err
	}
	now := *before
	for name, set := range map[string]func(){
		"interval": func() { now.Interval = changed.Interval }, "timeout": func() { now.Timeout = changed.Timeout },
		"retries": func() { now.Retries = changed.Retries }, "success": func() { now.Successes = changed.Successes },
	} {
		if f.set("health-startup-" + name) {
			set()
		}
	}
	s.StartupHealth = &now
	return nil
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
	if err := f.logs(s); err != nil {
		return err
	}
	var err error
	if s.StartupHealth, err = f.startup.value(); err != nil {
		return err
	}
	var h cove.HealthCheck
	if s.Health != nil {
		h = *s.Health
	}
	any := false
	if f.set("health-cmd") && f.cmd != "" {
		any = true
		h.Test = healthTest(f.cmd)
	}
	if f.set("health-interval") {
		any = true
		if h.Interval, err = healthInterval(f.interval); err != nil {
			return err
		}
	}
	if f.set("health-timeout") {
		any = true
		if h.Timeout, err = healthTimeout(f.timeout); err != nil {
			return err
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

// logs reads what is kept of the probes.
func (f healthFlags) logs(s *cove.ContainerSpec) error {
	if f.logDestination != "local" {
		return &refusedError{"health-log-destination", f.logDestination}
	}
	if f.set("health-max-log-count") {
		if f.logCount > cove.MaxHealthLogCount {
			return fmt.Errorf("--health-max-log-count=%d is not supported by cove: at most %d are kept", f.logCount, cove.MaxHealthLogCount)
		}
		s.HealthLogCount = &f.logCount
	}
	if f.set("health-max-log-size") {
		if f.logSize > cove.MaxHealthLogSize {
			return fmt.Errorf("--health-max-log-size=%d is not supported by cove: at most %d bytes are kept", f.logSize, cove.MaxHealthLogSize)
		}
		s.HealthLogSize = &f.logSize
	}
	return nil
}

// startupFlags are those of the check that comes before the health check.
type startupFlags struct {
	cmd, interval, timeout string
	retries, successes     uint
}

func (f *startupFlags) flags(fs *pflag.FlagSet) {
	fs.StringVar(&f.cmd, "health-startup-cmd", "", "Set a startup healthcheck command for the container")
	fs.StringVar(&f.interval, "health-startup-interval", "30s", "Set an interval for the startup healthcheck. (a value of disable results in no automatic timer setup)")
	fs.UintVar(&f.retries, "health-startup-retries", 0, "Set the maximum number of retries before the startup healthcheck will restart the container")
	fs.UintVar(&f.successes, "health-startup-success", 0, "Set the number of consecutive successes before the startup healthcheck is marked as successful and the normal healthcheck begins (0 indicates any success will start the regular healthcheck)")
	fs.StringVar(&f.timeout, "health-startup-timeout", "30s", "Set the maximum amount of time that the startup healthcheck may take before it is considered failed")
}

// value is nil without a command.
func (f *startupFlags) value() (*cove.StartupCheck, error) {
	if f.cmd == "" || strings.EqualFold(f.cmd, "none") {
		return nil, nil
	}
	c := &cove.StartupCheck{Test: healthTest(f.cmd), Retries: int(f.retries), Successes: int(f.successes)}
	var err error
	if c.Interval, err = healthInterval(f.interval); err != nil {
		return nil, err
	}
	c.Timeout, err = healthTimeout(f.timeout)
	return c, err
}

// healthInterval gives -1 where no timer is to run the check.
func healthInterval(text string) (time.Duration, error) {
	if text == "disable" {
		return -1, nil
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("invalid healthcheck-interval: %w", err)
	case d == 0:
		return -1, nil
	case d < 0:
		return 0, fmt.Errorf("invalid healthcheck-interval: %s is negative", text)
	}
	return d, nil
}

func healthTimeout(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("invalid healthcheck-timeout: %w", err)
	}
	if d <= 0 {
		return 0, errors.New("healthcheck-timeout must be at least 1 second") // podman's words, and its bound
	}
	return d, nil
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
