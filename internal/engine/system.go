package engine

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
	"github.com/cove-engine/cove/internal/config"
	"github.com/cove-engine/cove/internal/event"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/inspect"
	"github.com/cove-engine/cove/internal/procfs"
)

// Info describes the host, the stores and the registries in podman's shape.
// The program's version is the command line's to add. What cannot be found
// out is left empty: info is asked for when something is wrong.
func (e *Engine) Info(ctx context.Context) (inspect.Info, error) {
	layout, err := e.cgroups()
	if err != nil {
		return inspect.Info{}, err
	}
	info := inspect.Info{
		Host: e.hostInfo(ctx, layout),
		Plugins: inspect.PluginInfo{
			Volume: []string{"local"}, Network: []string{"bridge"}, Log: []string{"k8s-file", "json-file", "none", "passthrough", "journald"},
		},
	}
	if info.Store, err = e.storeInfo(ctx); err != nil {
		return info, err
	}
	info.Registries, err = registryInfo(e.conf.Rootless)
	return info, err
}

func (e *Engine) hostInfo(ctx context.Context, layout cgroup.Layout) inspect.HostInfo {
	conf := e.conf.File
	h := inspect.HostInfo{
		Arch: runtime.GOARCH, OS: runtime.GOOS, CPUs: runtime.NumCPU(),
		CgroupManager: e.cgroupManager(), CgroupsVersion: "v1", CgroupControllers: controllers(layout),
		CPUUtilization: cpuUsage(cpuTicks()), DatabaseBackend: e.backend, Distribution: distribution(),
		EventLogger: event.Backend(conf.Engine.EventsLogger), LogDriver: e.logDriver(&cove.Container{}), Linkmode: "static",
		NetworkBackend: "native", NetworkBackendInfo: inspect.NetworkInfo{Backend: "native", Version: cove.Version},
		OCIRuntime: &inspect.RuntimeInfo{Name: "cove", Version: cove.Version},
		Conmon:     &inspect.ProgramInfo{Version: "cove-monitor version " + cove.Version},
	}
	if layout.Unified {
		h.CgroupsVersion = "v2"
	}
	h.IgnoredSettings, h.UnusedSettings = places(e.conf.Unfollowed()), places(e.conf.Unused())
	if path, err := e.monitor(); err == nil {
		h.OCIRuntime.Path, h.Conmon.Path = path, path
	}
	if name := e.conf.OCIRuntime(runtime.GOOS, runtime.GOARCH); name != "" {
		h.OCIRuntime = e.runtimeInfo(ctx, name)
	}
	if name, err := e.conf.Monitor(); err == nil && name != "" {
		if program, err := e.conmonProgram(name); err == nil {
			h.Conmon.Path = program
			if version, err := askConmon(ctx, program); err == nil {
				h.Conmon.Version = version
			}
		}
	}
	h.Hostname, _ = os.Hostname()
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		h.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	mem := memInfo()
	h.MemTotal, h.MemFree, h.SwapTotal, h.SwapFree = mem["MemTotal"], mem["MemFree"], mem["SwapTotal"], mem["SwapFree"]
	if up, ok := procfs.Uptime(); ok {
		h.Uptime = uptimeText(up)
	}
	h.Security = e.securityInfo()
	h.Pasta, h.Slirp4NetNS = e.helperInfo("pasta"), e.helperInfo("slirp4netns")
	h.RemoteSocket.Path = remoteSocket(e.conf.Rootless)
	h.RemoteSocket.Exists = exists(h.RemoteSocket.Path)
	h.RootlessNetworkCmd = conf.Network.DefaultRootlessNetworkCmd
	if e.conf.Rootless {
		h.IDMappings = inspect.IDMappings{UIDMap: ownIDMap("/proc/self/uid_map"), GIDMap: ownIDMap("/proc/self/gid_map")}
	}
	return h
}

// runtimeInfo is about another OCI runtime, which may be not there.
func (e *Engine) runtimeInfo(ctx context.Context, name string) *inspect.RuntimeInfo {
	info := &inspect.RuntimeInfo{Name: filepath.Base(name)}
	program, err := e.runtimeProgram(name)
	if err != nil {
		return info
	}
	info.Path = program
	if out, err := askProgram(ctx, program, "--version"); err == nil {
		info.Version = strings.TrimSpace(string(out[:min(len(out), 4096)]))
	}
	return info
}

