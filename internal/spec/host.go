package spec

import "github.com/opencontainers/runtime-spec/specs-go"

// Host is what was found out about the machine, and which paths the caller
// has made or reserved for this container. Functions may be nil: then what
// needs them is refused, by name.
type Host struct {
	// Rootless says that the caller is not the host's root: it already is in
	// its own user namespace, and everything here is seen from inside it.
	Rootless bool
	// UIDMap and GIDMap are the maps of the container's own user namespace;
	// empty when it has none.
	UIDMap, GIDMap []specs.LinuxIDMapping
	// UID and GID are the caller's own, for --userns=keep-id.
	UID, GID uint32
	// LookupUser finds a user of the host's, by name or number.
	LookupUser func(name string) (HostUser, bool)
	// ImageUser turns user[:group] into numbers, by the files of the image.
	ImageUser func(user string) (uid, gid int, err error)
	// AvailableGIDs is how many group IDs a rootless caller has; 0 is not
	// known, and taken as enough.
	AvailableGIDs int
	// BoundingCaps are the capabilities, CAP_ names, of the caller's bounding
	// set; no container gets others.
	BoundingCaps []string
	// Rlimits are the caller's own, by name without RLIMIT_, lower case.
	Rlimits map[string]Rlimit
	// SysResource says that the caller may raise hard limits.
	SysResource bool
	// OOMScoreAdj is the caller's own; a rootless caller cannot go below it.
	OOMScoreAdj int

	CgroupV2    bool // pure v2; v1 and hybrid are false
	CgroupsPath string
	// OwnCgroup says that the container gets the cgroup of version 2 at
	// CgroupsPath, and does not stay in the caller's.
	OwnCgroup bool
	// FirstCgroupNS tells of a cgroup namespace's path that it is the machine's
	// first, or may be.
	FirstCgroupNS func(path string) bool
	// Missing are the cgroup features that this kernel or cgroup lacks.
	Missing map[Feature]bool
	// CPUs and MemoryNodes are what may be used, as lists ("0-3,8"); "" is not
	// known, and not checked.
	CPUs, MemoryNodes string

	// AppArmor and SELinux say what the host confines with.
	AppArmor, SELinux bool

	Hostname       string // the host's
	JoinedHostname string // of the container whose UTS namespace is joined
	RootPath       string
	Files          Files
	// OverlayDir is where upper and work directories of O mounts go, one
	// folder per mount.
	OverlayDir string
	// NetNS is the path of a network namespace made for the container; ""
	// lets the runtime make a new one. With a user namespace it must be "": the
	// network namespace has to be the user namespace's, or sysfs cannot be
	// mounted and the host's is bound read-only instead.
	NetNS string
	// Joined are the namespace paths of container: modes by kind: pid, ipc,
	// uts, net, cgroup, user.
	Joined map[string]string

	// VolumePath gives the host directory of a volume's data.
	VolumePath func(name string) (string, error)
	// SubPath gives a path that safely leads to sub beneath dir (for instance
	// of a held descriptor), whatever symbolic links lie there.
	SubPath func(dir, sub string) (string, error)
	// MountFlags tells which of noexec, nosuid and nodev the file system of a
	// bind mount's source has; they are kept unless undone by name.
	MountFlags func(source string) (noexec, nosuid, nodev bool, err error)
	// Devices gives the device at a host path, or all devices below it when it
	// is a directory.
	Devices func(path string) ([]Device, error)
	// AllDevices gives the devices of a privileged container: the host's
	// without pts, shm, mqueue, fd and console.
	AllDevices func() ([]Device, error)
	// MaskAlso are further paths masked in an unprivileged container, found by
	// pattern (thermal_throttle of each processor).
	MaskAlso []string
}

// Files are host paths of files made for the container and bound into it; ""
// leaves the place to the image.
type Files struct {
	Hosts, ResolvConf, Hostname, ContainerEnv, Localtime string
	// Shm is a directory with the container's (or the joined container's)
	// shared memory; "" makes a tmpfs in the container's own mount namespace.
	Shm string
	// Copies are of what mounts.conf names.
	Copies []Bind
}

// Bind is a mount of a host's path at one inside.
type Bind struct{ Source, Destination string }

// HostUser is one of the host's users.
type HostUser struct {
	Name, FullName, Home string
	UID, GID             uint32
}

// Rlimit is a pair of limits as the kernel has them; all bits set is no limit.
type Rlimit struct{ Soft, Hard uint64 }

// Device is a device node of the host.
type Device struct {
	Path         string
	Type         byte // b, c, p
	Major, Minor int64
	Mode         uint32 // permission bits
	UID, GID     uint32
}

// Feature is something of cgroups that a host may lack.
type Feature string

// The features that are checked.
const (
	Memory            Feature = "memory"
	Swap              Feature = "swap"
	MemorySwappiness  Feature = "memory swappiness"
	MemoryReservation Feature = "memory reservation"
	OOMKillDisable    Feature = "oom kill disable"
	Pids              Feature = "pids"
	CPUShares         Feature = "cpu shares"
	CPUPeriod         Feature = "cpu period"
	CPUQuota          Feature = "cpu quota"
	Cpuset            Feature = "cpuset"
	BlkioWeight       Feature = "blkio weight"
	CPURealtime       Feature = "cpu real-time"
)
