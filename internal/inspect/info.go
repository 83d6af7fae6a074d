// Package inspect holds the shapes in which cove shows its objects: structs whose
// JSON and template fields are podman's, filled by the engine and printed by the
// command line (and later by the API). No I/O.
package inspect

import (
	"time"

	"github.com/cove-engine/cove"
)

// Info is what `cove info` prints: the host, the stores and the program, in
// podman's shape and under podman's keys. Sizes are bytes.
type Info struct {
	Host       HostInfo       `json:"host"`
	Store      StoreInfo      `json:"store"`
	Registries map[string]any `json:"registries"` // "search": the unqualified-search registries; others by prefix
	Plugins    PluginInfo     `json:"plugins"`
	Version    Version        `json:"version"`
}

// HostInfo is the machine and what of it cove uses.
type HostInfo struct {
	Arch               string           `json:"arch"`
	BuildahVersion     string           `json:"buildahVersion"` // "": no builder; scripts expect the key
	CgroupManager      string           `json:"cgroupManager"`
	CgroupsVersion     string           `json:"cgroupVersion"` // v1 or v2; a hybrid host is v1
	CgroupControllers  []string         `json:"cgroupControllers"`
	Conmon             *ProgramInfo     `json:"conmon"`
	CPUs               int              `json:"cpus"`
	CPUUtilization     *CPUUsage        `json:"cpuUtilization"`
	DatabaseBackend    string           `json:"databaseBackend"`
	Distribution       DistributionInfo `json:"distribution"`
	EventLogger        string           `json:"eventLogger"`
	FreeLocks          *uint32          `json:"freeLocks,omitempty"` // nil: the locks are not numbered
	Hostname           string           `json:"hostname"`
	IgnoredSettings    []string         `json:"ignoredSettings,omitempty"` // of containers.conf, that cove does not follow: table.key (file:line)
	IDMappings         IDMappings       `json:"idMappings"`
	Kernel             string           `json:"kernel"`
	Linkmode           string           `json:"linkmode"` // static or dynamic
	LogDriver          string           `json:"logDriver"`
	MemFree            int64            `json:"memFree"`
	MemTotal           int64            `json:"memTotal"`
	NetworkBackend     string           `json:"networkBackend"`
	NetworkBackendInfo NetworkInfo      `json:"networkBackendInfo"`
	OCIRuntime         *RuntimeInfo     `json:"ociRuntime"`
	OS                 string           `json:"os"`
	Pasta              HelperInfo       `json:"pasta"`
	RemoteSocket       RemoteSocket     `json:"remoteSocket"`
	RootlessNetworkCmd string           `json:"rootlessNetworkCmd"`
	RuntimeInfo        map[string]any   `json:"runtimeInfo,omitempty"`
	Security           SecurityInfo     `json:"security"`
	ServiceIsRemote    bool             `json:"serviceIsRemote"` // always false
	Slirp4NetNS        HelperInfo       `json:"slirp4netns"`
	SwapFree           int64            `json:"swapFree"`
	SwapTotal          int64            `json:"swapTotal"`
	UnusedSettings     []string         `json:"unusedSettings,omitempty"` // the same, of what cove does not have
	Uptime             string           `json:"uptime"`                   // such as "0h 37m 48.00s"
	Variant            string           `json:"variant"`
}

// ProgramInfo is a program that cove uses in one of its own's place.
type ProgramInfo struct {
	Package string `json:"package"`
	Path    string `json:"path"`
	Version string `json:"version"`
}

// HelperInfo is a program that connects ordinary users' networks; empty where
// there is none on the host.
type HelperInfo struct {
	Executable string `json:"executable"`
	Package    string `json:"package"`
	Version    string `json:"version"`
}

// RuntimeInfo is the OCI runtime in use.
type RuntimeInfo struct {
	Name    string `json:"name"`
	Package string `json:"package"`
	Path    string `json:"path"`
	Version string `json:"version"`
}