// places names keys and where they are set.
func places(keys []config.Key) (all []string) {
	for _, k := range keys {
		all = append(all, k.Name+" ("+k.Place()+")")
	}
	return all
}

// helperInfo looks for a program that connects ordinary users' networks.
func (e *Engine) helperInfo(name string) inspect.HelperInfo {
	program, err := e.networkProgram(name)
	if err != nil {
		return inspect.HelperInfo{}
	}
	h := inspect.HelperInfo{Executable: program}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, program, "--version").Output(); err == nil {
		h.Version = strings.TrimSpace(string(out[:min(len(out), 4096)]))
	}
	return h
}

// remoteSocket is where podman's service listens: programs that look for it in
// info find one that is running.
func remoteSocket(rootless bool) string {
	dir := "/run"
	if rootless {
		if dir = os.Getenv("XDG_RUNTIME_DIR"); dir == "" {
			dir = "/run/user/" + strconv.Itoa(unix.Geteuid())
		}
	}
	return dir + "/podman/podman.sock"
}

// controllers are those that containers can be limited with, in the order in
// which podman lists them.
func controllers(layout cgroup.Layout) []string {
	have := layout.Available()
	out := []string{}
	for _, name := range []string{"cpuset", "cpu", "cpuacct", "io", "blkio", "memory", "devices", "freezer", "hugetlb", "pids", "rdma", "misc"} {
		if have[name] {
			out = append(out, name)
		}
	}
	return out
}

// cpuUsage turns ticks since boot into shares of a hundred.
func cpuUsage(ticks []uint64) *inspect.CPUUsage {
	var total uint64
	for _, t := range ticks {
		total += t
	}
	if total == 0 {
		return nil
	}
	percent := func(n uint64) float64 {
		v, _ := strconv.ParseFloat(fmt.Sprintf("%.2f", 100*float64(n)/float64(total)), 64)
		return v
	}
	return &inspect.CPUUsage{UserPercent: percent(ticks[0] + ticks[1]), SystemPercent: percent(ticks[2] + ticks[5] + ticks[6]), IdlePercent: percent(ticks[3] + ticks[4])}
}

// memInfo reads /proc/meminfo, proc_meminfo(5), in bytes.
func memInfo() map[string]int64 {
	data, _ := procfs.Read("/proc/meminfo", 64<<10)
	out := map[string]int64{}
	for line := range strings.SplitSeq(string(data), "\n") {
		name, rest, _ := strings.Cut(line, ":")
		if fields := strings.Fields(rest); len(fields) == 2 && fields[1] == "kB" {
			n, _ := strconv.ParseInt(fields[0], 10, 64)
			out[name] = n << 10
		}
	}
	return out
}

// uptimeText is podman's form: "49h 3m 12.00s (Approximately 2.04 days)".
func uptimeText(d time.Duration) string {
	text := fmt.Sprintf("%dh %dm %.2fs", int64(d.Hours()), int64(d.Minutes())%60, float64(int64(d.Seconds())%60))
	if d >= time.Hour {
		text += fmt.Sprintf(" (Approximately %.2f days)", d.Hours()/24)
	}
	return text
}

// distribution reads os-release(5).
func distribution() inspect.DistributionInfo {
	var d inspect.DistributionInfo
	data, err := procfs.Read("/etc/os-release", 64<<10)
	if err != nil {
		data, _ = procfs.Read("/usr/lib/os-release", 64<<10)
	}
	s := bufio.NewScanner(bytes.NewReader(data))
	for s.Scan() {
		key, value, _ := strings.Cut(s.Text(), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "ID":
			d.Distribution = value
		case "VARIANT_ID":
			d.Variant = value
		case "VERSION_ID":
			d.Version = value
		case "VERSION_CODENAME":
			d.Codename = value
		}
	}
	if d.Distribution == "" {
		d.Distribution, d.Version = "unknown", "unknown"
	}
	return d
}

func (e *Engine) securityInfo() inspect.SecurityInfo {
	s := inspect.SecurityInfo{Rootless: e.conf.Rootless}
	now := cove.Container{}
	if d, err := e.configuredNow(); err == nil {
		now.Configured = d
	}
	s.DefaultCapabilities = strings.Join(now.BaseCapabilities(), ",")
	s.SECCOMPProfilePath = cmp.Or(now.Defaults().Seccomp, "default")
	s.AppArmorEnabled, s.SELinuxEnabled = appArmor(), seLinux()
	// EINVAL means a kernel without seccomp, prctl(2).
	_, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	s.SECCOMPEnabled = err == nil
	return s
}

