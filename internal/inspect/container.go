package inspect

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/signal"
)

// Facts are what a container's record does not say and inspect shows: its
// derived status, paths and the engine's settings. Empty members are shown
// empty.
type Facts struct {
	Status cove.Status
	// SizeRw and SizeRootFs are bytes, -1 when they were not asked for.
	SizeRw, SizeRootFs                             int64
	Dir, LogPath, MountPoint, CgroupPath           string
	HostnamePath, HostsPath, ResolvConfPath        string
	DumpLog, RestoreLog                            string   // CRIU's, if they were kept
	Layers                                         []string // the image's directories, uppermost first
	VolumePath                                     string
	Driver, Runtime, CgroupManager, DefaultNetwork string
	OciVersion                                     string
	// NetworkMode is that of a container for which none was chosen.
	NetworkMode string
	// AppArmorProfile confines it, be it one that nobody asked for.
	AppArmorProfile string
	// NetworkID gives a network's ID; nil shows names.
	NetworkID func(name string) string
	// Joined has the network that c is in, by --network container:NAME, and its
	// status is JoinedStatus; nil when c has its own.
	Joined       *cove.Container
	JoinedStatus cove.Status
	SandboxKey   string // its network namespace
}

// ContainerData is the shape of `inspect` for a container: podman 5's
// field names, of which most are docker's.
type ContainerData struct {
	ID                      string `json:"Id"`
	Created                 time.Time
	Path                    string
	Args                    []string
	State                   *ContainerState
	Image                   string
	ImageDigest             string
	ImageName               string
	Rootfs                  string
	Pod                     string
	ResolvConfPath          string
	HostnamePath            string
	HostsPath               string
	StaticDir               string
	OCIConfigPath           string `json:",omitempty"`
	OCIRuntime              string `json:",omitempty"`
	ConmonPidFile           string
	PidFile                 string
	Name                    string
	RestartCount            int32
	Driver                  string
	MountLabel              string
	ProcessLabel            string
	AppArmorProfile         string
	EffectiveCaps           []string
	BoundingCaps            []string
	ExecIDs                 []string
	GraphDriver             *GraphDriver
	SizeRw                  *int64 `json:",omitempty"`
	SizeRootFs              int64  `json:",omitempty"`
	Mounts                  []ContainerMount
	Dependencies            []string
	NetworkSettings         *ContainerNetwork
	Namespace               string
	IsInfra                 bool
	IsService               bool
	KubeExitCodePropagation string
	LockNumber              uint32 `json:"lockNumber"`
	Config                  *ContainerConfig
	HostConfig              *HostConfig
	UseImageHosts           bool
	UseImageHostname        bool
}

// ContainerState is a container's status and last run.
type ContainerState struct {
	OciVersion     string
	Status         string
	Running        bool
	Paused         bool
	Restarting     bool
	OOMKilled      bool
	Dead           bool
	Pid            int
	ConmonPid      int `json:",omitempty"`
	ExitCode       int32
	Error          string
	StartedAt      time.Time
	FinishedAt     time.Time
	Health         *HealthState `json:",omitempty"`
	Checkpointed   bool         `json:",omitempty"`
	CgroupPath     string       `json:",omitempty"`
	CheckpointedAt time.Time
	RestoredAt     time.Time
	CheckpointLog  string `json:",omitempty"`
	CheckpointPath string `json:",omitempty"`
	RestoreLog     string `json:",omitempty"`
	Restored       bool   `json:",omitempty"`
	StoppedByUser  bool   `json:",omitempty"`
}

// Healthcheck is Health by the name that it had in podman's templates before.
func (s *ContainerState) Healthcheck() *HealthState { return s.Health }

// HealthState is the outcome of the health checks.
type HealthState struct {
	Status        string
	FailingStreak int
	Log           []HealthRun
}

// HealthRun is one run of the health check.
type HealthRun struct {
	Start, End string // RFC 3339
	ExitCode   int
	Output     string
}

// GraphDriver says where the layers of a container lie.
type GraphDriver struct {
	Name string
	Data map[string]string
}

// ContainerMount is one mount that the user or the image asked for. Tmpfs
// mounts are in HostConfig.Tmpfs.
type ContainerMount struct {
	Type        string
	Name        string `json:",omitempty"`
	Source      string
	Destination string
	Driver      string
	Mode        string
	Options     []string
	RW          bool
	Propagation string
	SubPath     string `json:",omitempty"`
}

