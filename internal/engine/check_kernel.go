package engine

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
	"github.com/cove-engine/cove/internal/procfs"
)

// cgroups looks for those of containers that do not run.
func (k *survey) cgroups() {
	layout, err := k.e.cgroups()
	if err != nil {
		k.fail(err)
		return
	}
	parents := map[string]bool{cgroupParent: true, path.Dir(scopeOf(&cove.Container{}).Path()): true}
	for _, c := range k.records {
		if c.CgroupManager == systemd {
			parents[path.Dir(scopeOf(c).Path())] = true
		} else if at := cgroupPath(c); at != "" {
			parents[path.Dir(at)] = true
		}
	}
	for parent := range parents {
		names, err := layout.List(parent)
		k.fail(err)
		for _, name := range names {
			id := strings.TrimSuffix(strings.TrimPrefix(name, "cove-"), ".scope")
			if !isID(id) || name != id && name != scopeName(id) || !k.traces[id] || k.running[id] {
				continue
			}
			at := path.Join(parent, name)
			dirs, err := layout.At(at)
			if err != nil {
				k.fail(err)
				continue
			}
			there := func() (bool, error) { return slices.ContainsFunc(dirs, exists), nil }
			if name != id { // systemd collects an empty one by itself
				there = func() (bool, error) { pids, err := cgroup.Pids(dirs); return len(pids) > 0, err }
			}
			k.leftover("cgroup", at, id, there,
				func() error {
					if err := cgroup.Kill(dirs, time.Now().Add(10*time.Second)); err != nil {
						return err
					}
					return cgroup.Remove(dirs)
				})
		}
	}
}

// delegation tells of a machine on which running containers could lift their own
// limits: a cgroup namespace keeps them from that with nsdelegate alone. systemd mounts
// version 2 with it, and with memory_recursiveprot, and other engines' runtimes take
// both away (procfs.FirstCgroupNamespace). From a namespace of its own nobody can set them.
func (k *survey) delegation() {
	at := ""
	lacks := func() (bool, error) {
		layout, err := cgroup.Detect() // anew
		at = layout.Mount
		return layout.Unified && !layout.NSDelegate, err
	}
	if is, err := lacks(); err != nil || !is || !procfs.FirstCgroupNamespace("/proc/self/ns/cgroup") {
		return // a fault is told of by who looks for cgroups
	}
	for id, runs := range k.running {
		if !runs {
			continue
		}
		now, err := k.now(id)
		k.fail(err)
		if now == nil || now.Run.PID == 0 || procfs.FirstCgroupNamespace("/proc/"+strconv.Itoa(now.Run.PID)+"/ns/cgroup") {
			continue
		}
		k.suspicions = append(k.suspicions, suspicion{
			Difference: Difference{Kind: "mount", Object: at, Problem: "it lacks nsdelegate, so that containers can lift their own limits: mount -o remount,nsdelegate,memory_recursiveprot " + at},
			still:      lacks,
		})
		return
	}
}

// mounts looks for what is mounted in containers' directories in our own mount
// namespace: containers mount in theirs.
func (k *survey) mounts() {
	base := k.e.conf.Containers() + "/"
	points := func() ([]string, error) {
		data, err := procfs.Read("/proc/self/mountinfo", 64<<20)
		var all []string
		for line := range strings.SplitSeq(string(data), "\n") {
			// Field 5 is the mount point, proc_pid_mountinfo(5).
			fields := strings.Fields(line)
			if len(fields) < 5 {
				continue
			}
			p := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4])
			if strings.HasPrefix(p, base) {
				all = append(all, p)
			}
		}
		return all, err
	}
	all, err := points()
	k.fail(err)
	slices.Reverse(all) // the last one is uppermost
	for _, p := range all {
		id, _, _ := strings.Cut(strings.TrimPrefix(p, base), "/")
		if k.running[id] {
			continue // cp and commit mount for a moment
		}
		k.leftover("mount", p, id,
			func() (bool, error) { now, err := points(); return slices.Contains(now, p), err },
			func() error { return unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) })
	}
}