func ownIDMap(path string) []inspect.IDMap {
	data, _ := procfs.Read(path, 64<<10)
	var out []inspect.IDMap
	for _, r := range procfs.ParseIDMap(data) {
		out = append(out, inspect.IDMap{ContainerID: int(r.Inside), HostID: int(r.Outside), Size: int(r.Size)})
	}
	return out
}

func (e *Engine) storeInfo(ctx context.Context) (inspect.StoreInfo, error) {
	s := inspect.StoreInfo{
		ConfigFile: storageConf(e.conf.Rootless), GraphDriverName: e.conf.Driver, GraphOptions: map[string]any{},
		GraphRoot: e.conf.GraphRoot, GraphStatus: map[string]string{}, RunRoot: e.conf.RunRoot, VolumePath: e.conf.Volumes(),
		TransientStore: e.conf.Transient,
	}
	s.ImageCopyTmpDir, _ = e.conf.File.ImageCopyTmpDir()
	for _, o := range e.conf.DriverOptions {
		k, v, _ := strings.Cut(o, "=")
		s.GraphOptions[k] = v
	}
	var st unix.Statfs_t
	if unix.Statfs(existing(e.conf.GraphRoot), &st) == nil {
		unit := uint64(st.Bsize)
		s.GraphRootAllocated, s.GraphRootUsed = st.Blocks*unit, (st.Blocks-st.Bfree)*unit
		s.GraphStatus["Backing Filesystem"] = fileSystemName(int64(st.Type))
		if e.conf.Driver == "overlay" {
			s.GraphStatus["Native Overlay Diff"] = "true"
			s.GraphStatus["Supports d_type"] = "true"
			s.GraphStatus["Supports shifting"] = "false" // not made use of
			s.GraphStatus["Supports volatile"] = "true"
			s.GraphStatus["Using metacopy"] = "false"
		}
	}
	list, err := e.List(ctx, ListOptions{All: true})
	if err != nil {
		return s, err
	}
	s.ContainerStore.Number = len(list)
	for i := range list {
		switch list[i].Status {
		case cove.Running, cove.Stopping:
			s.ContainerStore.Running++
		case cove.Paused:
			s.ContainerStore.Paused++
		default:
			s.ContainerStore.Stopped++
		}
	}
	images, err := e.images.List(ctx, image.ListOptions{All: true})
	s.ImageStore.Number = len(images)
	return s, err
}

// storageConf is the storage.conf that counts, storage.conf(5).
func storageConf(rootless bool) string {
	if p := os.Getenv("CONTAINERS_STORAGE_CONF"); p != "" {
		return p
	}
	candidates := []string{"/etc/containers/storage.conf", "/usr/share/containers/storage.conf"}
	if rootless {
		home, err := os.UserConfigDir()
		if err == nil {
			candidates = append([]string{filepath.Join(home, "containers", "storage.conf")}, candidates...)
		}
	}
	for _, p := range candidates {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return candidates[0]
}

// existing is path or the nearest directory above it that exists.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == "/" || path == "." {
			return path
		}
		path = filepath.Dir(path)
	}
}

// fileSystemName names a statfs(2) magic number as the storage library does.
func fileSystemName(magic int64) string {
	switch magic {
	case unix.EXT4_SUPER_MAGIC:
		return "extfs"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	case unix.F2FS_SUPER_MAGIC:
		return "f2fs"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	case 0x2fc12fc1: // ZFS_SUPER_MAGIC of OpenZFS
		return "zfs"
	}
	return "<unknown>"
}

// registry is a [[registry]] of registries.conf, containers-registries.conf(5).
type registry struct {
	Prefix             string   `toml:"prefix"`
	Location           string   `toml:"location"`
	Insecure           bool     `toml:"insecure"`
	Blocked            bool     `toml:"blocked"`
	MirrorByDigestOnly bool     `toml:"mirror-by-digest-only"`
	PullFromMirror     string   `toml:"pull-from-mirror"`
	Mirrors            []mirror `toml:"mirror"`
}

type mirror struct {
	Location       string `toml:"location"`
	Insecure       bool   `toml:"insecure"`
	PullFromMirror string `toml:"pull-from-mirror"`
}

