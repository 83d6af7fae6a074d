package cli

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cove-engine/cove"
)

// parseSecurity reads the --security-opt flags into s.
func (in surroundings) parseSecurity(s *cove.ContainerSpec, opts []string) error {
	for _, o := range opts {
		if o == "no-new-privileges" {
			s.NoNewPrivileges = true
			continue
		}
		key, value, ok := strings.Cut(o, "=")
		if !ok {
			// docker's older form
			if key, value, ok = strings.Cut(o, ":"); !ok {
				return fmt.Errorf("invalid --security-opt 1: %q", o)
			}
		} else if k, v, colon := strings.Cut(key, ":"); colon && k == "label" {
			key, value = k, v+"="+value
		}
		switch key {
		case "no-new-privileges":
			switch value {
			case "true":
				s.NoNewPrivileges = true
			case "false":
				s.NoNewPrivileges = false
			default:
				return fmt.Errorf("invalid --security-opt 2: %q", o)
			}
		case "seccomp":
			if value == "" {
				return fmt.Errorf("invalid --security-opt 2: %q", o)
			}
			s.Seccomp = value
			if value != "unconfined" {
				if err := in.abs(&s.Seccomp); err != nil {
					return err
				}
			}
		case "apparmor":
			s.AppArmor = value
		case "label":
			if value == "nested" {
				return &refusedError{name: "security-opt", value: o}
			}
			s.SELinux = append(s.SELinux, value)
		case "mask":
			s.Mask = append(s.Mask, strings.Split(value, ":")...)
		case "unmask":
			if strings.EqualFold(value, "all") {
				value = "ALL"
			}
			s.Unmask = append(s.Unmask, strings.Split(value, ":")...)
		case "systempaths":
			if value != "unconfined" {
				return fmt.Errorf("invalid --security-opt 2: %q", o)
			}
			s.Unmask = append(s.Unmask, "ALL")
		case "proc-opts", "writable-cgroups":
			return &refusedError{name: "security-opt", value: o}
		default:
			return fmt.Errorf("invalid --security-opt 2: %q", o)
		}
	}
	return nil
}

// parseDevice reads --device HOST[:CONTAINER][:rwm].
func parseDevice(v string) (cove.Device, error) {
	var d cove.Device
	if d.HostPath = v; d.CDI() {
		return d, nil
	}
	parts := strings.Split(v, ":")
	d.HostPath, d.Access = parts[0], "rwm"
	switch len(parts) {
	case 1:
	case 2:
		if strings.HasPrefix(parts[1], "/") {
			d.ContainerPath = parts[1]
		} else {
			d.Access = parts[1]
		}
	case 3:
		d.ContainerPath, d.Access = parts[1], parts[2]
	default:
		return d, fmt.Errorf("invalid device specification: %s", v)
	}
	if d.HostPath == "" {
		return d, fmt.Errorf("invalid device specification: %s", v)
	}
	if d.ContainerPath == "" {
		d.ContainerPath = d.HostPath
	}
	if d.ContainerPath[0] != '/' {
		return d, fmt.Errorf("invalid device specification: %s", v)
	}
	seen := ""
	for _, c := range d.Access {
		if !strings.ContainsRune("rwm", c) || strings.ContainsRune(seen, c) {
			return d, fmt.Errorf("invalid device mode: %s", d.Access)
		}
		seen += string(c)
	}
	if d.Access == "" {
		return d, fmt.Errorf("invalid device mode: %s", d.Access)
	}
	return d, nil
}

// checkDeviceRules checks --device-cgroup-rule "TYPE MAJOR:MINOR ACCESS".
func checkDeviceRules(list []string) error {
	if len(list) == 0 {
		return nil
	}
	rule := regexp.MustCompile(`^[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}$`)
	for _, r := range list {
		if !rule.MatchString(r) {
			return fmt.Errorf("invalid device cgroup rule requires type, major:Minor, and access rules: %q", r)
		}
	}
	return nil
}

// checkNamespace checks the value of --pid, --ipc, --uts and --cgroupns; more
// are the words that only this one takes.
func checkNamespace(value string, more ...string) error {
	switch value {
	case "", "private", "host":
		return nil
	}
	for _, m := range more {
		if value == m {
			return nil
		}
	}
	kind, arg, has := strings.Cut(value, ":")
	switch kind {
	case "container", "ns":
		if !has || arg == "" {
			return fmt.Errorf("invalid config provided: namespace mode %s requires a value", kind)
		}
		return nil
	case "pod":
		return errors.New("pods are not supported by cove yet")
	}
	return fmt.Errorf("unrecognized namespace mode %s passed", value)
}

// checkUserNS accepts what cove can do, the host's user namespace, and what the
// engine answers, which knows whether it is root's.
func checkUserNS(value string) error {
	kind, options, colon := strings.Cut(value, ":")
	known := map[string]string{"keep-id": "uid gid size", "auto": "size uidmapping gidmapping"}[kind]
	if known != "" && options != "" {
		for o := range strings.SplitSeq(options, ",") {
			if key, _, _ := strings.Cut(o, "="); !slices.Contains(strings.Fields(known), key) {
				return fmt.Errorf("unknown option specified: %q", key)
			}
		}
	}
	switch kind {
	case "private":
		if !colon {
			return errors.New("must provide at least one UID or GID mapping to configure a user namespace")
		}
	case "", "host", "nomap":
		if !colon {
			return nil
		}
	case "keep-id":
		return nil
	case "auto", "container", "ns":
		return &refusedError{name: "userns", value: value}
	}
	return fmt.Errorf("unrecognized namespace mode %s passed", value)
}