// NetworkInfo is the network room in use.
type NetworkInfo struct {
	Backend string      `json:"backend"`
	Version string      `json:"version,omitempty"`
	Package string      `json:"package,omitempty"`
	Path    string      `json:"path,omitempty"`
	DNS     ProgramInfo `json:"dns,omitzero"`
}

// CPUUsage is the share of time since boot, in per cent.
type CPUUsage struct {
	UserPercent   float64 `json:"userPercent"`
	SystemPercent float64 `json:"systemPercent"`
	IdlePercent   float64 `json:"idlePercent"`
}

// DistributionInfo is what /etc/os-release says.
type DistributionInfo struct {
	Distribution string `json:"distribution"`
	Variant      string `json:"variant,omitempty"`
	Version      string `json:"version"`
	Codename     string `json:"codename,omitempty"`
}

// IDMappings are the ranges of a rootless user; nil for root.
type IDMappings struct {
	GIDMap []IDMap `json:"gidmap"`
	UIDMap []IDMap `json:"uidmap"`
}

// IDMap is one range of a mapping, under the storage library's keys.
type IDMap struct {
	ContainerID int `json:"container_id"`
	HostID      int `json:"host_id"`
	Size        int `json:"size"`
}

// RemoteSocket is where the API service would listen.
type RemoteSocket struct {
	Path   string `json:"path,omitempty"`
	Exists bool   `json:"exists"`
}

// SecurityInfo is which protections the host and the defaults give.
type SecurityInfo struct {
	AppArmorEnabled     bool   `json:"apparmorEnabled"`
	DefaultCapabilities string `json:"capabilities"` // joined by commas
	Rootless            bool   `json:"rootless"`
	SECCOMPEnabled      bool   `json:"seccompEnabled"`
	SECCOMPProfilePath  string `json:"seccompProfilePath"`
	SELinuxEnabled      bool   `json:"selinuxEnabled"`
}

// StoreInfo is the image store and the containers.
type StoreInfo struct {
	ConfigFile         string            `json:"configFile"`
	ContainerStore     ContainerCounts   `json:"containerStore"`
	GraphDriverName    string            `json:"graphDriverName"`
	GraphOptions       map[string]any    `json:"graphOptions"`
	GraphRoot          string            `json:"graphRoot"`
	GraphRootAllocated uint64            `json:"graphRootAllocated"`
	GraphRootUsed      uint64            `json:"graphRootUsed"`
	GraphStatus        map[string]string `json:"graphStatus"`
	ImageCopyTmpDir    string            `json:"imageCopyTmpDir"`
	ImageStore         ImageCount        `json:"imageStore"`
	RunRoot            string            `json:"runRoot"`
	VolumePath         string            `json:"volumePath"`
	TransientStore     bool              `json:"transientStore"`
}

// ContainerCounts says how many containers there are.
type ContainerCounts struct {
	Number  int `json:"number"`
	Paused  int `json:"paused"`
	Running int `json:"running"`
	Stopped int `json:"stopped"`
}

// ImageCount says how many images there are.
type ImageCount struct {
	Number int `json:"number"`
}

// PluginInfo lists the drivers to choose from.
type PluginInfo struct {
	Volume        []string `json:"volume"`
	Network       []string `json:"network"`
	Log           []string `json:"log"`
	Authorization []string `json:"authorization"`
}

// Version is what `cove version` prints.
type Version struct {
	APIVersion string `json:"APIVersion"`
	Version    string `json:"Version"`
	GoVersion  string `json:"GoVersion"`
	GitCommit  string `json:"GitCommit"`
	BuiltTime  string `json:"BuiltTime"` // [time.ANSIC]
	Built      int64  `json:"Built"`     // Unix seconds; 0: not told at link time
	// BuildOrigin is who built it, where the linker was told.
	BuildOrigin string `json:"BuildOrigin,omitempty"`
	OsArch      string `json:"OsArch"` // linux/amd64
	Os          string `json:"Os"`
}

