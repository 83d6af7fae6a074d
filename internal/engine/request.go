package engine

import (
	"cmp"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/checkpoint"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/inspect"
	"github.com/cove-engine/cove/internal/network"
)

// Streams are the caller's standard streams. A nil member is not attached.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// Terminal is the caller's terminal when In is one: it is put into raw
	// mode and its size is followed. Nil otherwise.
	Terminal *os.File
}

// CreateOptions go with a [cove.ContainerSpec] to Create and Run.
type CreateOptions struct {
	ID          string   // "" makes one
	Replace     bool     // remove a container of the same name first
	CommandLine []string // kept in the record, for inspect
	Quiet       bool     // no pull progress
	Progress    io.Writer
	Report      func(image.BlobProgress) // of a pull, as in [image.Transfer]
	AuthFile    string
	TLSVerify   *bool
	// Retries is how often a failed pull is tried again, RetryDelay the first
	// pause; nil: containers.conf's.
	Retries    *uint
	RetryDelay *time.Duration
}

// Defaults are containers.conf's for front ends.
type Defaults struct {
	// Spec is a container of which nothing has been asked: its switches and
	// mounts are for the caller to change, since a [cove.ContainerSpec] does not tell
	// what was said to be off from what was not asked for.
	Spec cove.ContainerSpec
	// EnvHost and HTTPProxy say which of the caller's variables are the
	// container's, see [HostEnv].
	EnvHost, HTTPProxy bool
	// Env are the engine's own variables, KEY=value.
	Env               []string
	MultiImageArchive bool
	LogDriver         string
}

// AttachOptions say how a caller is joined to a container's streams.
type AttachOptions struct {
	Streams    Streams
	DetachKeys string // "" is containers.conf's, NoDetachKeys none
	SigProxy   bool   // forward the caller's signals to the container
	NoStdin    bool
}

// RunOptions are CreateOptions and what to do once it runs.
type RunOptions struct {
	CreateOptions
	Attach AttachOptions
	Detach bool // return as soon as it has started
	// Keep are descriptors of this process that the first run's command gets, by
	// number.
	Keep []int
	// Listen is the variables that tell the command which of them are sockets that
	// systemd has opened, sd_listen_fds(3).
	Listen []string
}

// RunResult is how Run or an attached Start ended.
type RunResult struct {
	ID       string
	Detached bool // the caller left by the detach keys, or Detach
	ExitCode int  // valid unless Detached
	Warnings []string
	// StartFailed says, beside an error, that what was asked is in order and
	// the container did not start: exit code 126.
	StartFailed bool
	// OutputLost says, beside an error, that the caller's streams took no more
	// of the output. The container runs on, unless it was one to be removed.
	OutputLost bool
}

// StartOptions are for Start.
type StartOptions struct {
	Attach *AttachOptions // nil: return once it has started
	// unasked: the restart policy asks for it, not the caller.
	unasked bool
}

// StopOptions are for Stop and Restart.
type StopOptions struct {
	Timeout *uint  // seconds before SIGKILL; nil: the container's own
	Signal  string // "" is the container's own
	// Warn is told of a container that had to be killed when its time was over;
	// nil for nobody. Of several that are stopped at the same time, it is called
	// for each.
	Warn func(text string)

	untold bool // the event log is not told of it, but of what it is a part of
}

// RemoveOptions are for Remove.
type RemoveOptions struct {
	Force   bool // stop it first when it runs
	Volumes bool // with its anonymous volumes
	Depend  bool // with the containers that depend on it
	// Dependent is told each of those as it is removed; it may be nil.
	Dependent func(id string)
	Timeout   *uint // seconds before SIGKILL; nil: the container's own
	// Warn is that of [StopOptions].
	Warn func(text string)
}

// Container is a container as it is at one moment: its record with the run
// file folded in, and the status derived from the kernel.
type Container struct {
	cove.Container
	Status cove.Status
	// SizeRw and SizeRootFs are bytes, filled on request; -1 otherwise.
	SizeRw, SizeRootFs int64
	// Paths that inspect prints.
	Dir, LogPath, MountPoint string
	CgroupPath               string
	// Settings of the engine that belong to it.
	GraphRoot, VolumePath, Driver          string
	Runtime, CgroupManager, DefaultNetwork string
	// Unread tells why its record or its run file cannot be read: the status is
	// unknown, and of the record there may be nothing but ID and name.
	Unread error
	// recorded is the generation of the last start, which Run may not have
	// come to.
	recorded uint64
	// over tells that Run, of which something is still to be done, is the last
	// word of a monitor that is gone.
	over bool
	// fileLost tells that Run is what conmon's process tells, for want of a run file.
	fileLost bool
	// reported tells that Run is what conmon has told of the end and nobody has
	// recorded yet.
	reported bool
	// dumping tells that CRIU has ended its processes and is about to end, too.
	dumping bool
	// joined has the network that the container is in, by --network
	// container:NAME; nil when it has its own.
	joined *Container
	// NetworkMode is what it got if it asked for none; filled for one
	// container, not in lists.
	NetworkMode string
	// appArmor finds its AppArmor profile when that is asked for; nil in lists.
	appArmor func() string
}

