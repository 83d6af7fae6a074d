package spec

import (
	"path"
	"slices"
	"strings"
)

// maskedPaths and readonlyPaths are podman 5's (go.podman.io/common).
var maskedPaths = []string{
	"/proc/acpi",
	"/proc/kcore",
	"/proc/keys",
	"/proc/latency_stats",
	"/proc/sched_debug",
	"/proc/scsi",
	"/proc/timer_list",
	"/proc/timer_stats",
	"/sys/devices/virtual/powercap",
	"/sys/firmware",
	"/sys/fs/selinux",
	"/proc/interrupts",
}

var readonlyPaths = []string{
	"/proc/asound",
	"/proc/bus",
	"/proc/fs",
	"/proc/irq",
	"/proc/sys",
	"/proc/sysrq-trigger",
}

// kernelPaths hides what the kernel tells of the host.
func (b *builder) kernelPaths() error {
	l := b.out.Linux
	if !b.in.Privileged {
		for _, p := range append(slices.Clone(maskedPaths), b.host.MaskAlso...) {
			if masks, err := b.stillHidden(p); err != nil {
				return err
			} else if masks {
				l.MaskedPaths = append(l.MaskedPaths, p)
			}
		}
		for _, p := range readonlyPaths {
			if masks, err := b.stillHidden(p); err != nil {
				return err
			} else if masks {
				l.ReadonlyPaths = append(l.ReadonlyPaths, p)
			}
		}
		// The host's own /sys is bound in: root of no network namespace could
		// read its tracing and debugging files.
		if b.host.Rootless && !b.mayMountSys() {
			l.MaskedPaths = append(l.MaskedPaths, "/sys/kernel")
		}
	}
	for _, m := range splitPaths(b.in.Mask) {
		p, err := cleanAbs(m)
		if err != nil {
			return invalid("path to mask %q is not an absolute path", m)
		}
		if !slices.Contains(l.MaskedPaths, p) {
			l.MaskedPaths = append(l.MaskedPaths, p)
		}
	}
	return nil
}

// splitPaths takes path lists apart: --security-opt mask=/a:/b.
func splitPaths(lists []string) []string {
	var out []string
	for _, l := range lists {
		for p := range strings.SplitSeq(l, ":") {
			if p != "" {
				out = append(out, p)
			}
		}
	}
	return out
}

// stillHidden tells that no --security-opt unmask speaks of p. Patterns are
// path.Match's; ALL is all.
func (b *builder) stillHidden(p string) (bool, error) {
	for _, pattern := range splitPaths(b.in.Unmask) {
		if strings.EqualFold(pattern, "all") {
			return false, nil
		}
		match, err := path.Match(pattern, p)
		if err != nil {
			return false, invalid("path to unmask %q is a malformed pattern", pattern)
		}
		if match {
			return false, nil
		}
	}
	return true, nil
}
