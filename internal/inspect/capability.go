package inspect

import (
	"slices"
	"strings"

	"github.com/cove-engine/cove"
)

// allCapabilities are those of Linux 6.
var allCapabilities = [...]string{
	"CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_AUDIT_WRITE", "CAP_BLOCK_SUSPEND", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
	"CAP_KILL", "CAP_LEASE", "CAP_LINUX_IMMUTABLE", "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE", "CAP_MKNOD", "CAP_NET_ADMIN",
	"CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_RAW", "CAP_PERFMON", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP",
	"CAP_SETUID", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_CHROOT", "CAP_SYS_MODULE", "CAP_SYS_NICE",
	"CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_WAKE_ALARM",
}

// capNames writes capabilities as the kernel's headers do, sorted.
func capNames(in []string) []string {
	out := []string{}
	for _, c := range in {
		c = strings.ToUpper(c)
		if c != "ALL" && !strings.HasPrefix(c, "CAP_") {
			c = "CAP_" + c
		}
		out = append(out, c)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// capabilities is the set that root has in the container.
func capabilities(c cove.Container) []string {
	s := c.Spec
	add, drop := capNames(s.CapAdd), capNames(s.CapDrop)
	if s.Privileged || slices.Contains(add, "ALL") {
		return without(allCapabilities[:], drop)
	}
	set := c.BaseCapabilities()
	if slices.Contains(drop, "ALL") {
		set = nil
		drop = nil
	}
	out := slices.Concat(without(set, drop), add)
	slices.Sort(out)
	return slices.Compact(out)
}

func without(set, drop []string) []string {
	return slices.DeleteFunc(slices.Clone(set), func(c string) bool { return slices.Contains(drop, c) })
}
