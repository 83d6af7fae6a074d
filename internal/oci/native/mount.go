package native

import (
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/plan"
)

// attributes are mount options that concern the mount, not the file system:
// mount(8), mount_setattr(2). A name with recursive r in front of it acts on
// everything below, too (runtime-spec config.md, "Linux mount options").
var attributes = map[string]struct{ set, clear uint64 }{
	"ro":            {unix.MOUNT_ATTR_RDONLY, 0},
	"rw":            {0, unix.MOUNT_ATTR_RDONLY},
	"nosuid":        {unix.MOUNT_ATTR_NOSUID, 0},
	"suid":          {0, unix.MOUNT_ATTR_NOSUID},
	"nodev":         {unix.MOUNT_ATTR_NODEV, 0},
	"dev":           {0, unix.MOUNT_ATTR_NODEV},
	"noexec":        {unix.MOUNT_ATTR_NOEXEC, 0},
	"exec":          {0, unix.MOUNT_ATTR_NOEXEC},
	"noatime":       {unix.MOUNT_ATTR_NOATIME, 0},
	"atime":         {0, unix.MOUNT_ATTR__ATIME},
	"relatime":      {unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME},
	"norelatime":    {0, 0},
	"strictatime":   {unix.MOUNT_ATTR_STRICTATIME, 0},
	"nostrictatime": {0, unix.MOUNT_ATTR__ATIME},
	"nodiratime":    {unix.MOUNT_ATTR_NODIRATIME, 0},
	"diratime":      {0, unix.MOUNT_ATTR_NODIRATIME},
	"nosymfollow":   {unix.MOUNT_ATTR_NOSYMFOLLOW, 0},
	"symfollow":     {0, unix.MOUNT_ATTR_NOSYMFOLLOW},
}

var propagations = map[string]struct {
	mode      uint64
	recursive bool
}{
	"private": {unix.MS_PRIVATE, false}, "rprivate": {unix.MS_PRIVATE, true},
	"slave": {unix.MS_SLAVE, false}, "rslave": {unix.MS_SLAVE, true},
	"shared": {unix.MS_SHARED, false}, "rshared": {unix.MS_SHARED, true},
	"unbindable": {unix.MS_UNBINDABLE, false}, "runbindable": {unix.MS_UNBINDABLE, true},
}

// mount compiles one mount of a spec.
func mount(m *specs.Mount, o *Options) (plan.Mount, error) {
	out := plan.Mount{Target: path.Clean("/" + m.Destination), Type: m.Type, Source: m.Source}
	if len(m.UIDMappings)+len(m.GIDMappings) > 0 {
		if !o.Runtime {
			return out, unsupported("mount %s: uidMappings", m.Destination)
		}
		if len(m.UIDMappings) == 0 || len(m.GIDMappings) == 0 {
			return out, invalid("mount %s: uidMappings and gidMappings need each other", m.Destination)
		}
		out.IDMap = &plan.IDMapping{UIDs: ranges(m.UIDMappings), GIDs: ranges(m.GIDMappings)}
	}
	bind := m.Type == "bind"
	for _, opt := range m.Options {
		switch opt {
		case "bind":
			bind = true
			continue
		case "rbind":
			bind, out.Recursive = true, true
			continue
		case "": // which podman writes for /tmp of a systemd in a container
			continue
		case "defaults", "async", "nomand", "noiversion", "loud":
			continue
		case "silent", "iversion":
			// The mount API says nothing in the kernel's log, and a file system
			// that counts versions always does, since Linux 6.1.
			continue
		case "tmpcopyup":
			out.CopyUp = true
			continue
		case "notmpcopyup":
			continue
		case "sync", "dirsync", "mand":
			if o.Runtime { // words of fsconfig(2); a bind mount drops them, as mount(2) does
				out.Data = append(out.Data, opt)
				continue
			}
			return out, unsupported("mount %s: option %s", m.Destination, opt)
		case "idmap", "ridmap":
			if o.Runtime {
				if out.IDMap == nil {
					out.IDMap = &plan.IDMapping{} // the container's own
				}
				out.IDMap.Recursive = opt == "ridmap"
				continue
			}
			return out, unsupported("mount %s: option %s", m.Destination, opt)
		case "remount":
			return out, unsupported("mount %s: option %s", m.Destination, opt)
		}
		if p, ok := propagations[opt]; ok {
			out.Propagation, out.PropagationRec = p.mode, p.recursive
			continue
		}
		if a, ok := attributes[opt]; ok {
			out.Set = out.Set&^a.clear | a.set
			out.Clear = out.Clear&^a.set | a.clear
			continue
		}
		if a, ok := attributes[strings.TrimPrefix(opt, "r")]; ok && opt[0] == 'r' {
			out.RecSet |= a.set
			out.RecClear |= a.clear
			continue
		}
		out.Data = append(out.Data, opt)
	}
	if out.Set&unix.MOUNT_ATTR__ATIME != 0 {
		out.Clear |= unix.MOUNT_ATTR__ATIME
	}
	switch {
	case bind:
		if o.Runtime {
			out.Data = nil // the kernel would not read it, and runc hands it over
		}
		if slices.Contains(out.Data, "copy-symlink") {
			return out, invalid("mount %s: no-dereference is not supported by cove's own runtime; crun has it", m.Destination)
		}
		if len(out.Data) > 0 {
			return out, invalid("mount %s: %q is not an option of a bind mount", m.Destination, out.Data[0])
		}
		if !path.IsAbs(m.Source) {
			return out, invalid("mount %s: source %q is not absolute", m.Destination, m.Source)
		}
		out.Type = "bind"
	case out.IDMap != nil:
		return out, unsupported("mount %s: idmap of what is not a bind mount", m.Destination)
	case m.Type == "cgroup", m.Type == "cgroup2":
		if m.Type == "cgroup" {
			out.Subsystems = o.CgroupV1
		}
	case m.Type == "":
		return out, invalid("mount %s: it has no type", m.Destination)
	default:
		// A new file system has nothing to take away.
		out.Clear = 0
		for i, d := range out.Data {
			if d == "newinstance" { // every devpts is one since Linux 4.7
				out.Data = append(out.Data[:i:i], out.Data[i+1:]...)
				break
			}
		}
	}
	return out, nil
}

// label gives a new file system its SELinux label. Those of the types named
// here take one as an option, in a user namespace too (selinux_set_mnt_opts of
// the kernel); the others have what the host's policy says.
func label(m *plan.Mount, label string) {
	switch m.Type {
	case "tmpfs", "ramfs", "devpts", "overlay":
		if !slices.ContainsFunc(m.Data, func(d string) bool { return strings.HasPrefix(d, "context=") }) {
			m.Data = append(m.Data, "context="+label)
		}
	}
}

// MountOptions are the words of a mount that are not its file system's.
func MountOptions() []string {
	all := []string{
		"async", "bind", "defaults", "dirsync", "idmap", "loud", "mand", "noiversion", "nomand", "rbind", "ridmap", "silent", "sync", "tmpcopyup", "iversion", "lazytime", "nolazytime",
	}
	for name := range attributes {
		all = append(all, name)
		all = append(all, "r"+name)
	}
	for name := range propagations {
		all = append(all, name)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
