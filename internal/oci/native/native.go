// Package native compiles an OCI runtime spec into the plan that cove's own
// init carries out (internal/plan). It is pure but for looking at which
// namespaces the spec asks for by path: those are left to the caller to open.
//
// A field of the spec that it does not carry out is refused by name, never
// ignored.
package native

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/capability"
	"github.com/cove-engine/cove/internal/plan"
)

// Options are what the OCI spec has no words for.
type Options struct {
	Overlay       *plan.Overlay // mounted on the spec's root path; nil: the path is the root
	User          string        // user[:group] to be looked up inside
	Groups        []string
	CreateWorkDir bool
	SetHome       bool
	Keyring       string // session keyring's name
	Seccomp       []byte // compiled filter
	SeccompFlags  uint
	Rows, Cols    uint16
	// CgroupV1 are the container's cgroups by name, for the view in
	// /sys/fs/cgroup; empty on version 2.
	CgroupV1 [][2]string
	// UserNamespace says that device nodes cannot be made: the engine runs
	// inside a user namespace.
	UserNamespace bool
	// LoopbackUp: nobody else configures the new network namespace.
	LoopbackUp bool
	// JoinShm: /dev/shm is that of another container.
	JoinShm bool
	// SELinux: the host has it, so that labels mean something.
	SELinux bool
	// Runtime: the OCI runtime's program carries the plan out, which can do
	// more (oci.go).
	Runtime bool
}

// Join is a namespace that the spec names by path.
type Join struct {
	Flag int // CLONE_NEW*
	Path string
}

// Compiled is what a spec has become.
type Compiled struct {
	Plan  plan.Plan
	Clone uintptr // CLONE_NEW* flags of init
	Joins []Join
}

var namespaceFlags = map[specs.LinuxNamespaceType]int{
	specs.PIDNamespace:     unix.CLONE_NEWPID,
	specs.NetworkNamespace: unix.CLONE_NEWNET,
	specs.MountNamespace:   unix.CLONE_NEWNS,
	specs.IPCNamespace:     unix.CLONE_NEWIPC,
	specs.UTSNamespace:     unix.CLONE_NEWUTS,
	specs.UserNamespace:    unix.CLONE_NEWUSER,
	specs.CgroupNamespace:  unix.CLONE_NEWCGROUP,
	specs.TimeNamespace:    unix.CLONE_NEWTIME,
}

// CloneFlags are the flags of init for a spec, and the namespaces it joins
// instead. They are needed before the rest of the spec is known.
func CloneFlags(namespaces []specs.LinuxNamespace) (clone uintptr, joins []Join, cgroup bool, err error) {
	for _, ns := range namespaces {
		flag, ok := namespaceFlags[ns.Type]
		switch {
		case !ok:
			return 0, nil, false, unsupported("linux.namespaces: %s", ns.Type)
		case ns.Path != "":
			joins = append(joins, Join{flag, ns.Path})
		case ns.Type == specs.TimeNamespace: // by init, too
		case ns.Type == specs.CgroupNamespace:
			// Made by init itself, once it is in its cgroups.
			cgroup = true
		default:
			clone |= uintptr(flag)
		}
	}
	return clone, joins, cgroup, nil
}

