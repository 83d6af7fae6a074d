package spec

import (
	"math"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove"
)

// rlimitNames are those of setrlimit(2), as --ulimit writes them.
var rlimitNames = []string{
	"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice",
	"nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
}

// roomy is the limit of open files and processes where nobody says
// otherwise, podman's 1 Mi.
const roomy = 1 << 20

// rlimits sets what the user asked, what containers.conf says and, for open
// files and processes, podman's own default. Without CAP_SYS_RESOURCE a hard limit
// cannot be raised: a default is then lowered to fit, what the user asked by
// name is refused.
func (b *builder) rlimits() error {
	seen := map[string]bool{}
	for _, u := range b.in.Ulimits {
		l, err := b.rlimit(u)
		if err != nil {
			return err
		}
		if own, ok := b.host.Rlimits[u.Name]; ok && !b.host.SysResource && l.Hard > own.Hard {
			return unsupported("ulimit %s: hard limit %s is above this process's own %s and cannot be raised without CAP_SYS_RESOURCE",
				u.Name, limitText(l.Hard), limitText(own.Hard))
		}
		if seen[u.Name] { // the last one counts
			b.out.Process.Rlimits = slices.DeleteFunc(b.out.Process.Rlimits, func(o specs.POSIXRlimit) bool { return o.Type == l.Type })
		}
		seen[u.Name] = true
		b.out.Process.Rlimits = append(b.out.Process.Rlimits, l)
	}
	var lowered []string
	for _, u := range b.conf.Ulimits {
		if seen[u.Name] {
			continue
		}
		l, err := b.rlimit(u)
		if err != nil {
			return err
		}
		if b.fit(u.Name, &l) {
			lowered = append(lowered, u.Name)
		}
		seen[u.Name] = true
		b.out.Process.Rlimits = append(b.out.Process.Rlimits, l)
	}
	if len(lowered) > 0 {
		b.warn("Default ulimits of containers.conf are above this process's own and were lowered: %s", strings.Join(lowered, ", "))
	}
	for _, name := range []string{"nofile", "nproc"} {
		if seen[name] {
			continue
		}
		l := specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(name), Soft: roomy, Hard: roomy}
		b.fit(name, &l)
		if own, ok := b.host.Rlimits[name]; ok && b.host.Rootless {
			l.Soft = min(l.Soft, own.Soft)
		}
		b.out.Process.Rlimits = append(b.out.Process.Rlimits, l)
	}
	slices.SortFunc(b.out.Process.Rlimits, func(x, y specs.POSIXRlimit) int { return strings.Compare(x.Type, y.Type) })
	return nil
}

// fit lowers l to the caller's hard limit where it cannot be raised.
func (b *builder) fit(name string, l *specs.POSIXRlimit) bool {
	own, ok := b.host.Rlimits[name]
	if !ok || b.host.SysResource || l.Hard <= own.Hard {
		return false
	}
	l.Hard = own.Hard
	l.Soft = min(l.Soft, own.Hard)
	return true
}

func (b *builder) rlimit(u cove.Ulimit) (specs.POSIXRlimit, error) {
	l := specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name)}
	// "host" is --ulimit host: all of the caller's, taken apart by the cli.
	if !slices.Contains(rlimitNames, u.Name) {
		return l, invalid("invalid ulimit type: %s", u.Name)
	}
	if u.Soft < -1 || u.Hard < -1 {
		return l, invalid("ulimit %s: limits must be -1 or above, not %d:%d", u.Name, u.Soft, u.Hard)
	}
	l.Soft, l.Hard = limit(u.Soft), limit(u.Hard)
	if l.Soft > l.Hard {
		return l, invalid("ulimit soft limit must be less than or equal to hard limit: %d > %d", u.Soft, u.Hard)
	}
	return l, nil
}

func limit(v int64) uint64 {
	if v == -1 {
		return math.MaxUint64
	}
	return uint64(v)
}
