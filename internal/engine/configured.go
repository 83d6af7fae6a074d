package engine

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	conf "go.podman.io/common/pkg/config"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/config"
	"github.com/cove-engine/cove/internal/event"
	"github.com/cove-engine/cove/internal/journal"
	"github.com/cove-engine/cove/internal/mount"
)

// Defaults are for front ends to lay under what they are asked.
func (e *Engine) Defaults() (Defaults, error) {
	c, engine := &e.conf.File.Containers, &e.conf.File.Engine
	d := Defaults{
		Spec: cove.ContainerSpec{
			Init: c.Init, Privileged: c.Privileged, ReadOnly: c.ReadOnly, ReadOnlyTmpfs: true, NoHosts: c.NoHosts,
		},
		EnvHost: c.EnvHost, HTTPProxy: c.HTTPProxy, Env: engine.Env.Get(),
		MultiImageArchive: engine.MultiImageArchive, LogDriver: c.LogDriver,
	}
	dir, err := os.Getwd()
	if err != nil {
		dir = "" // as mount.Abs wants it
	}
	if d.Spec.DefaultMounts, err = mount.Parse(dir, c.Volumes.Get(), c.Mounts.Get(), nil); err != nil {
		return d, cove.E("read containers.conf", "volumes and mounts", cove.Invalid, err)
	}
	return d, nil
}

// Environ is the caller's environment with the engine's own variables that it
// does not have.
func (d Defaults) Environ(own []string) []string {
	own = slices.Clone(own)
	for _, entry := range d.Env {
		name, _, ok := strings.Cut(entry, "=")
		if _, has := lookup(own, name); ok && !has {
			own = append(own, entry)
		}
	}
	return own
}

// proxyVariables are passed on with http_proxy.
var proxyVariables = [...]string{
	"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY",
}

// HostEnv are the variables of env that a container is to have: all, or those
// about proxies.
func HostEnv(env []string, all, proxies bool) []string {
	var out []string
	switch {
	case all:
		for _, entry := range env {
			if strings.IndexByte(entry, '=') > 0 {
				out = append(out, entry)
			}
		}
	case proxies:
		for _, name := range proxyVariables {
			if v, ok := lookup(env, name); ok {
				out = append(out, name+"="+v)
			}
		}
	}
	return out
}

