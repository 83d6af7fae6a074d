package spec

import (
	"maps"
	"slices"
	"strings"
)

// ipcSysctls are the kernel.* settings that belong to an IPC namespace.
var ipcSysctls = []string{
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall",
	"kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
}

// sysctls sets kernel settings that belong to one of the container's own
// namespaces, and refuses those of a namespace shared with the host: they would
// be the host's. A default of containers.conf is then left out instead.
func (b *builder) sysctls() error {
	set := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(b.conf.Sysctl)) {
		owner, err := sysctlOwner(key)
		if err != nil {
			return err
		}
		if b.shares(owner, true) == "" {
			set[key] = b.conf.Sysctl[key]
		}
	}
	for _, key := range slices.Sorted(maps.Keys(b.in.Sysctl)) {
		owner, err := sysctlOwner(key)
		if err != nil {
			return err
		}
		if name := b.shares(owner, false); name != "" {
			return invalid("sysctl %s=%s can't be set since %s Namespace set to host: invalid argument", key, b.in.Sysctl[key], name)
		}
		set[key] = b.in.Sysctl[key]
	}
	if len(set) > 0 {
		b.out.Linux.Sysctl = set
	}
	return nil
}

// sysctlOwner gives the kind of namespace that key belongs to. An empty part
// would let "..", a path, through.
func sysctlOwner(key string) (string, error) {
	if slices.Contains(strings.Split(key, "."), "") || strings.ContainsAny(key, "\x00\n ") {
		return "", invalid("sysctl %q is not allowed", key)
	}
	switch {
	case slices.Contains(ipcSysctls, key), strings.HasPrefix(key, "fs.mqueue."):
		return "ipc", nil
	case strings.HasPrefix(key, "net."):
		return "net", nil
	}
	return "", invalid("sysctl %q is not allowed", key)
}

// shares names the namespace when it is the host's, or with joined also
// another container's.
func (b *builder) shares(owner string, joined bool) string {
	m, name := b.modes.net, "Network"
	if owner == "ipc" {
		m, name = b.modes.ipc, "IPC"
	}
	if m.is("host") || joined && m.joins() {
		return name
	}
	return ""
}