// Compile makes the plan for a spec.
func Compile(s *specs.Spec, o Options) (*Compiled, error) {
	if s.Process == nil || s.Root == nil || s.Linux == nil {
		return nil, invalid("a spec needs process, root and linux")
	}
	if s.Linux.MountLabel != "" && !o.SELinux {
		return nil, invalid("linux.mountLabel: this host has no SELinux")
	}
	var more *plan.OCI
	var err error
	if o.Runtime {
		more, err = outside(s)
	} else {
		err = refuse(s)
	}
	if err != nil {
		return nil, err
	}
	c := &Compiled{Plan: plan.Plan{
		Version: plan.Version, Hostname: s.Hostname, Domainname: s.Domainname,
		Masked: s.Linux.MaskedPaths, ReadOnly: s.Linux.ReadonlyPaths,
		Root:       plan.Root{Path: s.Root.Path, Overlay: o.Overlay, ReadOnly: s.Root.Readonly},
		LoopbackUp: o.LoopbackUp, MountLabel: s.Linux.MountLabel, Hooks: Hooks(s.Hooks), OCI: more,
	}}
	if c.Clone, c.Joins, c.Plan.CgroupNS, err = CloneFlags(s.Linux.Namespaces); err != nil {
		return nil, err
	}
	if c.Plan.Root.Propagation, err = rootPropagation(s.Linux.RootfsPropagation); err != nil {
		return nil, err
	}
	for i := range s.Mounts {
		m, err := mount(&s.Mounts[i], &o)
		if err != nil {
			return nil, err
		}
		if s.Linux.MountLabel != "" {
			label(&m, s.Linux.MountLabel)
		}
		if m.Target == "/dev" && m.Type == "tmpfs" {
			c.Plan.SetupDev = true
		}
		if o.Runtime && m.Target == "/dev" && m.Type == "tmpfs" && m.Set&unix.MOUNT_ATTR_RDONLY != 0 {
			m.Set &^= unix.MOUNT_ATTR_RDONLY
			more.DevReadOnly = true
		}
		c.Plan.Mounts = append(c.Plan.Mounts, m)
	}
	if o.Runtime {
		// As from runc: whatever /dev is, unless it is somebody's.
		c.Plan.SetupDev = !slices.ContainsFunc(c.Plan.Mounts, func(m plan.Mount) bool { return m.Type == "bind" && m.Target == "/dev" })
	}
	if o.JoinShm && !slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/dev/shm" }) {
		c.Plan.Mounts = append(c.Plan.Mounts, plan.Mount{
			Target: "/dev/shm", Type: "shm", Set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC,
		})
	}
	if c.Plan.Devices, err = devices(s, c.Plan.SetupDev, o.UserNamespace); err != nil {
		return nil, err
	}
	for k, v := range s.Linux.Sysctl {
		c.Plan.Sysctl = append(c.Plan.Sysctl, [2]string{k, v})
	}
	c.Plan.Process, err = Process(s.Process, &o)
	c.Plan.Process.MakeCwd = c.Plan.Process.MakeCwd || o.Runtime // as runc
	c.Plan.Process.KeepGroups = s.Annotations[cove.KeepGroups] == "1"
	return c, err
}

func rootPropagation(word string) (uint64, error) {
	switch word {
	case "":
		return 0, nil
	case "private", "rprivate":
		return unix.MS_REC | unix.MS_PRIVATE, nil
	case "slave", "rslave":
		return unix.MS_REC | unix.MS_SLAVE, nil
	case "unbindable", "runbindable":
		return 0, nil // of the root itself: outside
	case "shared", "rshared":
		return unix.MS_REC | unix.MS_SLAVE, nil // mounts of ours never travel to the host unless a bind asks for it
	}
	return 0, invalid("linux.rootfsPropagation: %q is not a mode of propagation", word)
}

// refuse names what of the spec is not carried out here.
func refuse(s *specs.Spec) error {
	l := s.Linux
	if err := foreign(s); err != nil {
		return err
	}
	switch {
	case l.Personality != nil:
		return unsupported("linux.personality")
	case len(l.TimeOffsets) > 0:
		return unsupported("linux.timeOffsets")
	case slices.ContainsFunc(l.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.TimeNamespace }):
		return unsupported("linux.namespaces: time")
	case len(l.UIDMappings)+len(l.GIDMappings) > 0:
		return unsupported("linux.uidMappings")
	case len(l.NetDevices) > 0:
		return unsupported("linux.netDevices")
	case l.MemoryPolicy != nil:
		return unsupported("linux.memoryPolicy")
	case s.Process.Scheduler != nil:
		return unsupported("process.scheduler")
	case s.Process.IOPriority != nil:
		return unsupported("process.ioPriority")
	case s.Process.ExecCPUAffinity != nil:
		return unsupported("process.execCPUAffinity")
	}
	return nil
}