// NetworkAddress is a container's address on one network.
type NetworkAddress struct {
	EndpointID             string
	Gateway                string
	IPAddress              string
	IPPrefixLen            int
	SecondaryIPAddresses   []Address `json:",omitempty"`
	IPv6Gateway            string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	SecondaryIPv6Addresses []Address `json:",omitempty"`
	MacAddress             string
	AdditionalMacAddresses []string `json:",omitempty"`
}

// Address is one more address of an interface.
type Address struct {
	Addr         string
	PrefixLength int
}

// NetworkEndpoint is a NetworkAddress with the network's own names.
type NetworkEndpoint struct {
	NetworkAddress
	NetworkID  string `json:",omitempty"`
	DriverOpts map[string]string
	IPAMConfig map[string]string
	Links      []string
	Aliases    []string `json:",omitempty"`
}

// ContainerNetwork is all that a container has of networks.
type ContainerNetwork struct {
	NetworkAddress
	Bridge                 string
	SandboxID              string
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	Ports                  map[string][]HostPort
	SandboxKey             string
	Networks               map[string]*NetworkEndpoint `json:",omitempty"`
}

// HostPort is where a container's port is published.
type HostPort struct {
	HostIP   string `json:"HostIp"`
	HostPort string
}

// ContainerConfig is how the container was configured.
type ContainerConfig struct {
	Hostname                   string
	DomainName                 string `json:"Domainname"`
	User                       string
	AttachStdin                bool
	AttachStdout               bool
	AttachStderr               bool
	Tty                        bool
	OpenStdin                  bool
	StdinOnce                  bool
	Env                        []string
	Cmd                        []string
	Image                      string
	Volumes                    map[string]struct{}
	WorkingDir                 string
	Entrypoint                 []string
	OnBuild                    *string
	Labels                     map[string]string
	Annotations                map[string]string
	StopSignal                 string
	Healthcheck                *HealthConfig  `json:",omitempty"`
	StartupHealthCheck         *StartupHealth `json:",omitempty"`
	HealthcheckOnFailureAction string         `json:",omitempty"`
	HealthLogDestination       string         `json:",omitempty"`
	HealthMaxLogCount          uint           `json:"HealthcheckMaxLogCount"`
	HealthMaxLogSize           uint           `json:"HealthcheckMaxLogSize"`
	CreateCommand              []string       `json:",omitempty"`
	Timezone                   string         `json:",omitempty"`
	SystemdMode                bool           `json:",omitempty"`
	Umask                      string         `json:",omitempty"`
	Secrets                    []string       `json:",omitempty"`
	ChrootDirs                 []string       `json:",omitempty"`
	Timeout                    uint
	StopTimeout                uint
	Passwd                     *bool               `json:",omitempty"`
	SdNotifyMode               string              `json:"sdNotifyMode,omitempty"`
	SdNotifySocket             string              `json:"sdNotifySocket,omitempty"`
	ExposedPorts               map[string]struct{} `json:",omitempty"`
}

// StartupHealth is a startup health check.
type StartupHealth struct {
	HealthConfig
	Successes int `json:",omitempty"`
}

// HealthConfig is a health check; times are nanoseconds.
type HealthConfig struct {
	Test        []string      `json:",omitempty"`
	StartPeriod time.Duration `json:",omitempty"`
	Interval    time.Duration `json:",omitempty"`
	Timeout     time.Duration `json:",omitempty"`
	Retries     int           `json:",omitempty"`
}

// LogConfig is where the log goes.
type LogConfig struct {
	Type   string
	Config map[string]string
	Path   string
	Tag    string
	Size   string
}

// RestartPolicy is --restart.
type RestartPolicy struct {
	Name              string
	MaximumRetryCount uint
}

// ContainerDevice is a device given to the container.
type ContainerDevice struct {
	PathOnHost        string
	PathInContainer   string
	CgroupPermissions string
}

// ContainerUlimit is one resource limit.
type ContainerUlimit struct {
	Name string
	Soft int64
	Hard int64
}

// WeightDevice and ThrottleDevice are limits on one device.
type (
	WeightDevice struct {
		Path   string
		Weight uint16
	}
	ThrottleDevice struct {
		Path string
		Rate uint64
	}
)

