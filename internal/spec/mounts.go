package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove"
)

// mounts puts together, later ones giving way to earlier at the same
// destination: the user's mounts, the files made for the container, the tmpfs of
// a read-only root and the kernel's file systems; then sorts them so that none
// covers another.
func (b *builder) mounts() error {
	user, err := b.userMounts()
	if err != nil {
		return err
	}
	var all []specs.Mount
	for _, m := range append(b.kernelMounts(), b.out.Mounts...) { // b.out.Mounts: devices bound in
		if b.taken[m.Destination] || b.taken["/dev"] && strings.HasPrefix(m.Destination, "/dev/") {
			continue
		}
		all = append(all, m)
	}
	mounted := slices.ContainsFunc(all, func(m specs.Mount) bool { return m.Destination == "/run" })
	for _, place := range b.tmpfsPlaces() {
		if !b.taken[place] {
			all = append(all, specs.Mount{Destination: place, Type: "tmpfs", Source: "tmpfs",
				Options: []string{"rw", "rprivate", "nosuid", "nodev", "tmpcopyup"}})
		}
	}
	if shm := b.shm(); shm != nil && !b.taken["/dev/shm"] {
		all = append(all, *shm)
	}
	all = append(all, b.files(mounted)...)
	if b.wantsInit() {
		if b.taken[initPath] {
			return invalid("conflict with mount added by --init to %q: duplicate mount destination", initPath)
		}
		source, err := cleanAbs(b.initSource())
		if err != nil {
			return invalid("path of the init binary %q is not absolute", b.initSource())
		}
		all = append(all, specs.Mount{Destination: initPath, Type: "bind", Source: source, Options: []string{"bind", "ro", "rprivate"}})
	}
	all = append(all, user...)
	slices.SortStableFunc(all, func(x, y specs.Mount) int { return depth(x.Destination) - depth(y.Destination) })
	b.out.Mounts = all
	if b.in.Privileged && b.taken["/dev"] {
		// The user's /dev has its own nodes; none are made in it.
		b.out.Linux.Devices = slices.DeleteFunc(b.out.Linux.Devices, func(d specs.LinuxDevice) bool {
			return strings.HasPrefix(d.Path, "/dev/")
		})
	}
	b.rootPropagation()
	return nil
}

func depth(p string) int {
	if p == "/" {
		return 0
	}
	return strings.Count(p, "/")
}

// rootPropagation makes the root as shared as its most shared mount asks,
// otherwise nothing would travel through it.
func (b *builder) rootPropagation() {
	for _, m := range b.out.Mounts {
		if m.Type != "bind" {
			continue
		}
		for _, o := range m.Options {
			switch o {
			case "shared", "rshared":
				b.out.Linux.RootfsPropagation = "shared"
			case "slave", "rslave":
				// Devices bound for a rootless container are slaves too, which
				// needs no propagation into it.
				if b.out.Linux.RootfsPropagation == "" && b.taken[m.Destination] {
					b.out.Linux.RootfsPropagation = "rslave"
				}
			}
		}
	}
}

// mayMountSys tells whether a new sysfs can be mounted: it shows the network
// namespace, so its owner must be the container's user namespace.
func (b *builder) mayMountSys() bool {
	own := b.userNS
	if b.modes.net.is("host") && (b.host.Rootless || own) {
		return false
	}
	if own {
		return !b.modes.net.joins() && b.host.NetNS == ""
	}
	return true
}

func (b *builder) kernelMounts() []specs.Mount {
	hostUsers := !b.host.Rootless && !b.userNS
	ms := []specs.Mount{b.proc(hostUsers), b.dev(), b.sys()}
	pts := specs.Mount{
		Destination: "/dev/pts", Type: "devpts", Source: "devpts",
		Options: []string{"rprivate", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"},
	}
	if b.hasTTYGroup() {
		pts.Options = append(pts.Options, "gid=5")
	}
	ms = append(ms, pts)
	if b.modes.ipc.is("host") && !hostUsers {
		ms = append(ms, specs.Mount{Destination: "/dev/mqueue", Type: "bind", Source: "/dev/mqueue",
			Options: []string{"bind", "nosuid", "noexec", "nodev"}})
	} else {
		ms = append(ms, specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue",
			Options: []string{"rprivate", "nosuid", "noexec", "nodev"}})
	}
	return append(ms, b.cgroup())
}

func (b *builder) proc(hostUsers bool) specs.Mount {
	if b.modes.pid.is("host") && !hostUsers {
		// The kernel refuses a new procfs of a pid namespace that the user
		// namespace does not own.
		return specs.Mount{Destination: "/proc", Type: "bind", Source: "/proc",
			Options: []string{"rbind", "rprivate", "nosuid", "noexec", "nodev"}}
	}
	return specs.Mount{Destination: "/proc", Type: "proc", Source: "proc",
		Options: []string{"nosuid", "noexec", "nodev"}}
}