func devices(s *specs.Spec, fresh, bind bool) ([]plan.Device, error) {
	var all []plan.Device
	if fresh {
		// runtime-spec config-linux.md, "Default Devices".
		for _, d := range []plan.Device{
			{Path: "/dev/null", Major: 1, Minor: 3}, {Path: "/dev/zero", Major: 1, Minor: 5}, {Path: "/dev/full", Major: 1, Minor: 7},
			{Path: "/dev/random", Major: 1, Minor: 8}, {Path: "/dev/urandom", Major: 1, Minor: 9}, {Path: "/dev/tty", Major: 5, Minor: 0},
		} {
			d.Type, d.Mode = unix.S_IFCHR, 0o666
			all = append(all, d)
		}
	}
	for _, d := range s.Linux.Devices {
		if !path.IsAbs(d.Path) {
			return nil, invalid("linux.devices: %q is not absolute", d.Path)
		}
		p := plan.Device{Path: d.Path, Major: uint32(d.Major), Minor: uint32(d.Minor), Mode: 0o666}
		if d.FileMode != nil {
			p.Mode = uint32(d.FileMode.Perm())
		}
		if d.UID != nil {
			p.UID = int(*d.UID)
		}
		if d.GID != nil {
			p.GID = int(*d.GID)
		}
		switch d.Type {
		case "c", "u":
			p.Type = unix.S_IFCHR
		case "b":
			p.Type = unix.S_IFBLK
		case "p":
			p.Type = unix.S_IFIFO
		default:
			return nil, invalid("linux.devices: %s: %q is not a type of device", d.Path, d.Type)
		}
		replaced := false
		for i := range all {
			if all[i].Path == p.Path {
				all[i], replaced = p, true
			}
		}
		if !replaced {
			all = append(all, p)
		}
	}
	if bind {
		for i := range all {
			all[i].Host = all[i].Path
		}
	}
	return all, nil
}

// Process compiles the process of a spec, for init and for exec alike.
func Process(p *specs.Process, o *Options) (plan.Process, error) {
	if p.SelinuxLabel != "" && !o.SELinux {
		return plan.Process{}, invalid("process.selinuxLabel: this host has no SELinux")
	}
	if err := checkUser(&p.User); err != nil {
		return plan.Process{}, err
	}
	out := plan.Process{
		Args: p.Args, Env: p.Env, Cwd: p.Cwd, MakeCwd: o.CreateWorkDir,
		User: o.User, Groups: o.Groups, SetHome: o.SetHome,
		UID: p.User.UID, GID: p.User.GID, GIDs: p.User.AdditionalGids, Umask: p.User.Umask,
		NoNewPrivs: p.NoNewPrivileges, OOMScoreAdj: p.OOMScoreAdj, Terminal: p.Terminal,
		AppArmor: p.ApparmorProfile, SELinux: p.SelinuxLabel,
		Seccomp: o.Seccomp, SeccompFlags: o.SeccompFlags, Rows: o.Rows, Cols: o.Cols, Keyring: o.Keyring,
	}
	if out.Rows == 0 && p.ConsoleSize != nil {
		out.Rows, out.Cols = uint16(p.ConsoleSize.Height), uint16(p.ConsoleSize.Width)
	}
	if len(p.Args) == 0 {
		return out, cove.E("", "", cove.Invalid, errors.New("no command specified on command line or in the image"))
	}
	for _, r := range p.Rlimits {
		n, ok := rlimits[strings.TrimPrefix(r.Type, "RLIMIT_")]
		if !ok {
			return out, invalid("process.rlimits: %s is not a limit", r.Type)
		}
		out.Rlimits = append(out.Rlimits, plan.Rlimit{Resource: n, Soft: r.Soft, Hard: r.Hard})
	}
	if c := p.Capabilities; c != nil {
		for _, set := range []struct {
			names []string
			bits  *uint64
		}{
			{c.Bounding, &out.Caps.Bounding}, {c.Effective, &out.Caps.Effective}, {c.Permitted, &out.Caps.Permitted},
			{c.Inheritable, &out.Caps.Inheritable}, {c.Ambient, &out.Caps.Ambient},
		} {
			for _, name := range set.names {
				n, ok := capability.Number(name)
				if !ok {
					return out, invalid("process.capabilities: %s is not a capability", name)
				}
				*set.bits |= 1 << n
			}
		}
		// No others can be: capabilities(7).
		out.Caps.Ambient &= out.Caps.Permitted & out.Caps.Inheritable
	}
	return out, nil
}

// checkUser refuses the number that to setresuid(2) means "as before", and would
// leave the process root.
func checkUser(u *specs.User) error {
	const nobody = 1<<32 - 1
	switch {
	case u.UID == nobody:
		return invalid("process.user.uid: %d is not a user", u.UID)
	case u.GID == nobody:
		return invalid("process.user.gid: %d is not a group", u.GID)
	case slices.Contains(u.AdditionalGids, nobody):
		return invalid("process.user.additionalGids: %d is not a group", uint32(nobody))
	}
	return nil
}

func unsupported(format string, args ...any) error {
	return cove.E("", "", cove.Unsupported, fmt.Errorf(format+" is not supported by cove's own runtime", args...))
}

func invalid(format string, args ...any) error {
	return cove.E("", "", cove.Invalid, fmt.Errorf(format, args...))
}