// HostConfig is the part of the configuration that concerns the host, with
// the field names that podman's and docker's templates use.
// Sizes are bytes, periods microseconds.
type HostConfig struct {
	Binds                []string
	CgroupManager        string `json:",omitempty"`
	CgroupMode           string
	ContainerIDFile      string
	LogConfig            *LogConfig
	NetworkMode          string
	PortBindings         map[string][]HostPort
	RestartPolicy        *RestartPolicy
	AutoRemove           bool
	AutoRemoveImage      bool
	Annotations          map[string]string
	VolumeDriver         string
	VolumesFrom          []string
	CapAdd               []string
	CapDrop              []string
	Dns                  []string
	DnsOptions           []string
	DnsSearch            []string
	ExtraHosts           []string
	HostsFile            string
	GroupAdd             []string
	IpcMode              string
	Cgroup               string
	Cgroups              string
	Links                []string
	OomScoreAdj          int
	PidMode              string
	Privileged           bool
	PublishAllPorts      bool
	ReadonlyRootfs       bool
	SecurityOpt          []string
	Tmpfs                map[string]string
	UTSMode              string
	UsernsMode           string
	ShmSize              int64
	Runtime              string
	ConsoleSize          []uint
	Isolation            string
	CpuShares            uint64
	Memory               int64
	NanoCpus             int64
	CgroupParent         string
	BlkioWeight          uint16
	BlkioWeightDevice    []WeightDevice
	BlkioDeviceReadBps   []ThrottleDevice
	BlkioDeviceWriteBps  []ThrottleDevice
	BlkioDeviceReadIOps  []ThrottleDevice
	BlkioDeviceWriteIOps []ThrottleDevice
	CpuPeriod            uint64
	CpuQuota             int64
	CpuRealtimePeriod    uint64
	CpuRealtimeRuntime   int64
	CpusetCpus           string
	CpusetMems           string
	Devices              []ContainerDevice
	DiskQuota            uint64
	KernelMemory         int64
	MemoryReservation    int64
	MemorySwap           int64
	MemorySwappiness     int64
	OomKillDisable       bool
	Init                 bool `json:",omitempty"`
	PidsLimit            int64
	Ulimits              []ContainerUlimit
	CpuCount             uint64
	CpuPercent           uint64
	IOMaximumIOps        uint64
	IOMaximumBandwidth   uint64
	CgroupConf           map[string]string
	IDMappings           *IDMappings `json:",omitempty"`
	IntelRdtClosID       string      `json:",omitempty"`
}

// Container is what inspect shows of c.
func Container(c cove.Container, f Facts) *ContainerData {
	argv := Command(c)
	d := &ContainerData{
		ID:           c.ID,
		Created:      c.Created,
		Args:         []string{},
		State:        state(c, f),
		Image:        c.Image.ID,
		ImageDigest:  c.Image.Digest,
		ImageName:    cmp.Or(c.Image.Name, c.Spec.Image),
		Rootfs:       c.Spec.Rootfs,
		StaticDir:    f.Dir,
		OCIRuntime:   cmp.Or(c.Spec.Runtime, f.Runtime),
		HostnamePath: f.HostnamePath, HostsPath: f.HostsPath, ResolvConfPath: f.ResolvConfPath,
		ConmonPidFile:    c.Spec.ConmonPidFile,
		PidFile:          c.Spec.PidFile,
		Name:             c.Name,
		RestartCount:     int32(c.Run.Restarts),
		Driver:           cmp.Or(f.Driver, "overlay"),
		ExecIDs:          []string{},
		Mounts:           mounts(c, f),
		Dependencies:     list(c.DependsOn),
		NetworkSettings:  networkSettings(c, f),
		Config:           config(c),
		HostConfig:       hostConfig(c, f),
		MountLabel:       c.MountLabel,
		ProcessLabel:     c.ProcessLabel,
		AppArmorProfile:  f.AppArmorProfile,
		UseImageHosts:    c.Spec.NoHosts,
		UseImageHostname: c.Spec.NoHostname,

		KubeExitCodePropagation: "invalid", // podman's word for none
	}
	if c.Run.PID != 0 {
		d.ExecIDs = list(c.Run.Execs)
	}
	d.EffectiveCaps = capabilities(c)
	d.BoundingCaps = d.EffectiveCaps
	if user, _, _ := strings.Cut(cmp.Or(c.Spec.User, c.Image.User), ":"); user != "" && user != "root" && user != "0" && !c.Spec.Privileged {
		d.EffectiveCaps = nil
		if len(c.Spec.CapAdd) > 0 {
			d.EffectiveCaps = capNames(c.Spec.CapAdd)
		}
	}
	if len(argv) > 0 {
		d.Path, d.Args = argv[0], argv[min(1, len(argv)-1):] // a command alone is in both, as podman has it
	}
	if f.SizeRw >= 0 && f.SizeRootFs > 0 {
		d.SizeRw, d.SizeRootFs = &f.SizeRw, f.SizeRootFs
	}
	d.GraphDriver = graphDriver(c, f)
	return d
}

// Command is what the container's init executes: entrypoint and command,
// of the request or else of the image.
func Command(c cove.Container) []string {
	entry, cmd := Entrypoint(c), c.Spec.Command
	if len(cmd) == 0 && !c.Spec.EntrypointSet {
		cmd = c.Image.Cmd
	}
	return slices.Concat(entry, cmd)
}

