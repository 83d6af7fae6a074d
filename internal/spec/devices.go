package spec

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove"
)

// devices gives the container the devices asked for and lets its cgroup open
// them. Null, zero, full, random, urandom and tty are the runtime's to make, with
// their rules. A rootless caller cannot make nodes: there devices are bound.
func (b *builder) devices() error {
	r := b.out.Linux.Resources
	if b.host.Rootless && len(b.in.DeviceCgroupRules) > 0 {
		return unsupported("device cgroup rules are not supported in rootless mode or in a user namespace")
	}
	if b.in.Privileged {
		if err := b.allDevices(); err != nil {
			return err
		}
		if !b.host.Rootless {
			r.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		}
		return nil
	}
	// Also with a user namespace: no rule at all would open every node that
	// was bound in.
	if !b.host.Rootless {
		r.Devices = []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	}
	for _, d := range b.in.Devices {
		if err := b.device(d); err != nil {
			return err
		}
	}
	for _, rule := range b.in.DeviceCgroupRules {
		parsed, err := parseDeviceRule(rule)
		if err != nil {
			return err
		}
		r.Devices = append(r.Devices, parsed)
	}
	return nil
}

func (b *builder) allDevices() error {
	if b.host.AllDevices == nil {
		return unsupported("the host's devices are not known: privileged containers need them")
	}
	nodes, err := b.host.AllDevices()
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if b.host.Rootless && (n.Path == "/dev/ptmx" || strings.HasPrefix(n.Path, "/dev/tty")) {
			continue // the container has its own terminals
		}
		if err := b.node(n, n.Path, "rwm"); err != nil {
			return err
		}
	}
	// What was asked by name besides, as far as it is elsewhere.
	for _, d := range b.in.Devices {
		if d.CDI() || d.ContainerPath != "" && d.ContainerPath != d.HostPath {
			if err := b.device(d); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *builder) device(d cove.Device) error {
	if d.CDI() {
		b.extra.CDI = append(b.extra.CDI, d.HostPath)
		return nil
	}
	host, err := cleanAbs(d.HostPath)
	if err != nil {
		return invalid("invalid device path %q: must be absolute", d.HostPath)
	}
	inside := host
	if d.ContainerPath != "" {
		if inside, err = cleanAbs(d.ContainerPath); err != nil {
			return invalid("invalid device path %q: must be absolute", d.ContainerPath)
		}
	}
	access := d.Access
	if access == "" {
		access = "rwm"
	}
	if !validAccess(access) {
		return invalid("invalid device mode: %s", access)
	}
	if b.host.Devices == nil {
		return unsupported("device %s: the host's devices are not known", d.HostPath)
	}
	nodes, err := b.host.Devices(host)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return cove.E("", "", cove.NoFile, fmt.Errorf("stat %s: no such file or directory", d.HostPath))
		}
		return err
	}
	if len(nodes) == 0 {
		return invalid("no devices found in %s: invalid argument", d.HostPath)
	}
	for _, n := range nodes {
		at := inside
		if rest, ok := strings.CutPrefix(n.Path, host+"/"); ok {
			at = path.Join(inside, rest)
		}
		if err := b.node(n, at, access); err != nil {
			return err
		}
	}
	return nil
}

// node adds one device at a place inside. The last one asked for a place wins.
func (b *builder) node(n Device, at, access string) error {
	if n.Type != 'b' && n.Type != 'c' && n.Type != 'p' {
		return invalid("%s is not a valid device: not a device node", n.Path)
	}
	if b.host.Rootless {
		perm := "ro"
		if strings.Contains(access, "w") {
			perm = "rw"
		}
		b.out.Mounts = slices.DeleteFunc(b.out.Mounts, func(m specs.Mount) bool { return m.Destination == at })
		b.out.Mounts = append(b.out.Mounts, specs.Mount{Destination: at, Type: "bind", Source: n.Path,
			Options: []string{"slave", "nosuid", "noexec", perm, "rbind"}})
		return nil
	}
	mode := os.FileMode(n.Mode & 0o777)
	l := b.out.Linux
	l.Devices = slices.DeleteFunc(l.Devices, func(d specs.LinuxDevice) bool { return d.Path == at })
	l.Devices = append(l.Devices, specs.LinuxDevice{Path: at, Type: string(n.Type), Major: n.Major, Minor: n.Minor,
		FileMode: &mode, UID: &n.UID, GID: &n.GID})
	if !b.in.Privileged && n.Type != 'p' {
		l.Resources.Devices = append(l.Resources.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: string(n.Type),
			Major: &n.Major, Minor: &n.Minor, Access: access})
	}
	return nil
}

func validAccess(s string) bool {
	return s != "" && len(s) <= 3 && strings.Trim(s, "rwm") == "" &&
		strings.Count(s, "r") <= 1 && strings.Count(s, "w") <= 1 && strings.Count(s, "m") <= 1
}

// parseDeviceRule reads "c 10:* rwm".
func parseDeviceRule(s string) (specs.LinuxDeviceCgroup, error) {
	rule := specs.LinuxDeviceCgroup{Allow: true}
	fields := strings.Fields(s)
	if len(fields) != 3 {
		return rule, invalid("invalid device cgroup rule requires type, major:Minor, and access rules: %q", s)
	}
	if !slices.Contains([]string{"a", "b", "c"}, fields[0]) {
		return rule, invalid("invalid device type in device-access-add: %s", fields[0])
	}
	rule.Type = fields[0]
	major, minor, ok := strings.Cut(fields[1], ":")
	if !ok {
		return rule, invalid("invalid device cgroup rule %q: number must be major:minor", s)
	}
	for _, n := range []struct {
		text string
		into **int64
	}{{major, &rule.Major}, {minor, &rule.Minor}} {
		if n.text == "*" {
			continue
		}
		v, err := strconv.ParseUint(n.text, 10, 32)
		if err != nil {
			return rule, invalid("invalid device cgroup rule %q: %s is not a device number", s, n.text)
		}
		i := int64(v)
		*n.into = &i
	}
	if !validAccess(fields[2]) {
		return rule, invalid("invalid device access in device-access-add: %s", fields[2])
	}
	rule.Access = fields[2]
	return rule, nil
}
