package spec

import (
	"maps"
	"strconv"
	"strings"
	"syscall"

	"github.com/cove-engine/cove/internal/signal"
)

// Annotations that hooks and inspect know.
const (
	annotationManager    = "io.container.manager"
	annotationStopSignal = "org.opencontainers.image.stopSignal"
	annotationPrefix     = "io.podman.annotations."
)

// annotations are the user's. An image's are not passed on: what OCI runtimes and
// hooks take for orders (crun's load another seccomp filter or write to a file of the
// host's) is not an image's to give, and podman 5 keeps them from both.
func (b *builder) annotations() error {
	a := b.out.Annotations
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
	if n, ok := signal.Parse(strings.TrimPrefix(s, "-")); ok { // as kill(1) has it
		return n, nil
	}
	return 0, invalid("invalid signal: %s", s)
}