// Entrypoint is the request's when it has one, else the image's.
func Entrypoint(c cove.Container) []string {
	if c.Spec.EntrypointSet {
		return c.Spec.Entrypoint
	}
	return c.Image.Entrypoint
}

func state(c cove.Container, f Facts) *ContainerState {
	r := c.Run
	s := &ContainerState{
		OciVersion: cmp.Or(f.OciVersion, "1.2.0"),
		Status:     string(f.Status),
		Running:    f.Status == cove.Running || f.Status == cove.Stopping,
		Paused:     f.Status == cove.Paused,
		OOMKilled:  r.OOMKilled,
		ExitCode:   int32(r.ExitCode),
		Error:      cmp.Or(r.Error, r.Exit),
		StartedAt:  r.Started,
		FinishedAt: r.Finished,

		Checkpointed: !r.Checkpointed.IsZero(), CheckpointedAt: r.Checkpointed,
		Restored: !r.Restored.IsZero(), RestoredAt: r.Restored, CheckpointLog: f.DumpLog, RestoreLog: f.RestoreLog,
	}
	if s.Checkpointed {
		s.CheckpointPath = path.Join(f.Dir, "checkpoint")
	}
	if s.Running || s.Paused {
		s.Pid, s.ConmonPid, s.CgroupPath = r.PID, r.MonitorPID, f.CgroupPath
		s.ExitCode, s.FinishedAt = 0, time.Time{}
	} else {
		s.StoppedByUser = !r.Started.IsZero() && c.Desired == cove.DesireStop
	}
	if h := healthConfig(c); h != nil || r.Health != nil {
		s.Health = new(HealthState) // null before the first check, as podman has it
		if r.Health != nil {
			s.Health.Status, s.Health.FailingStreak = r.Health.Status, r.Health.FailingStreak
			for _, p := range r.Health.Log {
				s.Health.Log = append(s.Health.Log, HealthRun{
					p.Start.Format(time.RFC3339Nano), p.End.Format(time.RFC3339Nano), p.ExitCode, p.Output,
				})
			}
		}
	}
	return s
}

// graphDriver shows the layers from c's writable one down.
func graphDriver(c cove.Container, f Facts) *GraphDriver {
	g := &GraphDriver{Name: cmp.Or(f.Driver, "overlay"), Data: map[string]string{}}
	if len(f.Layers) > 0 {
		g.Data["LowerDir"] = strings.Join(f.Layers, ":")
	}
	if f.Dir != "" && (c.Spec.Rootfs == "" || c.Spec.RootfsOverlay) {
		g.Data["UpperDir"], g.Data["WorkDir"] = path.Join(f.Dir, "diff"), path.Join(f.Dir, "work")
	}
	if f.MountPoint != "" {
		g.Data["MergedDir"] = f.MountPoint
	}
	return g
}

// mounts are the volumes, binds and images, without tmpfs.
func mounts(c cove.Container, f Facts) []ContainerMount {
	out := []ContainerMount{}
	for _, m := range allMounts(c) {
		if m.Type == "tmpfs" || m.Type == "ramfs" || m.Type == "devpts" || m.Type == "mqueue" {
			continue
		}
		i := ContainerMount{Type: m.Type, Source: m.Source, Destination: m.Destination, RW: true, SubPath: m.SubPath, Options: []string{}}
		if m.Type == "volume" {
			i.Name, i.Driver = m.Source, "local"
			i.Source = ""
			if f.VolumePath != "" {
				i.Source = path.Join(f.VolumePath, m.Source, "_data")
			}
		}
		if m.Type == "image" {
			i.RW = slices.Contains(m.Options, "rw")
		}
		for _, o := range m.Options {
			switch o {
			case "ro":
				i.RW = false
			case "rw":
			case "z", "Z":
				i.Mode = o
			case "shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable":
				i.Propagation = o
			default:
				if !slices.Contains(i.Options, o) {
					i.Options = append(i.Options, o)
				}
			}
		}
		if m.Type == "volume" {
			for _, o := range []string{"nosuid", "nodev", "rbind"} {
				if !slices.Contains(i.Options, o) {
					i.Options = append(i.Options, o)
				}
			}
		}
		if m.Type == "bind" && !slices.Contains(i.Options, "bind") && !slices.Contains(i.Options, "rbind") {
			i.Options = append(i.Options, "rbind")
		}
		if i.Propagation == "" && m.Type != "image" {
			i.Propagation = "rprivate"
		}
		out = append(out, i)
	}
	return out
}