// Inspect is the container in podman's shape.
func (c *Container) Inspect() *inspect.ContainerData {
	f := inspect.Facts{
		Status: c.Status, SizeRw: c.SizeRw, SizeRootFs: c.SizeRootFs,
		Dir: c.Dir, LogPath: c.LogPath, MountPoint: c.MountPoint, CgroupPath: c.CgroupPath,
		Layers: c.layers(), VolumePath: c.VolumePath, Driver: c.Driver, Runtime: c.Runtime,
		CgroupManager: c.CgroupManager, DefaultNetwork: c.DefaultNetwork, NetworkMode: c.NetworkMode, AppArmorProfile: c.Spec.AppArmor,
	}
	f.NetworkID, f.SandboxKey = network.ID, cmp.Or(c.joined, c).sandboxKey()
	if c.appArmor != nil {
		f.AppArmorProfile = c.appArmor()
	}
	if c.Dir != "" {
		f.HostnamePath = filepath.Join(c.Dir, "hostname")
		f.HostsPath = filepath.Join(c.Dir, "hosts")
		f.ResolvConfPath = filepath.Join(c.Dir, "resolv.conf")
		if j := c.joined; j != nil {
			f.Joined, f.JoinedStatus = &j.Container, j.Status
			f.HostsPath, f.ResolvConfPath = filepath.Join(j.Dir, "hosts"), filepath.Join(j.Dir, "resolv.conf")
		}
		if !c.Run.Checkpointed.IsZero() {
			f.DumpLog = kept(filepath.Join(c.Dir, checkpoint.Work, "dump.log"))
		}
		if !c.Run.Restored.IsZero() {
			f.RestoreLog = kept(filepath.Join(c.Dir, checkpoint.Work, "restore.log"))
		}
	}
	return inspect.Container(c.Container, f)
}

// PortMappings are those of the network that the container is in, with the host
// ports chosen, as far as they are known.
func (c *Container) PortMappings() []cove.PortMapping {
	return inspect.PortMappings(cmp.Or(c.joined, c).Container)
}

// sandboxKey is a path of the network namespace, while there is one that is not
// the caller's own: no file is made for it.
func (c *Container) sandboxKey() string {
	if c.Run.PID == 0 {
		return ""
	}
	key := "/proc/" + strconv.Itoa(c.Run.PID) + "/ns/net"
	ns, err := os.Readlink(key)
	if own, e := os.Readlink("/proc/thread-self/ns/net"); err != nil || e == nil && own == ns {
		return ""
	}
	return key
}

// layers are the directories of the image's layers, uppermost first: what the
// short names lead to, by which they are mounted.
func (c *Container) layers() []string {
	var dirs []string
	for _, l := range c.Image.Layers {
		if !filepath.IsAbs(l) {
			l = filepath.Join(c.GraphRoot, l)
		}
		if real, err := filepath.EvalSymlinks(l); err == nil {
			l = real
		}
		dirs = append(dirs, l)
	}
	return dirs
}

// kept is the name of a file that is there.
func kept(name string) string {
	if _, err := os.Lstat(name); err != nil {
		return ""
	}
	return name
}

// ListOptions choose containers. Filters are podman's: key to values, values
// of one key are alternatives, keys must all match.
type ListOptions struct {
	All     bool
	Last    int // the newest N whatever their status; 0 no limit
	Latest  bool
	Filters map[string][]string
	Size    bool
	// Settle has the ends of containers recorded whose monitor was killed, and
	// their restart policies applied, of all that there are. That takes a second
	// at most, and starts that have begun by then ten.
	Settle bool
}

// ExecSpec is one more process in a running container.
type ExecSpec struct {
	Command    []string
	Env        []string
	WorkDir    string
	User       string
	Terminal   bool
	Stdin      bool
	Privileged bool
	Detach     bool
	Keep       []int // descriptors of this process that the command gets, by number
}

// ExecResult is how an exec ended.
type ExecResult struct {
	// ID is the exec's own. Nothing can be asked about it yet.
	ID       string
	ExitCode int
	Detached bool
	// StartFailed says, beside an error, that the process did not start.
	StartFailed bool
	// OutputLost says, beside an error, that the caller's streams took no more
	// of the output. The process runs on.
	OutputLost bool
}

// LogOptions choose what Logs prints.
type LogOptions struct {
	Follow       bool
	Tail         *int // how many of the last lines to begin with; nil: all, as less than none
	Since, Until time.Time
	// Idle, unless nil, is called whenever all lines so far have been given,
	// before more are waited for: what was held back can be shown.
	Idle func() error
}

// LogLine is one line, without its newline; Partial when more of it follows.
type LogLine struct {
	Time    time.Time
	Stream  string // stdout or stderr
	Text    []byte
	Partial bool
}

// WaitOptions are for Wait.
type WaitOptions struct {
	Conditions []string // statuses; empty: exited
	Interval   time.Duration
	Ignore     bool // a missing container counts as ended with -1
}

// Stats is one sample of a container's use of resources. Times are
// nanoseconds, sizes bytes.
type Stats struct {
	ID, Name                 string
	At                       time.Time
	Started                  time.Time
	CPUNano, SystemNano      uint64
	CPUUserNano, CPUKernNano uint64
	PerCPU                   []uint64 // CPUNano by processor; of cgroups version 1 alone
	MemUsage, MemLimit       uint64
	NetIn, NetOut            uint64
	Interfaces               map[string]InterfaceStats // of which NetIn and NetOut are the sum
	BlockIn, BlockOut        uint64
	PIDs                     uint64
	OnlineCPUs               int
}

// InterfaceStats is what a network interface has received and sent. Field by
// field it is podman's, whose templates print it whole.
type InterfaceStats struct {
	RxBytes, RxDropped, RxErrors, RxPackets uint64
	TxBytes, TxDropped, TxErrors, TxPackets uint64
}

// Difference is one disagreement between the records and reality.
type Difference struct {
	Kind     string // mount, cgroup, process, link, nft, lease, directory, record, …
	Object   string
	Owner    string // container, volume or network ID; "" when none has it
	Problem  string
	Repaired bool
}
