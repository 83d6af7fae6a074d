package spec

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Annotations that hooks and inspect know.
const (
	annotationManager    = "io.container.manager"
	annotationStopSignal = "org.opencontainers.image.stopSignal"
	annotationPrefix     = "io.podman.annotations."
)

// obeyed begin annotations that are orders to OCI runtimes and to hooks that
// distributions have packages of: crun's may load
// another seccomp filter, keep the caller's groups or write to a file of the
// host's, runc's set properties of systemd units and choose CRIU's configuration
// (what runtimes' features call potentiallyUnsafeConfigAnnotations); and those of
// kata and gVisor. The hook that traces system calls writes to the file that its own
// names, and cdi.k8s.io/ is devices. They are not an image's to give. Other
// annotations of an image meet hooks' conditions, as with podman: whoever has a
// hook that obeys annotations lets images order it.
var obeyed = []string{"run.oci.", "org.systemd.property.", "org.criu.", "io.katacontainers.", "dev.gvisor.", "io.containers.trace-syscall", "cdi.k8s.io/"}

// ofImage tells whether an image's annotation is the container's, too.
func ofImage(key string) bool {
	// The prefix of ours tells what was asked for; bundle is runc's own note.
	return key != "bundle" && !strings.HasPrefix(key, annotationPrefix) &&
		!slices.ContainsFunc(obeyed, func(order string) bool { return strings.HasPrefix(key, order) })
}

func (b *builder) annotations() error {
	a := b.out.Annotations
	for k, v := range b.c.Image.Annotations {
		if ofImage(k) {
			a[k] = v
		}
	}
	maps.Copy(a, b.in.Annotations)
	if _, ok := a[annotationManager]; !ok {
		a[annotationManager] = "cove"
	}
	signal, err := b.stopSignal()
	if err != nil {
		return err
	}
	a[annotationStopSignal] = strconv.Itoa(int(signal))
	for name, on := range map[string]bool{
		"autoremove":  b.in.Remove,
		"privileged":  b.in.Privileged,
		"init":        b.wantsInit(),
		"publish-all": b.in.PublishAll,
	} {
		if on {
			a[annotationPrefix+name] = "TRUE"
		}
	}
	if len(b.in.VolumesFrom) > 0 {
		a[annotationPrefix+"volumes-from"] = strings.Join(b.in.VolumesFrom, ";")
	}
	if b.in.Seccomp != "" {
		a[annotationPrefix+"seccomp"] = b.in.Seccomp
	}
	if b.in.AppArmor != "" {
		a[annotationPrefix+"apparmor"] = b.in.AppArmor
	}
	return nil
}

// maxSignal is the last real-time signal; the first that programs may use is
// 34, the C library keeps two.
const (
	minRealTime = 34
	maxSignal   = 64
)

// stopSignal is the user's, the image's or SIGTERM: a name with or without
// SIG, or a number.
func (b *builder) stopSignal() (syscall.Signal, error) {
	s := b.in.StopSignal
	if s == "" {
		s = b.c.Image.StopSignal
	}
	if s == "" {
		return syscall.SIGTERM, nil
	}
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > maxSignal {
			return 0, invalid("invalid signal: %s", s)
		}
		return syscall.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if n := unix.SignalNum("SIG" + name); n != 0 {
		return n, nil
	}
	for prefix, base := range map[string]int{"RTMIN+": minRealTime, "RTMAX-": -maxSignal} {
		if d, ok := strings.CutPrefix(name, prefix); ok {
			k, err := strconv.Atoi(d)
			if err == nil && k >= 0 && k <= maxSignal-minRealTime {
				return syscall.Signal(max(base+k, -base-k)), nil
			}
		}
	}
	switch name {
	case "RTMIN":
		return minRealTime, nil
	case "RTMAX":
		return maxSignal, nil
	}
	return 0, invalid("invalid signal: %s", s)
}