// allMounts are the record's resolved mounts, before the first create has
// resolved them the request's.
func allMounts(c cove.Container) []cove.Mount {
	if len(c.Mounts) > 0 {
		return c.Mounts
	}
	return c.Spec.Mounts
}

// binds are the mounts as -v would say them, tmpfs the temporary ones.
func binds(c cove.Container, f Facts) (bind []string, tmpfs map[string]string) {
	bind, tmpfs = []string{}, map[string]string{}
	for _, m := range mounts(c, f) {
		opts := []string{"rw"}
		if !m.RW {
			opts[0] = "ro"
		}
		if m.Mode != "" {
			opts = append(opts, m.Mode)
		}
		if m.Propagation != "" {
			opts = append(opts, m.Propagation)
		}
		opts = append(opts, m.Options...)
		bind = append(bind, cmp.Or(m.Name, m.Source)+":"+m.Destination+":"+strings.Join(opts, ","))
	}
	for _, m := range allMounts(c) {
		if m.Type != "tmpfs" {
			continue
		}
		usual := []string{"rw", "rprivate", "nosuid", "nodev", "tmpcopyup"}
		var opts []string
		for _, o := range m.Options {
			if o == "ro" {
				usual[0] = "ro"
			} else if o == "notmpcopyup" {
				usual = slices.DeleteFunc(usual, func(s string) bool { return s == "tmpcopyup" })
			} else if !slices.Contains(usual, o) {
				opts = append(opts, o)
			}
		}
		opts = append(opts, usual...)
		tmpfs[m.Destination] = strings.Join(opts, ",")
	}
	return bind, tmpfs
}

// Ports are the published ports under "port/protocol", and with a nil list
// those that are only exposed.
func Ports(c cove.Container) map[string][]HostPort {
	out := map[string][]HostPort{}
	for _, p := range PortMappings(c) {
		for i := range max(p.Range, 1) {
			key := fmt.Sprintf("%d/%s", p.ContainerPort+i, cmp.Or(p.Protocol, "tcp"))
			out[key] = append(out[key], HostPort{cmp.Or(p.HostIP, "0.0.0.0"), strconv.Itoa(int(p.HostPort + i))})
		}
	}
	for _, e := range Exposed(c) {
		if _, ok := out[e]; !ok {
			out[e] = nil
		}
	}
	return out
}

// PortMappings are the mappings with the host ports chosen, as far as they
// are known.
func PortMappings(c cove.Container) []cove.PortMapping {
	if len(c.Ports) > 0 {
		return c.Ports
	}
	return c.Spec.Ports
}

// Exposed are the exposed ports of the image and the request as
// "port/protocol", ranges taken apart.
func Exposed(c cove.Container) []string {
	var out []string
	for _, e := range slices.Concat(c.Image.ExposedPorts, c.Spec.Expose) {
		ports, proto, _ := strings.Cut(e, "/")
		begin, end, isRange := strings.Cut(ports, "-")
		first, err := strconv.ParseUint(begin, 10, 16)
		if err != nil {
			continue
		}
		last := first
		if isRange {
			if last, err = strconv.ParseUint(end, 10, 16); err != nil {
				continue
			}
		}
		for p := first; p <= last; p++ {
			out = append(out, fmt.Sprintf("%d/%s", p, cmp.Or(proto, "tcp")))
		}
	}
	return out
}

func networkSettings(c cove.Container, f Facts) *ContainerNetwork {
	if f.Joined != nil {
		c, f.Status = *f.Joined, f.JoinedStatus
	}
	n := &ContainerNetwork{Ports: Ports(c), SandboxKey: f.SandboxKey}
	if mode := networkMode(c, f); mode == "none" || mode == "host" {
		n.Networks = map[string]*NetworkEndpoint{mode: {NetworkID: mode}}
	}
	for i, at := range c.Attachments {
		a := address(at)
		if f.Status == cove.Created || f.Status == cove.Exited {
			a = NetworkAddress{} // chosen, and of no interface
		}
		usual := cmp.Or(f.DefaultNetwork, "podman")
		name := cmp.Or(at.Network, usual)
		// Of the default network alone, as docker has it of "bridge".
		if i == 0 && name == usual {
			n.NetworkAddress = a
		}
		id := name
		if f.NetworkID != nil {
			id = f.NetworkID(name)
		}
		if n.Networks == nil {
			n.Networks = map[string]*NetworkEndpoint{}
		}
		aliases := slices.Concat(at.Aliases, []string{short(c.ID)})
		if c.Spec.Hostname != "" {
			aliases = append(aliases, c.Spec.Hostname)
		}
		n.Networks[name] = &NetworkEndpoint{NetworkAddress: a, NetworkID: id, Links: nil, Aliases: aliases}
	}
	return n
}