func (b *builder) dev() specs.Mount {
	m := specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs",
		Options: []string{"nosuid", "noexec", "strictatime", "mode=755", "size=65536k"}}
	if b.readOnly && !b.in.ReadOnlyTmpfs {
		m.Options = append(m.Options, "ro")
	}
	return m
}

func (b *builder) access() string {
	if b.in.Privileged {
		return "rw"
	}
	return "ro"
}

func (b *builder) sys() specs.Mount {
	if !b.mayMountSys() {
		return specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys",
			Options: []string{"rprivate", "nosuid", "noexec", "nodev", b.access(), "rbind"}}
	}
	return specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs",
		Options: []string{"rprivate", "nosuid", "noexec", "nodev", b.access()}}
}

// seesHostCgroups tells that the container is in the host's cgroup namespace, or in
// the machine's first by its path. From there other OCI runtimes, too, would mount
// version 2 anew, which changes the options of the host's mount.
func (b *builder) seesHostCgroups() bool {
	if !b.host.CgroupV2 {
		return false
	}
	for _, ns := range b.out.Linux.Namespaces {
		if ns.Type == specs.CgroupNamespace {
			return ns.Path != "" && b.host.FirstCgroupNS(ns.Path)
		}
	}
	return true
}

func (b *builder) cgroup() specs.Mount {
	if b.seesHostCgroups() || !b.mayMountSys() && !b.dividesCgroup() {
		bind := "bind" // without what else the host has mounted there
		if b.host.Rootless || b.userNS {
			bind = "rbind" // which the kernel does not let them leave away
		}
		return specs.Mount{Destination: "/sys/fs/cgroup", Type: "bind", Source: "/sys/fs/cgroup",
			Options: []string{"rprivate", "nosuid", "noexec", "nodev", b.access(), bind}}
	}
	access := b.access()
	if b.dividesCgroup() {
		access = "rw"
	}
	// Only v2 with a namespace of its own can be written safely.
	if access == "ro" && b.host.CgroupV2 && b.modes.cgroup.is("private") {
		for _, p := range splitPaths(b.in.Unmask) {
			if strings.EqualFold(p, "all") || path.Clean(p) == "/sys/fs/cgroup" {
				access = "rw"
			}
		}
	}
	return specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup",
		Options: []string{"rprivate", "nosuid", "noexec", "nodev", "relatime", access}}
}

// ttyGroup is the group of terminals, tty, on every distribution.
const ttyGroup = 5

func (b *builder) hasTTYGroup() bool {
	if b.host.Rootless && b.host.AvailableGIDs > 0 && b.host.AvailableGIDs < ttyGroup {
		return false
	}
	if len(b.host.GIDMap) == 0 {
		return true
	}
	return slices.ContainsFunc(b.host.GIDMap, func(m specs.LinuxIDMapping) bool {
		return m.ContainerID <= ttyGroup && ttyGroup-m.ContainerID < m.Size
	})
}

// shm is the shared memory of the IPC namespace: the host's, a joined
// container's, a directory of the caller's that others can join, or a tmpfs of
// the container alone. --ipc none has none.
func (b *builder) shm() *specs.Mount {
	bind := func(source string) *specs.Mount {
		m := specs.Mount{Destination: "/dev/shm", Type: "bind", Source: source,
			Options: []string{"bind", "rprivate", "nosuid", "noexec", "nodev"}}
		if b.readOnly && !b.in.ReadOnlyTmpfs {
			m.Options = append(m.Options, "ro")
		}
		return &m
	}
	switch {
	case b.modes.ipc.is("none"):
		return nil
	case b.modes.ipc.is("host"):
		return bind("/dev/shm")
	case b.host.Files.Shm != "":
		return bind(b.host.Files.Shm)
	case b.modes.ipc.is("container"):
		return nil
	}
	size := int64(cove.DefaultShmSize)
	if b.in.ShmSize != nil {
		size = *b.in.ShmSize
	}
	m := specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
		Options: []string{"nosuid", "noexec", "nodev", "mode=1777"}}
	m.Options = append(m.Options, fmt.Sprintf("size=%d", size))
	if b.readOnly && !b.in.ReadOnlyTmpfs {
		m.Options = append(m.Options, "ro")
	}
	return &m
}

// tmpfsPlaces are those that are in memory: of a read-only container, and of one
// for systemd, which takes what it finds on a disk there for another boot's.
func (b *builder) tmpfsPlaces() []string {
	var places []string
	if b.readOnly && b.in.ReadOnlyTmpfs {
		places = append(places, "/run", "/tmp", "/var/tmp")
	}
	if b.c.Systemd {
		for _, p := range []string{"/run", "/tmp", "/run/lock", "/var/log/journal"} {
			if !slices.Contains(places, p) {
				places = append(places, p)
			}
		}
	}
	return places
}