// registryInfo reads registries.conf and its drop-ins: the search list under
// "search", the configured registries by prefix. The library's own reader is
// not used: programs that only start containers would pay for it.
func registryInfo(rootless bool) (map[string]any, error) {
	out := map[string]any{}
	for _, name := range registryFiles(rootless) {
		data, err := procfs.Read(name, 1<<20)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var f struct {
			Search     []string   `toml:"unqualified-search-registries"`
			Registries []registry `toml:"registry"`
		}
		if err == nil {
			err = toml.Unmarshal(data, &f)
		}
		if err != nil {
			return out, cove.E("read registries.conf", name, cove.Invalid, err)
		}
		if len(f.Search) > 0 {
			out["search"] = f.Search
		} else if f.Search != nil {
			delete(out, "search") // none after all
		}
		for _, r := range f.Registries {
			if r.Prefix == "" {
				r.Prefix = r.Location
			}
			if r.Location == "" {
				r.Location = r.Prefix
			}
			out[r.Prefix] = r
		}
	}
	return out, nil
}

// registryFiles are the files that count, the later ones over the earlier.
func registryFiles(rootless bool) []string {
	dir := "/etc/containers"
	if home, err := os.UserConfigDir(); rootless && err == nil {
		own := filepath.Join(home, "containers")
		if exists(filepath.Join(own, "registries.conf")) || exists(filepath.Join(own, "registries.conf.d")) {
			dir = own
		}
	}
	main := filepath.Join(dir, "registries.conf")
	if p := os.Getenv("CONTAINERS_REGISTRIES_CONF"); p != "" {
		main = p
	}
	files := []string{main}
	more, _ := filepath.Glob(filepath.Join(dir, "registries.conf.d", "*.conf")) // sorted; the pattern is sound
	return append(files, more...)
}

// sharedLayers are the sizes of the layers that several images have.
func sharedLayers(images []image.Summary) map[string]int64 {
	count := map[string]int{}
	out := map[string]int64{}
	for _, i := range images {
		for _, l := range i.Layers {
			if count[l.ID]++; count[l.ID] == 2 {
				out[l.ID] = l.Size
			}
		}
	}
	return out
}

// DiskUsage measures what images, containers and volumes take. It reads every
// file's size, so it takes time.
func (e *Engine) DiskUsage(ctx context.Context) (inspect.DiskUsage, error) {
	var u inspect.DiskUsage
	users := e.shownUsers()
	images, err := e.images.List(ctx, image.ListOptions{All: true, Users: users.of, Layers: true})
	if err != nil {
		return u, err
	}
	shared := sharedLayers(images)
	for _, size := range shared {
		u.ImagesSize += size
	}
	for _, i := range images {
		row := inspect.ImageUsage{
			Repository: "<none>", Tag: "<none>", ImageID: i.ID, Created: i.Created,
			Size: i.Size, Containers: i.Containers,
		}
		for _, l := range i.Layers {
			row.SharedSize += shared[l.ID]
		}
		row.UniqueSize = max(i.Size-row.SharedSize, 0)
		if len(i.RepoTags) > 0 {
			name := i.RepoTags[0]
			if at := strings.LastIndexByte(name, ':'); at > strings.LastIndexByte(name, '/') {
				row.Repository, row.Tag = name[:at], name[at+1:]
			}
		}
		u.Images = append(u.Images, row)
		u.ImagesSize += row.UniqueSize
	}
	list, err := e.List(ctx, ListOptions{All: true, Size: true})
	if err != nil {
		return u, err
	}
	for i := range list {
		c := &list[i]
		u.Containers = append(u.Containers, inspect.ContainerUsage{
			ContainerID: c.ID, Image: c.Image.ID, Command: inspect.Command(c.Container), LocalVolumes: len(volumesOf(&c.Container)),
			Size: c.SizeRootFs, RWSize: c.SizeRw, Created: c.Created, Status: string(c.Status), Names: c.Name,
		})
	}
	volumes, used, err := e.volumesAndUse()
	if err != nil {
		return u, err
	}
	for _, v := range volumes {
		row := inspect.VolumeUsage{VolumeName: v.Name, Links: used.links[v.Name], Size: treeSize(e.volumeData(v.Name))}
		if row.Links == 0 {
			row.ReclaimableSize = row.Size
		}
		u.Volumes = append(u.Volumes, row)
	}
	return u, errors.Join(users.failed())
}