func address(at cove.NetworkAttachment) NetworkAddress {
	a := NetworkAddress{MacAddress: at.MAC}
	for _, p := range at.Addresses {
		more := Address{p.Addr().String(), p.Bits()}
		switch {
		case p.Addr().Is4() && a.IPAddress == "":
			a.IPAddress, a.IPPrefixLen = more.Addr, more.PrefixLength
		case p.Addr().Is4():
			a.SecondaryIPAddresses = append(a.SecondaryIPAddresses, more)
		case a.GlobalIPv6Address == "":
			a.GlobalIPv6Address, a.GlobalIPv6PrefixLen = more.Addr, more.PrefixLength
		default:
			a.SecondaryIPv6Addresses = append(a.SecondaryIPv6Addresses, more)
		}
	}
	for _, g := range at.Gateways {
		if g.Is4() && a.Gateway == "" {
			a.Gateway = g.String()
		} else if g.Is6() && a.IPv6Gateway == "" {
			a.IPv6Gateway = g.String()
		}
	}
	return a
}

func healthConfig(c cove.Container) *cove.HealthCheck {
	if c.Spec.NoHealth {
		return nil
	}
	h := c.Spec.Health
	if h == nil {
		return c.Image.Health
	}
	if len(h.Test) == 0 && c.Image.Health != nil {
		m := *c.Image.Health
		m.Interval, m.Timeout = cmp.Or(h.Interval, m.Interval), cmp.Or(h.Timeout, m.Timeout)
		m.StartPeriod, m.Retries = cmp.Or(h.StartPeriod, m.StartPeriod), cmp.Or(h.Retries, m.Retries)
		m.OnFailure = cmp.Or(h.OnFailure, m.OnFailure)
		return &m
	}
	return h
}

func config(c cove.Container) *ContainerConfig {
	s, d := c.Spec, c.Defaults()
	passwd := !s.NoPasswd
	k := &ContainerConfig{
		Hostname:      c.Hostname(),
		User:          cmp.Or(s.User, c.Image.User),
		Tty:           s.Terminal,
		OpenStdin:     s.Stdin,
		Env:           env(c),
		Cmd:           s.Command,
		Image:         cmp.Or(c.Image.Name, s.Image),
		WorkingDir:    cmp.Or(s.WorkDir, c.Image.WorkDir, "/"),
		Entrypoint:    Entrypoint(c),
		Labels:        labels(c),
		Annotations:   s.Annotations,
		SystemdMode:   c.Systemd,
		StopSignal:    signalName(cmp.Or(s.StopSignal, c.Image.StopSignal, "SIGTERM")),
		CreateCommand: c.CommandLine,
		Timezone:      cmp.Or(s.Timezone, d.Timezone),
		Umask:         fmt.Sprintf("%04s", cmp.Or(s.Umask, d.Umask, cove.DefaultUmask)),
		Timeout:       s.Timeout,
		StopTimeout:   *cmp.Or(s.StopTimeout, d.StopTimeout, new(uint(cove.DefaultStopTimeout))),
		Passwd:        &passwd,
		SdNotifyMode:  cmp.Or(s.SDNotify, "container"), SdNotifySocket: s.SDNotifySocket,
	}
	if len(k.Cmd) == 0 && !s.EntrypointSet {
		k.Cmd = c.Image.Cmd
	}
	if h := healthConfig(c); h != nil {
		k.Healthcheck = &HealthConfig{h.Test, h.StartPeriod, max(h.Interval, 0), h.Timeout, h.Retries}
		if c.Spec.Health != nil && len(c.Spec.Health.Test) > 0 {
			k.Healthcheck.complete(h.Interval < 0)
		}
		k.HealthcheckOnFailureAction = cmp.Or(h.OnFailure, "none")
	} else {
		k.HealthcheckOnFailureAction = "none"
		if s.NoHealth {
			k.Healthcheck = &HealthConfig{Test: []string{"NONE"}}
		}
	}
	k.HealthLogDestination = "local"
	k.HealthMaxLogCount = *cmp.Or(s.HealthLogCount, new(uint(cove.HealthLogCount)))
	k.HealthMaxLogSize = *cmp.Or(s.HealthLogSize, new(uint(cove.HealthLogSize)))
	if h := s.StartupHealth; h != nil {
		k.StartupHealthCheck = &StartupHealth{HealthConfig{h.Test, 0, max(h.Interval, 0), h.Timeout, h.Retries}, h.Successes}
	}
	for port := range Ports(c) {
		if k.ExposedPorts == nil {
			k.ExposedPorts = map[string]struct{}{}
		}
		k.ExposedPorts[port] = struct{}{}
	}
	return k
}

