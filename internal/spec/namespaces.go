package spec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove"
)

// mode is one namespace's mode: kind is the word before a colon.
type mode struct{ kind, value string }

func (m mode) is(kinds ...string) bool { return slices.Contains(kinds, m.kind) }

// joins tells that the namespace is another container's or a given path's.
func (m mode) joins() bool { return m.is("container", "ns") }

type modes struct{ pid, ipc, uts, net, cgroup, user mode }

// allowed are the words each kind of namespace knows.
var allowed = map[string][]string{
	"pid":    {"private", "host", "container", "ns"},
	"ipc":    {"private", "shareable", "none", "host", "container", "ns"},
	"uts":    {"private", "host", "container", "ns"},
	"cgroup": {"private", "host", "container", "ns"},
	"user":   {"private", "host", "auto", "keep-id", "nomap", "container", "ns"},
	"net":    {"private", "bridge", "none", "host", "container", "ns", "pasta", "slirp4netns"},
}

func parseMode(kind, asked, otherwise, last string) (mode, error) {
	s := asked
	if s == "" {
		s = otherwise
	}
	if s == "" {
		s = last
	}
	word, value, colon := strings.Cut(s, ":")
	m := mode{word, value}
	if !slices.Contains(allowed[kind], word) {
		return m, invalid("unrecognized namespace mode %s passed", s)
	}
	switch word {
	case "container":
		if value == "" {
			return m, invalid("must provide name or ID for a container")
		}
	case "ns":
		p, err := cleanAbs(value)
		if err != nil {
			return m, invalid("must provide an absolute path to a namespace when specifying \"ns:\", not %q", value)
		}
		m.value = p
	case "private", "host", "none", "shareable":
		if colon {
			return m, invalid("unrecognized namespace mode %s passed", s)
		}
	}
	return m, nil
}

func (b *builder) parseModes() error {
	// cgroup v1 hides nothing with a cgroup namespace and old programs expect
	// to see their path: podman and docker default to the host's there.
	cgroupDefault := b.conf.CgroupNS
	if !b.host.CgroupV2 {
		cgroupDefault = "host"
	}
	for _, m := range []struct {
		into                         *mode
		kind, asked, otherwise, last string
	}{
		{&b.modes.pid, "pid", b.in.PID, b.conf.PID, "private"},
		{&b.modes.ipc, "ipc", b.in.IPC, b.conf.IPC, "shareable"},
		{&b.modes.uts, "uts", b.in.UTS, b.conf.UTS, "private"},
		{&b.modes.net, "net", b.in.Network, b.conf.Network, "private"},
		{&b.modes.cgroup, "cgroup", b.in.CgroupNS, cgroupDefault, "private"},
		{&b.modes.user, "user", b.in.UserNS, "", "host"},
	} {
		got, err := parseMode(m.kind, m.asked, m.otherwise, m.last)
		if err != nil {
			return err
		}
		*m.into = got
	}
	return nil
}

// namespaces decides every namespace. The mount namespace is always new.
func (b *builder) namespaces() error {
	if err := b.parseModes(); err != nil {
		return err
	}
	maps := len(b.host.UIDMap) > 0 && len(b.host.GIDMap) > 0
	switch {
	case b.modes.user.joins():
		b.userNS = true
	case b.modes.user.is("host"):
		// --uidmap without a mode: the caller gives maps.
		b.userNS = maps
	default:
		if !maps {
			return invalid("user namespace mode %s needs a mapping of users and groups", b.modes.user.kind)
		}
		b.userNS = true
	}
	if b.modes.user.is("keep-id", "nomap") && !b.host.Rootless {
		return invalid("%s is only supported in rootless mode", b.modes.user.kind)
	}
	for _, n := range []struct {
		kind string
		typ  specs.LinuxNamespaceType
		mode mode
	}{
		{"pid", specs.PIDNamespace, b.modes.pid},
		{"net", specs.NetworkNamespace, b.modes.net},
		{"ipc", specs.IPCNamespace, b.modes.ipc},
		{"uts", specs.UTSNamespace, b.modes.uts},
		{"", specs.MountNamespace, mode{kind: "private"}},
		{"cgroup", specs.CgroupNamespace, b.modes.cgroup},
		{"user", specs.UserNamespace, b.modes.user},
	} {
		if n.kind == "user" {
			if !b.userNS {
				continue
			}
		} else if n.mode.is("host") {
			continue
		}
		ns := specs.LinuxNamespace{Type: n.typ}
		switch {
		case n.mode.is("ns"):
			ns.Path = n.mode.value
		case n.mode.is("container"):
			p := b.host.Joined[n.kind]
			if p == "" {
				return cove.E("", "", cove.WrongStatus, fmt.Errorf("container %s has no %s namespace to join: it does not run", n.mode.value, n.kind))
			}
			ns.Path = p
		case n.kind == "net":
			ns.Path = b.host.NetNS
		}
		b.out.Linux.Namespaces = append(b.out.Linux.Namespaces, ns)
	}
	if b.userNS && !b.modes.user.joins() {
		b.out.Linux.UIDMappings = slices.Clone(b.host.UIDMap)
		b.out.Linux.GIDMappings = slices.Clone(b.host.GIDMap)
	}
	return nil
}

// maxHostname is the kernel's __NEW_UTS_LEN.
const maxHostname = 64

func (b *builder) hostname() error {
	name := b.in.Hostname
	if name != "" {
		if b.modes.uts.is("host") {
			return invalid("cannot set hostname when running in the host UTS namespace: invalid configuration")
		}
		if b.modes.uts.joins() {
			return invalid("cannot set hostname when joining the UTS namespace of another container: invalid configuration")
		}
	}
	if len(name) > maxHostname || strings.ContainsAny(name, "\x00\n/") {
		return invalid("invalid hostname %q: at most %d characters, no slash or line end", name, maxHostname)
	}
	switch {
	case name != "":
	case b.modes.uts.joins():
		name = b.host.JoinedHostname
	case b.modes.uts.is("host"), b.modes.net.is("host"):
		name = b.host.Hostname
	default:
		name = b.c.Hostname()
	}
	if len(name) > maxHostname {
		name = name[:maxHostname]
	}
	b.extra.Hostname = name
	// In a namespace of others the name is theirs; the runtime may not set it.
	if b.modes.uts.is("private") {
		b.out.Hostname = name
	}
	return nil
}
