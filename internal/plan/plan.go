// Package plan describes, step by step, what a container's init has to do:
// an OCI runtime spec with every word already resolved to numbers, flags and
// file descriptors. The engine (or the OCI runtime program) compiles it,
// internal/ctrinit carries it out. It is handed over as JSON in a file, so it
// has no size limit and the monitor need not keep it in memory.
//
// It is imported by the monitor's program: standard library only.
package plan

// Version is raised when an older init could misread a plan. A plan is only
// ever read by the init of the same release, except for restarts by a monitor
// that outlived an upgrade, and that monitor brings its own init.
const Version = 1

// Plan is everything between a container's clone and its exec.
type Plan struct {
	Version    int      `json:"v"`
	CgroupNS   bool     `json:"cgroupns,omitempty"`
	Hostname   string   `json:"hostname,omitempty"`
	Domainname string   `json:"domainname,omitempty"`
	Root       Root     `json:"root"`
	Mounts     []Mount  `json:"mounts,omitempty"`
	Devices    []Device `json:"devices,omitempty"`
	// SetupDev makes the links that a fresh /dev needs (fd, stdin, ptmx …).
	SetupDev bool        `json:"setupdev,omitempty"`
	Masked   []string    `json:"masked,omitempty"`
	ReadOnly []string    `json:"readonly,omitempty"`
	Sysctl   [][2]string `json:"sysctl,omitempty"`
	// Chown are host paths, sources of mounts, that are given to the
	// process's user with all that is below them.
	Chown      []string  `json:"chown,omitempty"`
	LoopbackUp bool      `json:"lo,omitempty"` // bring lo up: a network namespace nobody else configures
	Process    Process   `json:"process"`
	Accounts   *Accounts `json:"accounts,omitempty"`
	// MountLabel is the SELinux label of the file systems made for the
	// container; those of Mounts that take it as an option have it there.
	MountLabel string `json:"mountlabel,omitempty"`
	Hooks      *Hooks `json:"hooks,omitempty"`
	OCI        *OCI   `json:"oci,omitempty"`
}

// Root is the container's root file system.
type Root struct {
	// Path is where it is on the host: the mount point of Overlay, or the
	// directory itself.
	Path        string   `json:"path"`
	Overlay     *Overlay `json:"overlay,omitempty"`
	ReadOnly    bool     `json:"readonly,omitempty"`
	Propagation uint64   `json:"propagation,omitempty"` // MS_* of the host's mounts in our namespace; 0 is slave
	// Handed says that the root comes with the plan as a detached mount, and
	// as which one, from 1.
	Handed int `json:"handed,omitempty"`
}

// Overlay is an overlay mount to be made on Root.Path.
type Overlay struct {
	Base    string   `json:"base"`            // directory that Lower is relative to
	Lower   []string `json:"lower"`           // uppermost first
	Upper   string   `json:"upper,omitempty"` // absolute; empty: read-only
	Work    string   `json:"work,omitempty"`
	Options []string `json:"options,omitempty"` // volatile, userxattr …
	Flags   uintptr  `json:"flags,omitempty"`   // MS_NODEV, MS_NOSUID, MS_NOEXEC
	Context string   `json:"context,omitempty"` // SELinux label of every file
}

// Mount is one file system to be attached inside the root.
type Mount struct {
	Target string `json:"target"` // absolute, resolved inside the root
	// Type is a file system type, "bind", "cgroup" for the view of the
	// container's own cgroups ("cgroup2" for that of version 2 also where Subsystems
	// has others), or "shm" for the shared memory of another
	// container that comes with the plan.
	Type           string      `json:"type"`
	Source         string      `json:"source,omitempty"`
	Recursive      bool        `json:"recursive,omitempty"` // rbind
	Set            uint64      `json:"set,omitempty"`       // MOUNT_ATTR_* to set
	Clear          uint64      `json:"clear,omitempty"`     // MOUNT_ATTR_* to clear
	RecSet         uint64      `json:"recset,omitempty"`    // the same with AT_RECURSIVE
	RecClear       uint64      `json:"recclear,omitempty"`
	Propagation    uint64      `json:"propagation,omitempty"` // MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE
	PropagationRec bool        `json:"propagationrec,omitempty"`
	Data           []string    `json:"data,omitempty"`       // key or key=value, for fsconfig
	CopyUp         bool        `json:"copyup,omitempty"`     // tmpfs that starts with the content below it
	Subsystems     [][2]string `json:"subsystems,omitempty"` // cgroup v1: name, host directory
	IDMap          *IDMapping  `json:"idmap,omitempty"`      // who hands the mount over has made it so
	Handed         int         `json:"handed,omitempty"`     // as [Root.Handed]
}