// complete fills in what holds where the request does not say.
func (h *HealthConfig) complete(noTimer bool) {
	if !noTimer {
		h.Interval = cmp.Or(h.Interval, 30*time.Second)
	}
	h.Timeout, h.Retries = cmp.Or(h.Timeout, 30*time.Second), cmp.Or(h.Retries, 3)
}

// env is the environment of the container's process as far as the record tells
// it: what is found inside, HOME, is not in it, nor the host's name and systemd's
// machine ID before there has been a process.
func env(c cove.Container) []string {
	hostname := c.Hostname()
	started := !c.Run.Started.IsZero()
	if !started || cmp.Or(c.Spec.UTS, c.Defaults().UTS) == "host" {
		hostname = ""
	}
	env, _ := c.Environment(hostname, started)
	return list(env)
}

func labels(c cove.Container) map[string]string {
	if len(c.Image.Labels) == 0 {
		return c.Spec.Labels
	}
	m := maps.Clone(c.Image.Labels)
	maps.Copy(m, c.Spec.Labels)
	return m
}

// Labels are the image's with the request's over them.
func Labels(c cove.Container) map[string]string { return labels(c) }

func hostConfig(c cove.Container, f Facts) *HostConfig {
	s, r, d := c.Spec, c.Spec.Resources, c.Defaults()
	h := &HostConfig{
		CgroupManager:   cmp.Or(f.CgroupManager, "cgroupfs"),
		CgroupMode:      cmp.Or(s.CgroupNS, d.CgroupNS, "private"),
		ContainerIDFile: s.CIDFile,
		LogConfig: &LogConfig{
			Type: cmp.Or(s.LogDriver, "k8s-file"), Path: cmp.Or(s.LogPath, f.LogPath), Tag: s.LogOpts["tag"], Size: cmp.Or(s.LogOpts["max-size"], "0B"),
		},
		NetworkMode:       networkMode(c, f),
		PortBindings:      map[string][]HostPort{},
		RestartPolicy:     &RestartPolicy{cmp.Or(s.Restart.Name, "no"), s.Restart.MaxRetries},
		AutoRemove:        s.Remove,
		Annotations:       s.Annotations,
		VolumesFrom:       s.VolumesFrom,
		CapAdd:            []string{},
		CapDrop:           []string{},
		Dns:               list(s.DNS),
		DnsOptions:        list(s.DNSOptions),
		DnsSearch:         list(s.DNSSearch),
		ExtraHosts:        list(s.AddHosts),
		GroupAdd:          list(s.Groups),
		IpcMode:           cmp.Or(s.IPC, d.IPC, "shareable"),
		Cgroups:           made(s.Cgroups),
		PidMode:           cmp.Or(s.PID, d.PID, "private"),
		Privileged:        s.Privileged,
		PublishAllPorts:   s.PublishAll,
		ReadonlyRootfs:    s.ReadOnly,
		SecurityOpt:       securityOpt(s),
		UTSMode:           cmp.Or(s.UTS, d.UTS, "private"),
		UsernsMode:        s.UserNS,
		ShmSize:           *cmp.Or(s.ShmSize, new(int64(cove.DefaultShmSize))),
		Runtime:           "oci",
		ConsoleSize:       []uint{0, 0},
		CpuShares:         r.CPUShares,
		Memory:            r.Memory,
		NanoCpus:          int64(r.CPUs*1e9 + 0.5),
		CgroupParent:      s.CgroupParent,
		BlkioWeight:       r.BlkioWeight,
		CpuPeriod:         r.CPUPeriod,
		CpuQuota:          r.CPUQuota,
		CpusetCpus:        r.CpusetCPUs,
		CpusetMems:        r.CpusetMems,
		Devices:           []ContainerDevice{},
		MemoryReservation: r.MemoryReservation,
		MemorySwap:        r.MemorySwap,
		OomKillDisable:    r.OOMKillDisable,
		Init:              s.Init,
		PidsLimit:         max(*cmp.Or(r.PidsLimit, d.PidsLimit, new(int64(cove.DefaultPidsLimit))), -1),
		Ulimits:           []ContainerUlimit{},
		CgroupConf:        cgroupConf(d.CgroupConf, r.CgroupConf),
		CpuRealtimePeriod: r.CPURealtimePeriod, CpuRealtimeRuntime: r.CPURealtimeRuntime,
	}
	for k, v := range Ports(c) {
		if v != nil {
			h.PortBindings[k] = v
		}
	}
	h.Binds, h.Tmpfs = binds(c, f)
	if adj := cmp.Or(s.OOMScoreAdj, d.OOMScoreAdj); adj != nil {
		h.OomScoreAdj = *adj
	}
	if r.CPUs > 0 {
		h.CpuPeriod, h.CpuQuota = 100000, int64(r.CPUs*100000)
	}
	if r.Memory > 0 && r.MemorySwap == 0 {
		h.MemorySwap = 2 * r.Memory
	}
	if r.Memory != 0 || r.MemoryReservation != 0 || r.MemorySwap != 0 || r.OOMKillDisable {
		h.MemorySwappiness = -1
	}
	if r.MemorySwappiness != nil {
		h.MemorySwappiness = int64(*r.MemorySwappiness)
	}
	for _, d := range r.BlockDevices {
		t := ThrottleDevice{d.Path, d.Value}
		switch d.Limit {
		case "rbps":
			h.BlkioDeviceReadBps = append(h.BlkioDeviceReadBps, t)
		case "wbps":
			h.BlkioDeviceWriteBps = append(h.BlkioDeviceWriteBps, t)
		case "riops":
			h.BlkioDeviceReadIOps = append(h.BlkioDeviceReadIOps, t)
		case "wiops":
			h.BlkioDeviceWriteIOps = append(h.BlkioDeviceWriteIOps, t)
		case "weight":
			h.BlkioWeightDevice = append(h.BlkioWeightDevice, WeightDevice{d.Path, uint16(d.Value)})
		}
	}
	for _, d := range s.Devices {
		h.Devices = append(h.Devices, ContainerDevice{d.HostPath, d.ContainerPath, d.Access})
	}
	if !s.Privileged { // with which podman shows no difference
		caps := capabilities(c)
		h.CapAdd, h.CapDrop = without(caps, c.BaseCapabilities()), without(c.BaseCapabilities(), caps)
	}
	limits := slices.Clone(d.Ulimits)
	for _, u := range s.Ulimits {
		if i := slices.IndexFunc(limits, func(l cove.Ulimit) bool { return l.Name == u.Name }); i >= 0 {
			limits[i] = u
		} else if u.Name != "host" {
			limits = append(limits, u)
		}
	}
	for _, u := range limits {
		h.Ulimits = append(h.Ulimits, ContainerUlimit{"RLIMIT_" + strings.ToUpper(u.Name), u.Soft, u.Hard})
	}
	if n, err := units.FromHumanSize(h.LogConfig.Size); err == nil {
		h.LogConfig.Size = units.HumanSize(float64(n))
	}
	return h
}

