package engine

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cove-engine/cove"
)

// The record in an archive is a stranger's. As with podman the container gets
// what it says, rights included, but not without a word: who restores it has
// typed none of that. What is no part of the container is not taken over at all:
// programs and files of the host that its maker chose.

// importedSpec is what an archive's record asks for.
func (e *Engine) importedSpec(was *cove.Container) (cove.ContainerSpec, error) {
	s := was.Spec
	refuse := func(kind cove.Kind, why string) (cove.ContainerSpec, error) {
		return s, cove.E("", "", kind, errors.New(why))
	}
	if s.Rootfs != "" {
		return refuse(cove.Unsupported, "it is of a container on a directory of the host, "+s.Rootfs+", and not of an image")
	}
	for _, mode := range []string{s.PID, s.IPC, s.UTS, s.Network, s.CgroupNS, s.UserNS} {
		if strings.HasPrefix(mode, "container:") {
			return refuse(cove.Unsupported, "cannot import checkpoints of containers with dependencies")
		}
	}
	if len(s.Requires) > 0 {
		return refuse(cove.Unsupported, "cannot import checkpoints of containers with dependencies")
	}
	_, known := e.conf.File.Engine.OCIRuntimes[s.Runtime]
	if s.Runtime != "" && !known && s.Runtime != e.conf.OCIRuntime(was.Image.OS, was.Image.Architecture) {
		return refuse(cove.Denied, "it has "+s.Runtime+" as its OCI runtime, which containers.conf does not: name it with --runtime, too")
	}
	s.Monitor, s.InitPath = "", ""
	s.LogPath, s.PidFile, s.ConmonPidFile, s.CIDFile = "", "", "", ""
	s.SDNotify, s.SDNotifySocket = "", ""
	if s.HostsFile != "image" && s.HostsFile != "none" {
		s.HostsFile = ""
	}
	return s, nil
}

// grants tells what a container gets of the host, and of other containers, beyond what
// one gets that nothing was asked for; hasVolume and hasNetwork tell whether there is a
// volume, or a network that not everyone is on, of a name.
func grants(s *cove.ContainerSpec, hasVolume, hasNetwork func(name string) bool) []string {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for _, flag := range []struct {
		name string
		on   bool
	}{
		{"--privileged", s.Privileged},
		{"--security-opt seccomp=" + s.Seccomp, s.Seccomp != ""},
		{"--security-opt apparmor=" + s.AppArmor, s.AppArmor != ""},
		{"--cgroup-parent " + s.CgroupParent, s.CgroupParent != ""},
		{"--cgroups " + s.Cgroups, s.Cgroups != "" && s.Cgroups != "enabled"},
		{"--log-driver " + s.LogDriver, strings.HasPrefix(s.LogDriver, "passthrough")},
		{"--publish-all", s.PublishAll},
		{"--restart " + s.Restart.Name, s.Restart.Name == "always" || s.Restart.Name == "unless-stopped"}, // with the host, too
	} {
		if flag.on {
			all = append(all, flag.name)
		}
	}
	for _, list := range []struct {
		name   string
		values []string
	}{
		{"--cap-add", s.CapAdd}, {"--security-opt label=", s.SELinux}, {"--security-opt unmask=", s.Unmask},
		{"--device-cgroup-rule", s.DeviceCgroupRules}, {"--volumes-from", s.VolumesFrom},
	} {
		for _, v := range list.values {
			if strings.HasSuffix(list.name, "=") {
				add("%s%s", list.name, v)
			} else {
				add("%s %s", list.name, v)
			}
		}
	}
	for _, ns := range []struct{ name, mode string }{
		{"pid", s.PID}, {"ipc", s.IPC}, {"uts", s.UTS}, {"cgroupns", s.CgroupNS}, {"userns", s.UserNS}, {"network", s.Network},
	} {
		if ns.mode == "host" || strings.HasPrefix(ns.mode, "ns:") {
			add("--%s %s", ns.name, ns.mode)
		}
	}
	for _, n := range s.Networks {
		if hasNetwork(n.Network) {
			add("--network %s", n.Network)
		}
	}
	for _, d := range s.Devices {
		add("--device %s", d.HostPath)
	}
	for _, m := range slices.Concat(s.Mounts, s.DefaultMounts) {
		if m.Type == "bind" || m.Type == "volume" && m.Source != "" && hasVolume(m.Source) {
			add("-v %s:%s", m.Source, filepath.Clean("/"+m.Destination))
		}
	}
	if adj := s.OOMScoreAdj; adj != nil && *adj < 0 { // others are killed for it
		add("--oom-score-adj %d", *adj)
	}
	for _, p := range s.Ports {
		add("-p %d:%d", p.HostPort, p.ContainerPort)
	}
	return all
}