// Volume is a volume as `cove volume inspect` and `cove volume ls` print it.
type Volume struct {
	Name        string            `json:"Name"`
	Driver      string            `json:"Driver"`
	Mountpoint  string            `json:"Mountpoint"` // "" for a plugin's volume that is not mounted
	CreatedAt   time.Time         `json:"CreatedAt,omitempty"`
	Status      map[string]any    `json:"Status,omitempty"` // of a plugin
	Labels      map[string]string `json:"Labels"`
	Scope       string            `json:"Scope"` // local
	Options     map[string]string `json:"Options"`
	UID         int               `json:"UID,omitempty"`
	GID         int               `json:"GID,omitempty"`
	Anonymous   bool              `json:"Anonymous,omitempty"`
	MountCount  uint              `json:"MountCount"`
	NeedsCopyUp bool              `json:"NeedsCopyUp,omitempty"`
	NeedsChown  bool              `json:"NeedsChown,omitempty"`
	Timeout     uint              `json:"Timeout,omitempty"`   // of a plugin
	StorageID   string            `json:"StorageID,omitempty"` // of an image's
	LockNumber  uint32            // 0 where the locks are not numbered
}

// NewVolume gives v, mounted at mountpoint, in podman's shape. The maps are
// never nil: scripts index them.
func NewVolume(v cove.Volume, mountpoint string) Volume {
	out := Volume{
		Name: v.Name, Driver: v.Driver, Mountpoint: mountpoint, CreatedAt: v.Created,
		Labels: v.Labels, Scope: "local", Options: v.Options,
		UID: v.UID, GID: v.GID, Anonymous: v.Anonymous,
		NeedsCopyUp: v.NeedsCopyUp, NeedsChown: v.NeedsCopyUp,
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	if out.Options == nil {
		out.Options = map[string]string{}
	}
	return out
}

// Network is a network as `cove network inspect` prints it: its record and
// the running containers on it, by full ID.
type Network struct {
	cove.Network
	Containers map[string]NetworkContainer `json:"containers"`
}

// IPAMOptions and NetworkDNSServers are podman's names of fields.
func (n Network) IPAMOptions() map[string]string { return n.IPAM }

// NetworkDNSServers are DNSServers.
func (n Network) NetworkDNSServers() []string { return n.DNSServers }

// NetworkContainer is a container on a network.
type NetworkContainer struct {
	Name       string                      `json:"name"`
	Interfaces map[string]NetworkInterface `json:"interfaces,omitempty"` // by name in the container
}

// NetworkInterface is one interface of a container.
type NetworkInterface struct {
	Subnets []InterfaceAddress `json:"subnets,omitempty"`
	MAC     string             `json:"mac_address"`
}

// InterfaceAddress is one address of an interface, with the prefix length
// ("10.88.0.2/16").
type InterfaceAddress struct {
	IPNet   string `json:"ipnet"`
	Gateway string `json:"gateway,omitempty"`
}

// DiskUsage is what images, containers and volumes take, for `cove system df`.
type DiskUsage struct {
	Images     []ImageUsage
	Containers []ContainerUsage
	Volumes    []VolumeUsage
	// ImagesSize is the sum of all images with shared layers counted once.
	ImagesSize int64
}

// ImageUsage is one image's share. Sizes are bytes.
type ImageUsage struct {
	Repository, Tag, ImageID string
	Created                  time.Time
	Size, SharedSize         int64
	UniqueSize               int64
	Containers               int
}

// ContainerUsage is one container's share.
type ContainerUsage struct {
	ContainerID, Image string
	Command            []string
	LocalVolumes       int
	Size, RWSize       int64
	Created            time.Time
	Status             string
	Names              string
}

// VolumeUsage is one volume's share.
type VolumeUsage struct {
	VolumeName      string
	Links           int // containers that use it
	Size            int64
	ReclaimableSize int64 // Size when Links is 0
}
