package engine

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/signal"
	"github.com/cove-engine/cove/internal/spec"
)

// reserve takes the host's ports for the container, once, and gives them with
// every number chosen.
func (l *launch) reserve() ([]cove.PortMapping, error) {
	kind, _, _ := strings.Cut(l.e.networkMode(l.c), ":")
	if len(l.c.Ports) == 0 || l.ports != nil || kind != "bridge" && !byProgram(kind) {
		return l.c.Ports, nil
	}
	ports, files, err := network.Reserve(l.c.Ports)
	if err != nil {
		return nil, err
	}
	if byProgram(kind) {
		// The program listens itself; here they were only chosen and looked
		// at, for the sake of the error.
		for _, f := range files {
			_ = f.Close()
		}
		return ports, nil
	}
	l.ports = files
	return ports, nil
}

// home has the monitor of an ordinary user's container on bridges live where
// these are.
func (l *launch) home(ownNet bool) error {
	if l.e.lan == nil || !ownNet || l.uplink != nil {
		return nil
	}
	netns, file, err := l.e.lan.Join()
	if err != nil {
		return err
	}
	l.files = append(l.files, monitor.File{Name: "home", FD: netns}, monitor.File{Name: networkFile, FD: file})
	return nil
}

// targets are the container's addresses that the world may reach through
// published ports, one of each family.
func targets(c *cove.Container, networks []cove.Network) []string {
	var all []string
	have := map[bool]bool{} // by family
	for i, n := range networks {
		for _, p := range c.Attachments[i].Addresses {
			if six := p.Addr().Is6(); !n.Internal && !have[six] {
				have[six] = true
				all = append(all, p.Addr().String())
			}
		}
	}
	return all
}

// reservePorts hands the sockets that reserve the published ports to the
// monitor.
func (l *launch) reservePorts() error {
	ports, err := l.reserve()
	if err != nil {
		return err
	}
	l.c.Ports = ports
	if l.e.lan == nil && !l.e.conf.File.Engine.EnablePortReservation {
		return nil // they were tried, for the sake of the error
	}
	names := l.portNames()
	for i, f := range l.ports {
		l.files = append(l.files, monitor.File{Name: names[i], FD: int(f.Fd())})
	}
	return nil
}

// portNames tells the monitor what the sockets of published ports are for.
func (l *launch) portNames() []string {
	names := make([]string, 0, len(l.ports))
	for _, p := range l.c.Ports {
		for i := range network.Count(p) {
			name := heldPort
			if l.e.lan != nil {
				name = fmt.Sprintf(forwardedPort+"%s:%d", cmp.Or(p.Protocol, "tcp"), int(p.ContainerPort)+i)
			}
			names = append(names, name)
		}
	}
	return names
}

// monitorCgroups makes the monitors' cgroup, once and for all, and gives it. A
// host where it cannot be made keeps monitors where they are. Under systemd
// the monitor moves to its container's scope. Some are asked to stay. An ordinary user's service manager
// takes no process for a unit's main one that is not in the unit's cgroup.
func (e *Engine) monitorCgroups(c *cove.Container, layout cgroup.Layout) cgroup.Set {
	switch c.Spec.Cgroups {
	case cgroupsNoMonitor, cgroupsDisabled:
		return cgroup.Set{}
	}
	if c.CgroupManager == systemd || e.conf.Rootless && c.Spec.SDNotifySocket != "" && c.Spec.SDNotify != "" {
		return cgroup.Set{}
	}
	name := monitorCgroup
	if c.CallerCgroup != "" {
		name = path.Join(c.CallerCgroup, supervisorName)
	}
	set, _, err := layout.Set(name, nil)
	if err != nil {
		return cgroup.Set{}
	}
	for _, dir := range set.Dirs {
		if _, err := os.Lstat(dir); err == nil {
			continue
		}
		// Another cove may be making it at the same moment: then it is there.
		if set.Make() != nil {
			if _, err := os.Lstat(dir); err != nil {
				return cgroup.Set{}
			}
		}
		break
	}
	return set
}