// files are the binds of files made for the container, where neither a user's
// mount nor what was asked stands against them; mounted tells of a mount on /run.
func (b *builder) files(mounted bool) []specs.Mount {
	f := b.host.Files
	resolv := f.ResolvConf
	if b.modes.net.is("none") || slices.Contains(b.in.DNS, "none") {
		resolv = ""
	}
	hosts := f.Hosts
	if b.in.NoHosts {
		hosts = ""
	}
	hostname := f.Hostname
	if b.in.NoHostname {
		hostname = ""
	}
	env := f.ContainerEnv
	if b.taken["/run"] || mounted {
		env = "" // it would be made in what the user mounted there
	}
	var ms []specs.Mount
	for _, file := range append([]Bind{
		{hosts, "/etc/hosts"}, {resolv, "/etc/resolv.conf"}, {hostname, "/etc/hostname"},
		{env, "/run/.containerenv"}, {f.Localtime, "/etc/localtime"},
	}, f.Copies...) {
		at := func(m specs.Mount) bool { return m.Destination == file.Destination }
		if file.Source == "" || b.taken[file.Destination] || slices.ContainsFunc(ms, at) {
			continue
		}
		m := specs.Mount{Destination: file.Destination, Type: "bind", Source: file.Source,
			Options: []string{"bind", "rprivate"}}
		if b.readOnly {
			m.Options = append(m.Options, "ro", "nosuid", "noexec", "nodev")
		}
		ms = append(ms, m)
	}
	return ms
}

// userMounts turns the record's mounts into the runtime's, and notes their
// destinations.
func (b *builder) userMounts() ([]specs.Mount, error) {
	var out []specs.Mount
	first := map[string]cove.Mount{}
	for _, m := range b.c.Mounts {
		dest, err := cleanAbs(m.Destination)
		if err != nil {
			return nil, invalid("invalid container path %q, must be an absolute path", m.Destination)
		}
		if dest == "/" {
			return nil, invalid("invalid container path %q, destination can't be '/'", m.Destination)
		}
		if b.taken[dest] {
			if sameMount(first[dest], m) {
				continue
			}
			return nil, invalid("%s: duplicate mount destination", dest)
		}
		b.taken[dest] = true
		first[dest] = m
		m.Destination = dest
		made, err := b.userMount(m)
		if err != nil {
			return nil, err
		}
		out = append(out, made)
	}
	return out, nil
}

func sameMount(x, y cove.Mount) bool {
	return x.Type == y.Type && x.Source == y.Source && x.SubPath == y.SubPath && slices.Equal(x.Options, y.Options)
}

func (b *builder) userMount(m cove.Mount) (specs.Mount, error) {
	switch m.Type {
	case "bind":
		return b.bind(m)
	case "volume":
		return b.volume(m)
	case "tmpfs", "ramfs":
		return b.tmpfs(m)
	case "devpts":
		return devpts(m)
	case "mqueue":
		if len(m.Options) > 0 {
			return specs.Mount{}, badOption("mqueue mounts take no options, not %q", m.Options[0])
		}
		return specs.Mount{Destination: m.Destination, Type: "mqueue", Source: "mqueue",
			Options: []string{"nosuid", "noexec", "nodev"}}, nil
	case "image":
		return specs.Mount{}, unsupported("mount %s: mounts of type image are not supported", m.Destination)
	}
	return specs.Mount{}, invalid("invalid filesystem type %q", m.Type)
}

func (b *builder) bind(m cove.Mount) (specs.Mount, error) {
	source, err := cleanAbs(m.Source)
	if err != nil {
		return specs.Mount{}, invalid("invalid host path %q, must be an absolute path", m.Source)
	}
	var noexec, nosuid, nodev bool
	if b.host.MountFlags != nil {
		if noexec, nosuid, nodev, err = b.host.MountFlags(source); err != nil {
			return specs.Mount{}, err
		}
	}
	o, err := parseOptions(m.Options, false, b.host.Rootless, noexec, nosuid, nodev)
	if err != nil {
		return specs.Mount{}, err
	}
	return b.bound(m, source, "", o)
}

func (b *builder) volume(m cove.Mount) (specs.Mount, error) {
	if m.Source == "" || b.host.VolumePath == nil {
		return specs.Mount{}, cove.E("", "", cove.Internal, fmt.Errorf("volume for %s has no name or place", m.Destination))
	}
	source, err := b.host.VolumePath(m.Source)
	if err != nil {
		return specs.Mount{}, err
	}
	o, err := parseOptions(m.Options, false, b.host.Rootless, false, true, true)
	if err != nil {
		return specs.Mount{}, err
	}
	return b.bound(m, source, m.Source, o)
}