// Device is a node to be made inside the root.
type Device struct {
	Path  string `json:"path"`
	Type  uint32 `json:"type"` // S_IFCHR, S_IFBLK or S_IFIFO
	Major uint32 `json:"major"`
	Minor uint32 `json:"minor"`
	Mode  uint32 `json:"mode"` // permission bits
	UID   int    `json:"uid,omitempty"`
	GID   int    `json:"gid,omitempty"`
	Host  string `json:"host,omitempty"` // bound from here when mknod is not allowed
}

// Process is what is executed, as init or by exec.
type Process struct {
	Args    []string `json:"args"`
	Env     []string `json:"env"`
	Cwd     string   `json:"cwd"`
	MakeCwd bool     `json:"makecwd,omitempty"`
	// User is user[:group] by name or number, looked up in the container's
	// own /etc/passwd and /etc/group. Empty: UID and GID as given.
	User   string   `json:"user,omitempty"`
	Groups []string `json:"groups,omitempty"` // additional, by name or number
	UID    uint32   `json:"uid,omitempty"`
	GID    uint32   `json:"gid,omitempty"`
	GIDs   []uint32 `json:"gids,omitempty"`
	// KeepGroups leaves the process the groups of who starts it instead.
	KeepGroups bool    `json:"keepgroups,omitempty"`
	Umask      *uint32 `json:"umask,omitempty"`
	// SetHome adds HOME from /etc/passwd when Env has none.
	SetHome      bool     `json:"sethome,omitempty"`
	Caps         Caps     `json:"caps"`
	NoNewPrivs   bool     `json:"nnp,omitempty"`
	Rlimits      []Rlimit `json:"rlimits,omitempty"`
	OOMScoreAdj  *int     `json:"oom,omitempty"`
	Terminal     bool     `json:"tty,omitempty"`
	Rows, Cols   uint16   `json:",omitempty"`
	Seccomp      []byte   `json:"seccomp,omitempty"` // array of struct sock_filter
	SeccompFlags uint     `json:"seccompflags,omitempty"`
	AppArmor     string   `json:"apparmor,omitempty"`
	// AppArmorNow has the profile, which must let everything be executed,
	// entered before the exec: a change by the exec clears PDEATHSIG.
	AppArmorNow bool   `json:"apparmornow,omitempty"`
	SELinux     string `json:"selinux,omitempty"`
	// Keyring names the container's session keyring, in which an exec's process
	// is too. [OCI] has its own.
	Keyring string `json:"keyring,omitempty"`
	// NoKeyring leaves the process in the caller's.
	NoKeyring bool `json:"nokeyring,omitempty"`
	// Reaper says that the command is our own reaper: it has started when it can
	// pass signals on, not before.
	Reaper  bool `json:"reaper,omitempty"`
	KeepFDs int  `json:"keepfds,omitempty"` // descriptors above stderr left open
}

// Accounts are users and groups for the container's own files of them.
type Accounts struct {
	Passwd []Account `json:"passwd,omitempty"`
	Group  []Account `json:"group,omitempty"`
	// ReadOnly says that the files must not be written to: copies cover them,
	// with the SELinux label Label.
	ReadOnly bool   `json:"readonly,omitempty"`
	Label    string `json:"label,omitempty"`
}

// Account is a line of passwd(5) or group(5), for a file that has neither ID
// nor, unless it is empty, Name. $GID in it is the process's group.
type Account struct {
	Name string `json:"name,omitempty"`
	ID   uint32 `json:"id"`
	Line string `json:"line"`
}

// Caps are capability sets as bit masks, capabilities(7).
type Caps struct {
	Bounding, Effective, Permitted, Inheritable, Ambient uint64
}

// Rlimit is one resource limit by number, setrlimit(2).
type Rlimit struct {
	Resource   int
	Soft, Hard uint64
}
