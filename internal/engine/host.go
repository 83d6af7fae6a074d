package engine

import (
	"cmp"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/capability"
	"github.com/cove-engine/cove/internal/cgroup"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/seccomp"
	"github.com/cove-engine/cove/internal/spec"
)

// host gathers what a spec needs to know of this machine.
func (e *Engine) host(c *cove.Container, layout cgroup.Layout) (spec.Host, error) {
	h := spec.Host{
		Rootless: e.conf.Rootless, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
		BoundingCaps: boundingCaps(), Rlimits: ownRlimits(),
		// setrlimit(2) asks for the capability on the host, not in a user namespace.
		SysResource: hasCap(24) && !e.conf.Rootless,
		CgroupV2:    layout.Unified, CgroupsPath: cgroupPath(c), Missing: missingFeatures(layout),
		RootPath: e.conf.Merged(), Files: e.files(c), OverlayDir: filepath.Join(e.dir(c.ID), "overlays"),
		VolumePath: func(name string) (string, error) { return e.volumeData(name), nil },
		MountFlags: mountFlags, Devices: devicesAt, AllDevices: allDevices, LookupUser: lookupUser,
		ImageUser: func(user string) (uid, gid int, err error) { return e.imageUser(c, user) },
	}
	h.FirstCgroupNS = procfs.FirstCgroupNamespace
	h.OwnCgroup = layout.Unified && layout.Writable && h.CgroupsPath != ""
	if c.Spec.Rootfs != "" && !c.Spec.RootfsOverlay {
		h.RootPath = c.Spec.Rootfs
	}
	if h.SELinux = labelled(c); !h.SELinux {
		h.AppArmor = appArmor()
	}
	if e.conf.Rootless {
		for _, r := range procfs.OwnIDMap("gid_map") {
			h.AvailableGIDs += int(r.Size)
		}
	}
	if r := c.Spec.Resources; r.CpusetCPUs != "" || r.CpusetMems != "" {
		h.CPUs, h.MemoryNodes = online("cpu"), online("node")
	}
	h.Hostname, _ = os.Hostname()
	if paths, err := filepath.Glob("/sys/devices/system/cpu/cpu*/thermal_throttle"); err == nil {
		h.MaskAlso = paths
	}
	return h, nil
}

// online lists the processors ("cpu") or memory nodes ("node") that can be used,
// "" where the kernel does not tell.
func online(kind string) string {
	list, _ := procfs.Read("/sys/devices/system/"+kind+"/online", 4<<10)
	return strings.TrimSpace(string(list))
}

// namespaceModes are what was asked for, by the names in /proc/PID/ns.
func namespaceModes(s *cove.ContainerSpec) map[string]string {
	return map[string]string{"pid": s.PID, "ipc": s.IPC, "uts": s.UTS, "net": s.Network, "cgroup": s.CgroupNS, "user": s.UserNS}
}

// joined finds the namespaces of other containers that this one shares, and
// gives those containers. They must run.
func (e *Engine) joined(c *cove.Container, h *spec.Host) (others []Container, err error) {
	h.Joined = map[string]string{}
	for kind, mode := range namespaceModes(&c.Spec) {
		id, ok := strings.CutPrefix(mode, "container:")
		if !ok {
			continue
		}
		rec, err := e.find(id)
		if err != nil {
			return nil, err
		}
		other, err := e.look(rec)
		if err != nil {
			return nil, err
		}
		if kind == "ipc" && !e.shareable(&other.Container) {
			return nil, cove.E("", "", cove.Invalid, fmt.Errorf("cannot join the ipc namespace of container %s: it is not shareable", other.Name))
		}
		if other.Run.PID == 0 {
			return nil, cove.E("", "", cove.WrongStatus, fmt.Errorf("cannot join the %s namespace of container %s: it is not running", kind, other.Name))
		}
		if f, err := e.foreign(&other.Container); err == nil && f != nil && ownKernel(f.Runtime[0]) && (kind == "pid" || kind == "ipc" || kind == "uts") {
			return nil, cove.E("", "", cove.Unsupported, fmt.Errorf("cannot join the %s namespace of container %s: OCI runtime %s has a kernel of its own", kind, other.Name, other.Spec.Runtime))
		}
		if mode := namespaceModes(&other.Spec)[kind]; isForeign(&other.Container) && kind != "user" && kind != "cgroup" &&
			mode != "host" && !strings.Contains(mode, ":") && inOurs(other.Run.PID, kind) {
			return nil, keptFromHost(&other.Container, "namespaces")
		}
		h.Joined[kind] = fmt.Sprintf("/proc/%d/ns/%s", other.Run.PID, kind)
		others = append(others, other)
		if kind == "uts" {
			h.JoinedHostname = other.Hostname()
		}
	}
	return others, nil
}