// bound makes the bind, or overlay, of source and notes the work it needs.
func (b *builder) bound(m cove.Mount, source, volume string, o mountOptions) (specs.Mount, error) {
	sub := m.SubPath
	if sub == "" {
		sub = o.subPath
	}
	if sub != "" {
		if b.host.SubPath == nil {
			return specs.Mount{}, unsupported("mount %s: subpath %q is not supported", m.Destination, sub)
		}
		if path.IsAbs(sub) || slices.Contains(strings.Split(sub, "/"), "..") {
			return specs.Mount{}, invalid("subpath %q must be relative and without '..'", sub)
		}
		var err error
		if source, err = b.host.SubPath(source, sub); err != nil {
			return specs.Mount{}, err
		}
	}
	work := MountWork{Destination: m.Destination, Source: source, Volume: volume,
		Chown: o.chown, Relabel: o.relabel, NoCopy: o.nocopy}
	made := specs.Mount{Destination: m.Destination, Type: "bind", Source: source, Options: o.oci}
	if o.overlay {
		var err error
		if made, err = b.overlay(&work, o); err != nil {
			return specs.Mount{}, err
		}
	}
	if volume != "" || work.Chown || work.Relabel != "" || work.Upper != "" {
		b.extra.Mounts = append(b.extra.Mounts, work)
	}
	return made, nil
}

// overlay shows work.Source with changes that go elsewhere: to directories of
// the user's, or to ones that are made anew at each start.
func (b *builder) overlay(work *MountWork, o mountOptions) (specs.Mount, error) {
	work.Upper, work.Work = o.upper, o.work
	if work.Upper == "" {
		if b.host.OverlayDir == "" {
			return specs.Mount{}, unsupported("mount %s: option O is not supported here", work.Destination)
		}
		sum := sha256.Sum256([]byte(work.Destination))
		dir := path.Join(b.host.OverlayDir, hex.EncodeToString(sum[:8]))
		work.Upper, work.Work, work.Temporary = path.Join(dir, "upper"), path.Join(dir, "work"), true
	}
	for _, p := range []string{work.Source, work.Upper, work.Work} {
		// Those characters divide overlay's options.
		if strings.ContainsAny(p, ":,\\") || !path.IsAbs(p) {
			return specs.Mount{}, unsupported("mount %s: option O with the path %q: it must be absolute, without colon, comma or backslash", work.Destination, p)
		}
	}
	options := []string{"lowerdir=" + work.Source, "upperdir=" + work.Upper, "workdir=" + work.Work, "private"}
	for _, opt := range o.oci {
		if slices.Contains([]string{"ro", "noexec", "nosuid", "nodev"}, opt) {
			options = append(options, opt)
		}
	}
	if b.host.Rootless || b.userNS {
		options = append(options, "userxattr")
	}
	return specs.Mount{Destination: work.Destination, Type: "overlay", Source: "overlay", Options: options}, nil
}

func (b *builder) tmpfs(m cove.Mount) (specs.Mount, error) {
	o, err := parseOptions(m.Options, true, b.host.Rootless, false, true, true)
	if err != nil {
		return specs.Mount{}, err
	}
	if o.chown {
		uid, gid := int(b.out.Process.User.UID), int(b.out.Process.User.GID)
		user, group, _ := strings.Cut(b.extra.User, ":")
		_, userOK, _ := parseID(user)
		_, groupOK, _ := parseID(group)
		if user != "" && !(userOK && groupOK) {
			if uid, gid, err = b.host.ImageUser(b.extra.User); err != nil {
				return specs.Mount{}, err
			}
		}
		o.oci = append(o.oci, fmt.Sprintf("uid=%d", uid), fmt.Sprintf("gid=%d", gid))
	}
	return specs.Mount{Destination: m.Destination, Type: m.Type, Source: m.Type, Options: o.oci}, nil
}

// devpts is a further terminal file system. Its options are numbers.
func devpts(m cove.Mount) (specs.Mount, error) {
	made := specs.Mount{Destination: m.Destination, Type: "devpts", Source: "devpts",
		Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666"}}
	for _, opt := range m.Options {
		key, value, _ := strings.Cut(opt, "=")
		switch key {
		case "rw":
		case "ro":
			made.Options = append(made.Options, opt)
		case "uid", "gid", "mode", "max":
			if value == "" || strings.Trim(value, "0123456789") != "" {
				return made, badOption("option %q of a devpts mount must be a number", opt)
			}
			made.Options = append(made.Options, opt)
		default:
			return made, badOption("unknown mount option %q", opt)
		}
	}
	return made, nil
}