// resolver is what the monitor needs to answer for names; nil when none of
// the networks has them.
func (e *Engine) resolver(c *cove.Container, networks []cove.Network) *wire.Resolver {
	r := &wire.Resolver{Dir: e.namesDir(), Upstream: e.upstream(c)}
	for _, n := range networks {
		if n.DNSEnabled {
			r.Networks = append(r.Networks, n.Name)
		}
	}
	if len(r.Networks) == 0 {
		return nil
	}
	if !slices.ContainsFunc(networks, func(n cove.Network) bool { return !n.Internal }) {
		// Where nothing else leads out no question does: the monitor would
		// ask it from outside, and with it goes what the name says.
		r.Upstream = nil
	}
	return r
}

func (e *Engine) stopTimeout(c *cove.Container) uint {
	return *cmp.Or(c.Spec.StopTimeout, e.configuredFor(c).StopTimeout, new(uint(cove.DefaultStopTimeout)))
}

func stopSignal(c *cove.Container) unix.Signal {
	for _, name := range []string{c.Spec.StopSignal, c.Image.StopSignal} {
		if s, err := parseSignal(name); err == nil {
			return s
		}
	}
	return unix.SIGTERM
}

// parseSignal reads a signal by name, with or without SIG, or by number, also
// with the dash of kill(1).
func parseSignal(text string) (unix.Signal, error) {
	if s, ok := signal.Parse(strings.TrimPrefix(strings.TrimSpace(text), "-")); ok {
		return s, nil
	}
	return 0, cove.E("", "", cove.Invalid, fmt.Errorf("invalid signal: %s", text))
}

// logMaxSize is where a log is rotated, in bytes; 0 is never.
func (e *Engine) logMaxSize(c *cove.Container) int64 {
	if v := c.Spec.LogOpts["max-size"]; v != "" {
		if n, err := units.RAMInBytes(v); err == nil {
			return n
		}
	}
	return max(e.conf.File.Containers.LogSizeMax, 0)
}

// tagLog makes the log's tag, which may be a template over what inspect shows.
func (l *launch) tagLog() error {
	l.logTag = l.c.Spec.LogOpts["tag"]
	if !strings.Contains(l.logTag, "{{") {
		return nil
	}
	t, err := template.New("tag").Parse(l.logTag)
	if err != nil {
		return cove.E("", "", cove.Invalid, fmt.Errorf("log option tag: %w", err))
	}
	now, err := l.e.look(l.c)
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := t.Execute(&text, now.Inspect()); err != nil {
		return cove.E("", "", cove.Invalid, fmt.Errorf("log option tag: %w", err))
	}
	l.logTag = text.String()
	return nil
}

// writePidFiles tells the monitor's pid to who asked for it; init's is the
// monitor's to tell, if there is a place for it.
func (l *launch) writePidFiles(monitorPID int) error {
	if name := l.c.Spec.PidFile; name != "" {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return cove.E("write", name, fileKind(err), err)
		}
		_ = f.Close()
	}
	if name := l.c.Spec.ConmonPidFile; name != "" {
		if err := os.WriteFile(name, []byte(strconv.Itoa(monitorPID)), 0o644); err != nil {
			return cove.E("write", name, fileKind(err), err)
		}
	}
	return nil
}

// expandUlimits puts the engine's own limits in place of --ulimit host.
func expandUlimits(asked []cove.Ulimit, own map[string]spec.Rlimit) []cove.Ulimit {
	var out []cove.Ulimit
	for _, u := range asked {
		if u.Name != "host" {
			out = append(out, u)
			continue
		}
		for name, r := range own {
			// All bits set is no limit in both notations.
			out = append(out, cove.Ulimit{Name: name, Soft: int64(r.Soft), Hard: int64(r.Hard)})
		}
	}
	return out
}