// lookupUser finds one of the host's users, by name or number.
func lookupUser(name string) (spec.HostUser, bool) {
	u, err := user.Lookup(name)
	if err != nil {
		u, err = user.LookupId(name)
	}
	if err != nil {
		return spec.HostUser{}, false
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return spec.HostUser{}, false
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return spec.HostUser{Name: u.Username, FullName: u.Name, Home: u.HomeDir, UID: uint32(uid), GID: uint32(gid)}, err == nil
}

// sharedMemory opens the /dev/shm of the container whose IPC namespace is
// joined, as a mount namespace of its own.
func (e *Engine) sharedMemory(mode string) (int, error) {
	rec, err := e.find(strings.TrimPrefix(mode, "container:"))
	if err != nil {
		return -1, err
	}
	other, err := e.look(rec)
	if err != nil {
		return -1, err
	}
	fd, err := rootfs.Alone(other.Run.PID, other.Run.PIDStart, "/dev/shm")
	if err != nil {
		return -1, cove.E("join the shared memory of container", other.Name, cove.WrongStatus, err)
	}
	return fd, nil
}

// shareable tells whether other containers may join the IPC namespace.
func (e *Engine) shareable(c *cove.Container) bool {
	switch mode := cmp.Or(c.Spec.IPC, e.configuredFor(c).IPC); mode {
	case "private", "none":
		return false
	}
	return true
}

func boundingCaps() []string {
	var caps []string
	for n, name := range capability.Names() {
		if set, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0); err == nil && set == 1 {
			caps = append(caps, name)
		}
	}
	return caps
}

func hasCap(n uint) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	return data[n/32].Effective&(1<<(n%32)) != 0
}

var rlimitNumbers = map[string]int{
	"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE,
	"locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK, "msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE,
	"nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
	"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
}

func ownRlimits() map[string]spec.Rlimit {
	all := make(map[string]spec.Rlimit, len(rlimitNumbers))
	for name, n := range rlimitNumbers {
		var r unix.Rlimit
		if unix.Prlimit(0, n, nil, &r) == nil {
			all[name] = spec.Rlimit{Soft: r.Cur, Hard: r.Max}
		}
	}
	return all
}

func missingFeatures(layout cgroup.Layout) map[spec.Feature]bool {
	missing := map[spec.Feature]bool{}
	for name := range layout.Missing() {
		missing[spec.Feature(name)] = true // both rooms use the same words
	}
	return missing
}

func mountFlags(source string) (noexec, nosuid, nodev bool, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(source, &st); err != nil {
		return false, false, false, cove.E("", "", fileKind(err), fmt.Errorf("statfs %s: %w", source, err))
	}
	return st.Flags&unix.ST_NOEXEC != 0, st.Flags&unix.ST_NOSUID != 0, st.Flags&unix.ST_NODEV != 0, nil
}

// devicesAt gives the device at a path, or all below a directory.
func devicesAt(p string) ([]spec.Device, error) {
	info, err := os.Stat(p)
	if err != nil {
		return nil, cove.E("", "", cove.NoFile, fmt.Errorf("stat %s: no such file or directory", p))
	}
	if !info.IsDir() {
		d, ok := deviceNode(p)
		if !ok {
			return nil, cove.E("", "", cove.Invalid, fmt.Errorf("%s is not a device", p))
		}
		return []spec.Device{d}, nil
	}
	var all []spec.Device
	entries, err := os.ReadDir(p)
	if err != nil {
		return nil, cove.E("", "", fileKind(err), err)
	}
	for _, entry := range entries {
		name := filepath.Join(p, entry.Name())
		switch {
		case entry.IsDir():
			switch entry.Name() {
			case "pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev":
				continue
			}
			sub, err := devicesAt(name)
			if err != nil {
				continue // gone in between
			}
			all = append(all, sub...)
		case entry.Name() == "console":
		default:
			if entry.Type()&os.ModeSymlink != 0 {
				continue // what it leads to is named itself
			}
			if d, ok := deviceNode(name); ok {
				all = append(all, d)
			}
		}
	}
	return all, nil
}

func allDevices() ([]spec.Device, error) { return devicesAt("/dev") }

func deviceNode(p string) (spec.Device, bool) {
	var st unix.Stat_t
	if unix.Stat(p, &st) != nil {
		return spec.Device{}, false
	}
	d := spec.Device{Path: p, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)), Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		d.Type = 'c'
	case unix.S_IFBLK:
		d.Type = 'b'
	default:
		return d, false
	}
	return d, true
}

// filter compiles, or finds compiled, the seccomp profile asked for.
func (e *Engine) filter(profile string, caps []string) (seccomp.Program, error) {
	cache := seccomp.Cache{Dir: filepath.Join(e.conf.Base(), "seccomp")}
	target := seccomp.Target{Arch: runtime.GOARCH, Caps: caps}
	switch profile {
	case "unconfined":
		return seccomp.Program{}, nil
	case "":
		return cache.Default(target)
	}
	text, err := seccomp.Read(profile)
	if err != nil {
		return seccomp.Program{}, err
	}
	if target.Kernel, err = seccomp.RunningKernel(); err != nil {
		return seccomp.Program{}, err
	}
	return cache.Profile(text, target)
}
