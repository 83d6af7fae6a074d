package cove

import (
	"strings"
	"time"
)

// KeepGroups is crun's annotation of a container that is to keep the
// supplementary groups of who starts it, when its value is "1": an ordinary user's
// way to devices and files that are his by a group alone.
const KeepGroups = "run.oci.keep_original_groups"

// ContainerSpec is what was asked for: the one description of a container,
// made by command line, API and YAML alike, stored as it was asked and turned
// into an OCI runtime spec by internal/spec. A zero field means "the default
// of containers.conf, else of the image".
type ContainerSpec struct {
	Name  string `json:"name,omitempty"`
	Image string `json:"image,omitempty"` // as the user wrote it
	// Rootfs is a directory used as root file system instead of an image.
	Rootfs        string `json:"rootfs,omitempty"`
	RootfsOverlay bool   `json:"rootfsOverlay,omitempty"` // --rootfs dir:O
	Platform      string `json:"platform,omitempty"`      // os/arch[/variant]
	Pull          string `json:"pull,omitempty"`          // always, missing, never, newer

	Command    []string `json:"command,omitempty"`    // after the image
	Entrypoint []string `json:"entrypoint,omitempty"` // valid when EntrypointSet
	// EntrypointSet tells --entrypoint "" (none) from no flag (the image's).
	EntrypointSet bool     `json:"entrypointSet,omitempty"`
	Env           []string `json:"env,omitempty"` // KEY=value, later wins
	// HostEnv are the caller's own variables that containers.conf passes on
	// (env_host, http_proxy); all others go before. Flags' are in Env.
	HostEnv []string `json:"hostEnv,omitempty"`
	// EnvMerge are KEY=value whose value may name variables of the image.
	EnvMerge    []string `json:"envMerge,omitempty"`
	UnsetEnv    []string `json:"unsetEnv,omitempty"`
	UnsetEnvAll bool     `json:"unsetEnvAll,omitempty"`
	WorkDir     string   `json:"workDir,omitempty"`
	User        string   `json:"user,omitempty"` // user[:group], names or numbers
	Groups      []string `json:"groups,omitempty"`
	// NoPasswd keeps a user or group that /etc/passwd and /etc/group do not know
	// from being added there; the lines may be PasswdEntry and GroupEntry.
	NoPasswd    bool     `json:"noPasswd,omitempty"`
	PasswdEntry string   `json:"passwdEntry,omitempty"` // with $USERNAME, $UID, $GID, $NAME, $HOME
	GroupEntry  string   `json:"groupEntry,omitempty"`  // with $GROUPNAME, $GID, $USERLIST
	HostUsers   []string `json:"hostUsers,omitempty"`   // the host's, by name or number, that are added
	Umask       string   `json:"umask,omitempty"`       // octal
	Timezone    string   `json:"timezone,omitempty"`

	Terminal bool   `json:"terminal,omitempty"` // -t
	Stdin    bool   `json:"stdin,omitempty"`    // -i
	Remove   bool   `json:"remove,omitempty"`   // --rm
	Init     bool   `json:"init,omitempty"`
	InitPath string `json:"initPath,omitempty"`
	// Systemd is true, false or always: whether a command that is a systemd, or
	// any, gets what systemd needs. "" is true.
	Systemd string `json:"systemd,omitempty"`

	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`

	Hostname string `json:"hostname,omitempty"`

	ReadOnly        bool     `json:"readOnly,omitempty"`
	ReadOnlyTmpfs   bool     `json:"readOnlyTmpfs,omitempty"` // tmpfs on /run, /tmp, /var/tmp with ReadOnly
	Privileged      bool     `json:"privileged,omitempty"`
	CapAdd          []string `json:"capAdd,omitempty"`
	CapDrop         []string `json:"capDrop,omitempty"`
	NoNewPrivileges bool     `json:"noNewPrivileges,omitempty"`
	Seccomp         string   `json:"seccomp,omitempty"`  // "", "unconfined" or a profile's path
	AppArmor        string   `json:"appArmor,omitempty"` // "", "unconfined" or a profile's name
	SELinux         []string `json:"selinux,omitempty"`  // label options: user:, role:, type:, level:, disable
	Mask            []string `json:"mask,omitempty"`
	Unmask          []string `json:"unmask,omitempty"` // paths, or ALL

	Mounts            []Mount  `json:"mounts,omitempty"`
	DefaultMounts     []Mount  `json:"defaultMounts,omitempty"` // give way to Mounts at the same place
	VolumesFrom       []string `json:"volumesFrom,omitempty"`
	Requires          []string `json:"requires,omitempty"`     // containers that are started before it
	ImageVolumes      string   `json:"imageVolumes,omitempty"` // what the image's volumes become: anonymous, tmpfs, ignore
	Devices           []Device `json:"devices,omitempty"`
	DeviceCgroupRules []string `json:"deviceCgroupRules,omitempty"`
	ShmSize           *int64   `json:"shmSize,omitempty"` // bytes, 0 unlimited

	Sysctl       map[string]string `json:"sysctl,omitempty"`
	Ulimits      []Ulimit          `json:"ulimits,omitempty"`
	OOMScoreAdj  *int              `json:"oomScoreAdj,omitempty"`
	Resources    Resources         `json:"resources,omitzero"`
	CgroupParent string            `json:"cgroupParent,omitempty"`
	// Cgroups is containers.conf's word on which are made: "" and enabled for the
	// container and its monitor, no-conmon for the container alone, disabled
	// for neither, split for both below the caller's.
	Cgroups string `json:"cgroups,omitempty"`

	// Namespace modes in podman's words: "", private, host, none,
	// container:ID, ns:PATH, shareable; for Network also bridge and network
	// names (then listed in Networks).
	PID, IPC, UTS, CgroupNS, UserNS string
	Network                         string `json:"network,omitempty"` // "", bridge, none, host, container:ID, ns:PATH, private, pasta, slirp4netns

	Networks   []NetworkAttachment `json:"networks,omitempty"`
	Ports      []PortMapping       `json:"ports,omitempty"`
	PublishAll bool                `json:"publishAll,omitempty"`
	Expose     []string            `json:"expose,omitempty"`   // port[-port][/proto]
	AddHosts   []string            `json:"addHosts,omitempty"` // name:ip, ip may be host-gateway
	NoHosts    bool                `json:"noHosts,omitempty"`  // unless there are AddHosts
	// HostsFile is what /etc/hosts begins with: a path, image or none; "" is
	// containers.conf's.
	HostsFile  string   `json:"hostsFile,omitempty"`
	NoHostname bool     `json:"noHostname,omitempty"`
	DNS        []string `json:"dns,omitempty"` // servers; "none" leaves resolv.conf to the image
	DNSSearch  []string `json:"dnsSearch,omitempty"`
	DNSOptions []string `json:"dnsOptions,omitempty"`

	StopSignal  string        `json:"stopSignal,omitempty"`
	StopTimeout *uint         `json:"stopTimeout,omitempty"` // seconds
	Timeout     uint          `json:"timeout,omitempty"`     // seconds of life, 0 = no limit
	Restart     RestartPolicy `json:"restart,omitzero"`
	Health      *HealthCheck  `json:"health,omitempty"`   // nil: the image's
	NoHealth    bool          `json:"noHealth,omitempty"` // --no-healthcheck
	// StartupHealth has to succeed before the health check begins.
	StartupHealth *StartupCheck `json:"startupHealth,omitempty"`
	// HealthLogCount is how many probes are kept, HealthLogSize how many bytes
	// of each one's output; nil is podman's, 0 as much as there is room for.
	HealthLogCount *uint `json:"healthLogCount,omitempty"`
	HealthLogSize  *uint `json:"healthLogSize,omitempty"`

	LogDriver string            `json:"logDriver,omitempty"` // k8s-file, json-file, journald, passthrough, passthrough-tty, none
	LogPath   string            `json:"logPath,omitempty"`
	LogOpts   map[string]string `json:"logOpts,omitempty"` // tag, max-size, label

	// SDNotify says when the service manager that listens at SDNotifySocket is
	// told that the container is ready: conmon (it has started), healthy, or
	// ignore, as "".
	SDNotify       string `json:"sdNotify,omitempty"`
	SDNotifySocket string `json:"sdNotifySocket,omitempty"`

	PidFile       string `json:"pidFile,omitempty"`       // receives init's pid
	ConmonPidFile string `json:"conmonPidFile,omitempty"` // receives the monitor's pid
	CIDFile       string `json:"cidFile,omitempty"`

	// Runtime is the OCI runtime by name or path; "" is containers.conf's.
	Runtime string `json:"runtime,omitempty"`
	// Monitor is "conmon" or a path of it where it watches the container; ""
	// is cove's own.
	Monitor string `json:"monitor,omitempty"`
}

// Mount is one file system put into a container, whatever flag asked for it.
type Mount struct {
	Type        string   `json:"type"`             // bind, volume, tmpfs, image, devpts, mqueue, ramfs
	Source      string   `json:"source,omitempty"` // host path, or volume name; "" is an anonymous volume
	Destination string   `json:"destination"`
	Options     []string `json:"options,omitempty"` // as mount(8) and podman: ro, rw, z, Z, U, O, nosuid, rshared, size=…, copy, nocopy …
	SubPath     string   `json:"subPath,omitempty"`
	// Anonymous marks a volume that cove named itself and that goes with
	// its container (--rm, rm -v).
	Anonymous bool `json:"anonymous,omitempty"`
}

// Device is a host device given to a container. One of the Container Device
// Interface has its qualified name, vendor.com/class=name, as HostPath, and
// nothing else.
type Device struct {
	HostPath      string `json:"hostPath"`
	ContainerPath string `json:"containerPath"`
	Access        string `json:"access"` // letters of r, w, m
}

// CDI tells whether it is one of the Container Device Interface.
func (d Device) CDI() bool {
	kind, name, ok := strings.Cut(d.HostPath, "=")
	vendor, class, slash := strings.Cut(kind, "/")
	return ok && slash && vendor != "" && class != "" && name != ""
}

// Ulimit is one resource limit; -1 is unlimited. Host takes the engine's own.
type Ulimit struct {
	Name string `json:"name"` // as in setrlimit(2), lower case without RLIMIT_
	Soft int64  `json:"soft"`
	Hard int64  `json:"hard"`
}

// Resources are a container's cgroup limits. Zero means unlimited, except
// where a pointer tells "not asked" apart.
type Resources struct {
	Memory            int64   `json:"memory,omitempty"` // bytes
	MemoryReservation int64   `json:"memoryReservation,omitempty"`
	MemorySwap        int64   `json:"memorySwap,omitempty"` // memory+swap in bytes, -1 unlimited
	MemorySwappiness  *uint64 `json:"memorySwappiness,omitempty"`
	CPUPeriod         uint64  `json:"cpuPeriod,omitempty"` // microseconds
	CPUQuota          int64   `json:"cpuQuota,omitempty"`  // microseconds per period
	CPUs              float64 `json:"cpus,omitempty"`      // as asked with --cpus; sets period and quota
	CPUShares         uint64  `json:"cpuShares,omitempty"`
	CpusetCPUs        string  `json:"cpusetCpus,omitempty"`
	CpusetMems        string  `json:"cpusetMems,omitempty"`
	PidsLimit         *int64  `json:"pidsLimit,omitempty"` // -1 or 0 unlimited; nil: containers.conf's
	BlkioWeight       uint16  `json:"blkioWeight,omitempty"`
	OOMKillDisable    bool    `json:"oomKillDisable,omitempty"`

	CPURealtimePeriod  uint64            `json:"cpuRealtimePeriod,omitempty"`  // microseconds
	CPURealtimeRuntime int64             `json:"cpuRealtimeRuntime,omitempty"` // microseconds per period
	BlockDevices       []DeviceLimit     `json:"blockDevices,omitempty"`
	CgroupConf         map[string]string `json:"cgroupConf,omitempty"` // files of version 2 and what is written to them
}

// DeviceLimit is one limit on one block device.
type DeviceLimit struct {
	Path  string `json:"path"`  // on the host
	Limit string `json:"limit"` // rbps, wbps, riops, wiops: bytes or operations a second; weight: of 10 to 1000
	Value uint64 `json:"value"`
}

// RestartPolicy says what to do when a container exits by itself.
type RestartPolicy struct {
	Name       string `json:"name,omitempty"` // "", no, always, on-failure, unless-stopped
	MaxRetries uint   `json:"maxRetries,omitempty"`
}

// Restarts tells whether a container that has ended by itself with code is to
// be started again, after so many restarts. podman-run(1) --restart.
func (p RestartPolicy) Restarts(code int, restarts uint) bool {
	switch p.Name {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		return code != 0 && (p.MaxRetries == 0 || restarts < p.MaxRetries)
	}
	return false
}

// HealthCheck is how a container's health is probed.
type HealthCheck struct {
	Test        []string      `json:"test,omitempty"` // NONE, CMD args…, CMD-SHELL command
	Interval    time.Duration `json:"interval,omitempty"`
	Timeout     time.Duration `json:"timeout,omitempty"`
	StartPeriod time.Duration `json:"startPeriod,omitempty"`
	Retries     int           `json:"retries,omitempty"`
	OnFailure   string        `json:"onFailure,omitempty"` // none, kill, restart, stop
}

// StartupCheck is how it is probed whether a container has come up.
type StartupCheck struct {
	Test      []string      `json:"test"`               // as HealthCheck's
	Interval  time.Duration `json:"interval,omitempty"` // -1: no timer runs it
	Timeout   time.Duration `json:"timeout,omitempty"`
	Retries   int           `json:"retries,omitempty"`   // failures that restart the container; 0 none do
	Successes int           `json:"successes,omitempty"` // that end it; 0 is one
}

// What is kept of health checks unless more is asked for, docker's and podman's.
const (
	HealthLogCount = 5
	HealthLogSize  = 500
)

// At most so many probes are kept, and bytes of each one's output.
const (
	MaxHealthLogCount = 100
	MaxHealthLogSize  = 16 << 10
)

// ImageConfig is what a container took from its image when it was created.
// A later change of the image's name does not change the container.
type ImageConfig struct {
	ID           string            `json:"id"`   // without "sha256:"
	Name         string            `json:"name"` // fully qualified, as resolved
	Digest       string            `json:"digest,omitempty"`
	Layers       []string          `json:"layers"` // directories of the layers, uppermost first, relative to the graph root unless absolute
	Env          []string          `json:"env,omitempty"`
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	Cmd          []string          `json:"cmd,omitempty"`
	User         string            `json:"user,omitempty"`
	WorkDir      string            `json:"workDir,omitempty"`
	Volumes      []string          `json:"volumes,omitempty"`
	ExposedPorts []string          `json:"exposedPorts,omitempty"` // port/proto
	Labels       map[string]string `json:"labels,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"` // of its manifest
	StopSignal   string            `json:"stopSignal,omitempty"`
	Health       *HealthCheck      `json:"health,omitempty"`
	OS           string            `json:"os,omitempty"`
	Architecture string            `json:"architecture,omitempty"`
}

// Container is the record of a container: what was asked, what is wanted and
// the last run as far as it has been folded in. Whether it runs is not here
// (see [Status]).
type Container struct {
	Schema  int           `json:"schema"`
	ID      string        `json:"id"`
	Name    string        `json:"name"`
	Created time.Time     `json:"created"`
	Spec    ContainerSpec `json:"spec"`
	// Configured is what containers.conf said when it was made; nil in records
	// of before there was the field: what it says now.
	Configured *Configured `json:"configured,omitempty"`
	Image      ImageConfig `json:"image,omitzero"`
	// Systemd tells that it was made for a systemd, as Spec.Systemd decided.
	Systemd bool    `json:"systemd,omitempty"`
	Intent  Intent  `json:"intent,omitempty"`
	Desired Desired `json:"desired"`
	// Mounts are Spec.Mounts plus the image's volumes and --volumes-from,
	// with every volume named.
	Mounts []Mount `json:"mounts,omitempty"`
	// Attachments are the networks with the addresses leased to this
	// container; leases live as long as a run unless static.
	Attachments []NetworkAttachment `json:"attachments,omitempty"`
	Ports       []PortMapping       `json:"ports,omitempty"` // with every host port chosen
	// DependsOn are IDs of containers whose namespaces this one shares, or
	// that it requires: they are started before it and not removed without it.
	DependsOn []string `json:"dependsOn,omitempty"`
	// CgroupManager made its cgroups since it exists: systemd, or cgroupfs.
	CgroupManager string `json:"cgroupManager,omitempty"`
	// CgroupBase is the cgroup that those of its last run are below: an ordinary
	// user's, delegated to him, by which a later reader finds them; "" for the root.
	CgroupBase string `json:"cgroupBase,omitempty"`
	// CallerCgroup is the one that was divided for its last run (cgroups=split).
	CallerCgroup string `json:"callerCgroup,omitempty"`
	// ProcessLabel and MountLabel are its SELinux labels; "" on a host without.
	// A container that SELinux does not confine has a MountLabel alone.
	ProcessLabel string `json:"processLabel,omitempty"`
	MountLabel   string `json:"mountLabel,omitempty"`
	Run          Run    `json:"run,omitzero"`
	// StartedBy is the run that has made it, which takes its lock as soon as
	// it is recorded.
	StartedBy Process `json:"startedBy,omitzero"`
	// CommandLine is the cove command that made it, for inspect.
	CommandLine []string `json:"commandLine,omitempty"`
}

// Process is one of the host's, in this boot.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // field 22 of /proc/PID/stat: clock ticks since boot
}

// Run is one container's life as the monitor records it: written by the
// monitor to the run file, folded into the record by the next write
// transaction.
type Run struct {
	Generation uint64 `json:"generation,omitempty"` // counts starts by users
	BootID     string `json:"bootID,omitempty"`     // /proc/sys/kernel/random/boot_id at start
	PID        int    `json:"pid,omitempty"`        // init, in the engine's pid namespace; 0 when not running
	PIDStart   uint64 `json:"pidStart,omitempty"`   // field 22 of /proc/PID/stat: clock ticks since boot
	MonitorPID int    `json:"monitorPID,omitempty"`
	// MonitorStart tells a monitor that is not cove's own from another process
	// of its number, as PIDStart.
	MonitorStart uint64    `json:"monitorStart,omitempty"`
	Started      time.Time `json:"started,omitzero"`
	Finished     time.Time `json:"finished,omitzero"`
	ExitCode     int       `json:"exitCode"`
	// Exit says how the exit code came to be known: "" (reaped by the
	// monitor), "monitor lost" or "unknown" (power loss).
	Exit      string `json:"exit,omitempty"`
	OOMKilled bool   `json:"oomKilled,omitempty"`
	Restarts  uint   `json:"restarts,omitempty"`
	// RestartDue tells that the restart policy has another run follow, which
	// Restarts counts already and which has not begun.
	RestartDue bool `json:"restartDue,omitempty"`
	// RestartFails tells of a restart that is due that a list has tried it, or that
	// the monitor's own fault has brought it about: no list begins it.
	RestartFails bool   `json:"restartFails,omitempty"`
	Error        string `json:"error,omitempty"`   // why the last start failed, or the monitor died
	Removed      bool   `json:"removed,omitempty"` // --rm has been carried out by the monitor
	// Down tells that what belonged to the run (cgroups, firewall, names,
	// socket) has been taken down.
	Down bool `json:"down,omitempty"`
	// Poststop tells that hooks of that name wait for the end of the run.
	Poststop bool `json:"poststop,omitempty"`
	// Checkpointed is when the run ended in a checkpoint, Restored when it went
	// on from one. Dumping tells that a checkpoint is being made which ends it.
	Checkpointed time.Time `json:"checkpointed,omitzero"`
	Restored     time.Time `json:"restored,omitzero"`
	Dumping      bool      `json:"dumping,omitempty"`

	// Disconnected is why an ordinary user's container has no network while the
	// monitor tries to start anew what connected it.
	Disconnected string `json:"disconnected,omitempty"`

	Stopping bool    `json:"stopping,omitempty"`
	Health   *Health `json:"health,omitempty"`
	// Execs are the IDs of the further processes that commands have put into the
	// container and that still run, the oldest first.
	Execs []string `json:"execs,omitempty"`
}

// Health is the outcome of the health checks of the present run.
type Health struct {
	Status        string        `json:"status"` // starting, healthy, unhealthy
	FailingStreak int           `json:"failingStreak"`
	Log           []HealthProbe `json:"log,omitempty"` // the last ones
	// Restart tells that the run was ended for its health, to be followed by
	// another.
	Restart bool `json:"restart,omitempty"`
}

// HealthProbe is one run of the health check.
type HealthProbe struct {
	Start    time.Time `json:"start"`
	End      time.Time `json:"end"`
	ExitCode int       `json:"exitCode"`
	Output   string    `json:"output"` // its beginning
}
