package seccomp

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// guarded are the calls that go.podman.io/common's profile leaves to the kernel,
// which asks for a capability itself, but not of who has made a user namespace: there
// he has all of them. docker's denies them to who lacks the capability.
var guarded = []struct {
	caps  []string // any of them opens the calls
	errno string
	names []string
}{
	{[]string{"CAP_SYS_ADMIN"}, "EPERM", []string{
		"fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "keyctl", "mount", "mount_setattr", "move_mount", "open_tree",
		"pivot_root", "setns", "umount", "umount2", "unshare",
	}},
	// Its flags are in memory, where no filter sees them: the C library takes clone then.
	{[]string{"CAP_SYS_ADMIN"}, "ENOSYS", []string{"clone3"}},
	{[]string{"CAP_SYS_ADMIN", "CAP_SYSLOG"}, "EPERM", []string{"syslog"}},
	{[]string{"CAP_SYS_BOOT"}, "EPERM", []string{"reboot"}},
	{[]string{"CAP_SYS_NICE"}, "EPERM", []string{"get_mempolicy", "mbind", "set_mempolicy"}},
	{[]string{"CAP_SYS_PTRACE"}, "EPERM", []string{"pidfd_getfd"}},
}

// newNamespaces are the flags of clone(2) that make one.
var newNamespaces = [...]uint64{
	unix.CLONE_NEWNS, unix.CLONE_NEWCGROUP, unix.CLONE_NEWUTS, unix.CLONE_NEWIPC, unix.CLONE_NEWUSER, unix.CLONE_NEWPID, unix.CLONE_NEWNET,
}

// closedFamilies are the address families that docker's profile denies: protocols
// that hardly anybody has looked at for years, the kernel's ciphers, and machines
// beside the container's.
var closedFamilies = [...]uint64{
	unix.AF_AX25, unix.AF_IPX, unix.AF_APPLETALK, unix.AF_NETROM, unix.AF_ROSE, unix.AF_DECnet, unix.AF_ECONET, unix.AF_ATMSVC,
	unix.AF_IRDA, unix.AF_WANPIPE, unix.AF_ISDN, unix.AF_CAIF, unix.AF_ALG, unix.AF_VSOCK,
}

// lastFamily is the newest that docker's profile knows.
const lastFamily = unix.AF_MCTP

// narrow takes from p, go.podman.io/common's profile, what docker's has not: the
// default of cove is never wider than either, but that keyctl and pivot_root, which
// docker's has for nobody, come back with CAP_SYS_ADMIN.
func narrow(p *profile) {
	taken := []string{"clone", "signal", "socket"}
	for _, g := range guarded {
		taken = append(taken, g.names...)
	}
	for i := range p.Syscalls {
		names := &p.Syscalls[i].Names
		*names = slices.DeleteFunc(slices.Clone(*names), func(n string) bool { return slices.Contains(taken, n) })
	}
	p.Syscalls = slices.DeleteFunc(p.Syscalls, func(r syscallRule) bool { return r.Name == "" && len(r.Names) == 0 })
	for _, g := range guarded {
		for _, c := range g.caps {
			p.Syscalls = append(p.Syscalls, syscallRule{Names: g.names, Action: specs.ActAllow, Includes: filter{Caps: []string{c}}})
		}
		p.Syscalls = append(p.Syscalls, syscallRule{Names: g.names, Action: specs.ActErrno, Errno: g.errno, Excludes: filter{Caps: g.caps}})
	}
	p.Syscalls = append(append(p.Syscalls, cloneRules()...), socketRules()...)
}

// cloneRules let nobody make a namespace who lacks CAP_SYS_ADMIN.
func cloneRules() []syscallRule {
	admin, others := filter{Caps: []string{"CAP_SYS_ADMIN"}}, filter{Caps: []string{"CAP_SYS_ADMIN"}}
	rules := []syscallRule{{Names: []string{"clone"}, Action: specs.ActAllow, Includes: admin}}
	for _, flags := range []struct {
		index uint
		archs filter
	}{{0, filter{}}, {1, filter{Archs: []string{"s390", "s390x"}}}} { // there the stack comes first: clone(2)
		without := others
		if flags.index == 0 {
			without.Archs = []string{"s390", "s390x"}
		}
		on := func(action specs.LinuxSeccompAction, errno string, mask, value uint64) {
			rules = append(rules, syscallRule{
				Names: []string{"clone"}, Action: action, Errno: errno, Includes: flags.archs, Excludes: without,
				Args: []specs.LinuxSeccompArg{{Index: flags.index, Op: specs.OpMaskedEqual, Value: mask, ValueTwo: value}},
			})
		}
		var all uint64
		for _, flag := range newNamespaces {
			all |= flag
			on(specs.ActErrno, "EPERM", flag, flag)
		}
		on(specs.ActAllow, "", all, 0)
	}
	return rules
}

// socketRules name each family, so that no two of them can hold for one call.
func socketRules() []syscallRule {
	var rules []syscallRule
	add := func(action specs.LinuxSeccompAction, errno string, includes, excludes filter, args ...specs.LinuxSeccompArg) {
		rules = append(rules, syscallRule{Names: []string{"socket"}, Action: action, Errno: errno, Args: args, Includes: includes, Excludes: excludes})
	}
	is := func(index uint, op specs.LinuxSeccompOperator, value uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: index, Op: op, Value: value}
	}
	for family := range uint64(lastFamily + 1) {
		of := is(0, specs.OpEqualTo, family)
		switch {
		case slices.Contains(closedFamilies[:], family):
			add(specs.ActErrno, "EPERM", filter{}, filter{}, of)
		case family == unix.AF_NETLINK:
			audit := filter{Caps: []string{"CAP_AUDIT_WRITE"}}
			add(specs.ActAllow, "", audit, filter{}, of)
			add(specs.ActErrno, "EINVAL", filter{}, audit, of, is(2, specs.OpEqualTo, unix.NETLINK_AUDIT))
			add(specs.ActAllow, "", filter{}, audit, of, is(2, specs.OpNotEqual, unix.NETLINK_AUDIT))
		default:
			add(specs.ActAllow, "", filter{}, filter{}, of)
		}
	}
	add(specs.ActErrno, "EPERM", filter{}, filter{}, is(0, specs.OpGreaterThan, lastFamily))
	return rules
}