// cgroupConf is what is asked for over what containers.conf says; nil is none.
func cgroupConf(conf, asked map[string]string) map[string]string {
	if len(asked) == 0 {
		return conf
	}
	all := maps.Clone(asked)
	for k, v := range conf {
		if _, has := asked[k]; !has {
			all[k] = v
		}
	}
	return all
}

func networkMode(c cove.Container, f Facts) string {
	if m := c.Spec.Network; m != "" && m != "private" {
		return m
	}
	return cmp.Or(f.NetworkMode, "bridge")
}

// made says whether there are cgroups, in podman's words.
func made(cgroups string) string {
	if cgroups == "disabled" {
		return cgroups
	}
	return "default"
}

func securityOpt(s cove.ContainerSpec) []string {
	out := []string{}
	for _, l := range s.SELinux {
		out = append(out, "label="+l)
	}
	if s.NoNewPrivileges {
		out = append(out, "no-new-privileges")
	}
	if s.AppArmor != "" {
		out = append(out, "apparmor="+s.AppArmor)
	}
	if s.Seccomp != "" {
		out = append(out, "seccomp="+s.Seccomp)
	}
	// Of paths podman shows nothing but that all are seen.
	all := slices.ContainsFunc(s.Unmask, func(p string) bool { return strings.EqualFold(p, "all") })
	if s.Privileged || all && len(s.Mask) == 0 {
		out = append(out, "unmask=all")
	}
	return out
}

// list makes nil an empty list, which JSON shows as [].
func list(l []string) []string {
	if l == nil {
		return []string{}
	}
	return l
}

func short(id string) string { return id[:min(len(id), cove.ShortIDLength)] }

// signalName is a signal as podman prints it, however it was given.
func signalName(text string) string {
	text = strings.TrimPrefix(text, "-")
	if _, err := strconv.Atoi(text); err == nil {
		if s, ok := signal.Parse(text); ok {
			return signal.Name(s)
		}
		return text
	}
	return "SIG" + strings.TrimPrefix(strings.ToUpper(text), "SIG")
}