// lookup finds a variable; the last one counts.
func lookup(env []string, name string) (string, bool) {
	for _, entry := range slices.Backward(env) {
		if k, v, ok := strings.Cut(entry, "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}

// configured lays containers.conf under what was asked, where the answer is the
// container's for good: inspect shows it, and a change of the file does not
// change it.
func (d *draft) configured() error {
	s, file := &d.c.Spec, d.e.conf.File
	c := &file.Containers
	d.warnings = append(append(d.warnings, d.e.unused("containers")...), d.e.idle()...)
	var err error
	if d.c.Configured, err = d.e.configuredNow(); err != nil {
		return err
	}
	s.UserNS = cmp.Or(s.UserNS, c.UserNS)
	s.NoHosts = s.NoHosts && len(s.AddHosts) == 0
	if !journal.Present() {
		if s.LogDriver == "" && c.LogDriver == "journald" {
			s.LogDriver = "k8s-file"
			d.noJournal("containers.log_driver", "logs")
		}
		if file.Engine.EventsLogger == event.ToJournald {
			d.noJournal("engine.events_logger", "events")
		}
	}
	s.LogDriver = cmp.Or(s.LogDriver, c.LogDriver)
	if s.LogPath == "" && c.LogPath != "" {
		s.LogPath = filepath.Join(c.LogPath, d.c.ID, "ctr.log")
	}
	if c.LogTag != "" && s.LogOpts["tag"] == "" {
		s.LogOpts = maps.Clone(s.LogOpts)
		if s.LogOpts == nil {
			s.LogOpts = map[string]string{}
		}
		s.LogOpts["tag"] = c.LogTag
	}
	if s.ShmSize == nil && c.ShmSize != "" {
		size, err := units.FromHumanSize(c.ShmSize) // podman's reading: of powers of ten
		if err != nil {
			return cove.E("read containers.conf", "shm_size", cove.Invalid, err)
		}
		s.ShmSize = &size
	}
	var annotations map[string]string
	for _, a := range c.Annotations.Get() {
		name, value, _ := strings.Cut(a, "=") // as podman, which asks for a value in its flag alone
		if name == "" {
			return cove.E("read containers.conf", "annotations", cove.Invalid, fmt.Errorf("%q has no key", a))
		}
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[name] = value
	}
	if annotations != nil {
		maps.Copy(annotations, s.Annotations)
		s.Annotations = annotations
	}
	var devices []cove.Device
	for _, text := range c.Devices.Get() {
		if named := (cove.Device{HostPath: text}); named.CDI() {
			devices = append(devices, named)
			continue
		}
		host, inside, access, err := conf.Device(text)
		if err != nil {
			return cove.E("read containers.conf", "devices", cove.Invalid, err)
		}
		devices = append(devices, cove.Device{HostPath: host, ContainerPath: inside, Access: access})
	}
	s.Devices = append(devices, s.Devices...)
	return nil
}

// configuredNow is what containers.conf says of all containers.
func (e *Engine) configuredNow() (*cove.Configured, error) {
	c := &e.conf.File.Containers
	//lint:ignore SA1019 the function named instead insists on catatonit being installed
	initPath := cmp.Or(c.InitPath, e.conf.File.Engine.InitPath)
	d := &cove.Configured{
		Env: environment(c.Env.Get()), OOMScoreAdj: c.OOMScoreAdj, Timezone: c.TZ, InitPath: initPath, NameAsHostname: c.ContainerNameAsHostName,
		Umask: unless(c.Umask, cove.DefaultUmask), PID: unless(c.PidNS, "private"), IPC: unless(c.IPCNS, "shareable"),
		UTS: unless(c.UTSNS, "private"), CgroupNS: unless(c.CgroupNS, "private"), Network: unless(c.NetNS, "private"),
		Capabilities: []string{},
	}
	for _, name := range c.DefaultCapabilities.Get() {
		name = strings.ToUpper(name)
		if !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		d.Capabilities = append(d.Capabilities, name)
	}
	if slices.Sort(d.Capabilities); slices.Equal(d.Capabilities, cove.DefaultCapabilities()) {
		d.Capabilities = nil
	}
	if slices.Equal(d.Env, []string{"PATH=" + cove.DefaultPath}) {
		d.Env = nil
	}
	if c.PidsLimit != cove.DefaultPidsLimit {
		d.PidsLimit = &c.PidsLimit
	}
	if t := e.conf.File.Engine.StopTimeout; t != cove.DefaultStopTimeout {
		d.StopTimeout = &t
	}
	for _, u := range c.DefaultUlimits.Get() {
		limit, err := parseUlimit(u)
		if err != nil {
			return nil, err
		}
		d.Ulimits = append(d.Ulimits, limit)
	}
	for _, list := range []struct {
		key  string
		from []string
		to   *map[string]string
	}{{"default_sysctls", c.DefaultSysctls.Get(), &d.Sysctl}, {"cgroup_conf", c.CgroupConf.Get(), &d.CgroupConf}} {
		for _, entry := range list.from {
			name, value, ok := strings.Cut(entry, "=")
			if !ok || name == "" {
				return nil, cove.E("read containers.conf", list.key, cove.Invalid, fmt.Errorf("%q is not name=value", entry))
			}
			if *list.to == nil {
				*list.to = map[string]string{}
			}
			(*list.to)[name] = value
		}
	}
	d.Seccomp = seccompFile(c.SeccompProfile)
	if !strings.HasPrefix(c.ApparmorProfile, "containers-default-") { // ours in place of the library's
		d.AppArmor = c.ApparmorProfile
	}
	return d, nil
}

// seccompFile is the profile to read for what containers.conf says, "" for our own default.
// What a package puts into /usr/share, which the library takes where nothing is said, is
// the library's own of some version. One in /etc is the administrator's.
func seccompFile(path string) string {
	if path == "/usr/share/containers/seccomp.json" {
		return ""
	}
	return path
}

// configuredFor is what was configured for the container, or would be now.
func (e *Engine) configuredFor(c *cove.Container) cove.Configured {
	if c.Configured != nil {
		return *c.Configured
	}
	if d, err := e.configuredNow(); err == nil {
		return *d
	}
	return cove.Configured{}
}

// unless leaves the default unsaid.
func unless(value, byDefault string) string {
	if value == byDefault {
		return ""
	}
	return value
}

// environment takes variables without a value from the engine's own: NAME, or
// BEGINNING* for all that begin so.
func environment(entries []string) []string {
	out := []string{}
	for _, entry := range entries {
		name, _, whole := strings.Cut(entry, "=")
		if whole {
			out = append(out, entry)
			continue
		}
		begin, many := strings.CutSuffix(name, "*")
		for _, own := range os.Environ() {
			if have, _, _ := strings.Cut(own, "="); have == name || many && strings.HasPrefix(have, begin) {
				out = append(out, own)
			}
		}
	}
	return out
}

// parseUlimit reads name=soft[:hard], containers.conf(5).
func parseUlimit(s string) (cove.Ulimit, error) {
	name, value, ok := strings.Cut(s, "=")
	soft, hard, two := strings.Cut(value, ":")
	if !two {
		hard = soft
	}
	x, err := strconv.ParseInt(soft, 10, 64)
	y, err2 := strconv.ParseInt(hard, 10, 64)
	if !ok || err != nil || err2 != nil {
		return cove.Ulimit{}, cove.E("read containers.conf", "", cove.Invalid, fmt.Errorf("default_ulimits: %q is not name=soft[:hard]", s))
	}
	return cove.Ulimit{Name: name, Soft: x, Hard: y}, nil
}

// noJournal tells, once per boot, where what a key sends to the journal goes instead.
func (d *draft) noJournal(key, what string) {
	if d.e.toldFirst(config.Key{Name: key}) {
		d.warnings = append(d.warnings, "there is no journal on this host, so "+what+" go to files")
	}
}

// unused tells of the keys that the makers of by, in the plural, do without, each
// once per boot: the file is podman's too, and a word at every command would be
// no help to anybody.
func (e *Engine) unused(by string) []string {
	var warnings []string
	for _, k := range e.conf.Ignored(by) {
		if e.toldFirst(k) {
			verb := "follow"
			if !k.Known {
				verb = "know"
			}
			warnings = append(warnings, "cove does not "+verb+" "+k.Name+" of "+k.Place())
		}
	}
	return warnings
}

// idle tells in one line of the keys set that nothing in cove asks for, each once
// per boot.
func (e *Engine) idle() []string {
	var all []string
	for _, k := range e.conf.Unused() {
		if e.toldFirst(k) {
			all = append(all, k.Name+" ("+k.Place()+")")
		}
	}
	if all == nil {
		return nil
	}
	return []string{"cove has no use for " + strings.Join(all, ", ")}
}

// toldFirst tells whether nobody has been told of the key in this boot.
func (e *Engine) toldFirst(k config.Key) bool {
	dir := e.toldDir()
	name := filepath.Join(dir, strings.ReplaceAll(k.Name, "/", "_"))
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		if os.MkdirAll(dir, 0o700) != nil {
			return true
		}
		f, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err == nil {
		_ = f.Close()
	}
	return !errors.Is(err, os.ErrExist)
}

// toldDir has an empty file for each key that somebody has been told of.
func (e *Engine) toldDir() string { return filepath.Join(e.conf.Scratch(), "told") }

// publishedOn gives each mapping that names no address of the host's those of
// default_host_ips.
func (e *Engine) publishedOn(ports []cove.PortMapping) []cove.PortMapping {
	addresses := e.conf.File.Network.DefaultHostIPs.Get()
	if len(addresses) == 0 {
		return ports
	}
	var out []cove.PortMapping
	for _, p := range ports {
		if p.HostIP != "" {
			out = append(out, p)
			continue
		}
		for _, p.HostIP = range slices.Compact(slices.Clone(addresses)) {
			out = append(out, p)
		}
	}
	return out
}
