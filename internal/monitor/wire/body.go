package wire

import (
	"time"

	"github.com/cove-engine/cove/internal/plan"
)

// Envelope is the body of Start: all that a monitor knows of its container.
// Paths are absolute.
type Envelope struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"`
	Dir     string `json:"dir"`              // the container's directory under the graph root
	Socket  string `json:"socket,omitempty"` // the attach socket, under the run root
	// Handed names the descriptors that came with Start (and FDs), in
	// order: "plan", "ns:FLAG" (a namespace to join, FLAG its CLONE_NEW*),
	// "shm" (a mount namespace that is nothing but shared memory, for
	// /dev/shm), "proc" (a mount namespace with the /proc of a process namespace
	// to join), "hold" (kept open for the life of the container: published
	// ports), "port:PROTOCOL:PORT" (a bound socket, to be forwarded to that
	// port of the container), "home" (the network namespace that the monitor
	// itself lives in), "network" (the file in which those who do so hold
	// locks), "member" (the file in which members of an ordinary user's
	// namespace hold locks), "run" (the run file, with the lock that shows
	// that the monitor lives).
	Handed []string `json:"handed"`

	Generation uint64 `json:"generation"`
	BootID     string `json:"boot,omitempty"`

	Terminal bool `json:"tty,omitempty"`
	Stdin    bool `json:"stdin,omitempty"`
	// AttachStdin etc.: the sender of Start gets output from the first byte.
	AttachOut bool `json:"attachout,omitempty"`
	StdinOnce bool `json:"stdinonce,omitempty"` // end of the first client's stdin closes the container's

	Log     Log      `json:"log"`
	Cgroups []string `json:"cgroups,omitempty"` // directories to join; removed at the end, deepest last made first gone
	Unified string   `json:"unified,omitempty"` // the one of them of version 2
	// MonitorCgroups are joined by the monitor itself: those that it was not
	// born in.
	MonitorCgroups []string `json:"monitorcgroups,omitempty"`

	StopSignal  int           `json:"stopsignal"`
	StopTimeout uint          `json:"stoptimeout"`
	Lifetime    time.Duration `json:"lifetime,omitempty"` // --timeout
	Restart     Restart       `json:"restart,omitzero"`
	Health      *Health       `json:"health,omitempty"`
	Teardown    Teardown      `json:"teardown,omitzero"`
	Resolver    *Resolver     `json:"resolver,omitempty"`
	Uplink      *Uplink       `json:"uplink,omitempty"`
	Forward     Forward       `json:"forward,omitzero"`
	PidFile     string        `json:"pidfile,omitempty"`
	Foreign     *Foreign      `json:"foreign,omitempty"`
	// Hooks is set when there are any, be they only another runtime's to run.
	// Their bundle is removed at the end.
	Hooks   *plan.Hooks `json:"hooks,omitempty"`
	Events  *Events     `json:"events,omitempty"`
	Restore *Restore    `json:"restore,omitempty"`
	// Init is the container's process and Started when it was let go, for an
	// aide: its monitor is conmon. The file "run" is the aide's own then, and
	// is there if it is to stay.
	Init    *Process  `json:"init,omitempty"`
	Started time.Time `json:"started,omitzero"`
	// Checkpoints tells of an aide that stays that it is of a release whose
	// aides make them, and take the turn of one with the request.
	Checkpoints bool `json:"checkpointTurns,omitempty"`
}

// Restore says that the run goes on from a checkpoint instead of beginning
// with the command. A restart by policy begins with the command.
type Restore struct {
	Images
	Started      time.Time `json:"started"`               // when the run did that goes on
	Checkpointed time.Time `json:"checkpointed,omitzero"` // stays recorded until it does
}

// Images are the process images that CRIU writes or reads on behalf of another
// OCI runtime.
type Images struct {
	Dir  string   `json:"dir"`            // of images
	Work string   `json:"work"`           // of CRIU's log and statistics
	Args []string `json:"args,omitempty"` // the runtime's further arguments
}

// Process is one of the host's.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
}

// Become is the body of Start where conmon is the monitor: what the process
// that cove has forked becomes. The descriptors that come with it have the
// numbers from [BecomeFD] on in it; 3 stays the socket to cove, for the driver
// that conmon runs as its OCI runtime.
type Become struct {
	Args    []string `json:"args"`
	Env     []string `json:"env"`
	Cgroups []string `json:"cgroups,omitempty"` // to join before, as a monitor does
	// Member is the number of the file of an ordinary user's namespace, whose
	// lock it is to hold as what it has become, too; 0 for root.
	Member int `json:"member,omitempty"`
}

// BecomeFD is the first number of the descriptors that come with [Become].
const BecomeFD = 10

// Foreign is another OCI runtime's side of the container.
type Foreign struct {
	Runtime []string `json:"runtime"` // program and global arguments
	Dir     string   `json:"dir"`     // bundle and state, removed at the end
}

// Log says where output goes.
type Log struct {
	Driver  string `json:"driver"` // k8s-file, json-file, journald, passthrough, passthrough-tty, none
	Path    string `json:"path,omitempty"`
	MaxSize int64  `json:"maxsize,omitempty"` // bytes, 0 no limit
	MaxFile int    `json:"maxfile,omitempty"` // rotated files kept beside the present one
	Tag     string `json:"tag,omitempty"`     // journald's
}

// Restart is the restart policy.
type Restart struct {
	Policy  string `json:"policy,omitempty"`  // always, on-failure, unless-stopped; "" never
	Retries uint   `json:"retries,omitempty"` // on-failure: at most; 0 no limit
	Count   uint   `json:"count,omitempty"`   // restarts so far
}

// Health is a health check, with every default filled in.
type Health struct {
	Plan        []byte        `json:"plan"`     // plan.Plan of the probe, as JSON
	Interval    time.Duration `json:"interval"` // 0: only on request
	Timeout     time.Duration `json:"timeout"`
	StartPeriod time.Duration `json:"startperiod"`
	Retries     int           `json:"retries"`
	OnFailure   string        `json:"onfailure,omitempty"`
	Startup     *Startup      `json:"startup,omitempty"` // before it
	// LogCount probes are kept, LogSize bytes of each one's output; nil is the
	// usual, 0 as much as there is room for.
	LogCount *uint `json:"logcount,omitempty"`
	LogSize  *uint `json:"logsize,omitempty"`
}

// Startup is a check that has to succeed before the health check begins.
type Startup struct {
	Plan      []byte        `json:"plan"`
	Interval  time.Duration `json:"interval"` // 0: only on request
	Timeout   time.Duration `json:"timeout"`
	Retries   int           `json:"retries,omitempty"`   // failures that restart the container; 0 none do
	Successes int           `json:"successes,omitempty"` // that end it; 0 is one
}

// Teardown is what the monitor undoes once its container has ended, as data:
// it knows nothing of networks or stores.
type Teardown struct {
	Nft    [][]byte `json:"nft,omitempty"`    // nfnetlink batches, sent as they are
	Unlink []string `json:"unlink,omitempty"` // files to remove (names for the resolver, pid files)
	// Remove asks for --rm: Dir is renamed to Removed, which tells the engine
	// to drop the record, and emptied there.
	Remove  bool   `json:"remove,omitempty"`
	Removed string `json:"removed,omitempty"`
}

// Resolver is the name server for a container on networks with names.
type Resolver struct {
	Dir      string   `json:"dir"`
	Networks []string `json:"networks"`
	Upstream []string `json:"upstream,omitempty"`
}

// Forward says where published ports lead that no firewall forwards, and with
// which byte of the file "network" its monitor is found.
type Forward struct {
	Targets []string `json:"targets,omitempty"` // addresses of the container
	Member  int64    `json:"member,omitempty"`  // the byte is this and the monitor's process ID
}

// Uplink is a program that connects the container's network namespace, the
// one handed as "ns:", for an ordinary user: pasta or slirp4netns.
type Uplink struct {
	Args  []string `json:"args"` // the program's path and its arguments
	Env   []string `json:"env,omitempty"`
	Netns string   `json:"netns"` // the file at which the program finds the namespace
	// ReadyFD says that it writes a byte to descriptor 3 when it is ready;
	// otherwise it then goes into the background.
	ReadyFD bool `json:"readyfd,omitempty"`
	// Requests are sent to its Socket once it is ready: JSON objects, each
	// answered by one. It runs in the socket's directory, which is Netns's and
	// which others see nothing of, and is told its name alone: a socket's path is
	// at most 107 bytes, unix(7).
	Socket   string   `json:"socket,omitempty"`
	Requests []string `json:"requests,omitempty"`
	// Keep asks for a life of its own, for the namespace of an ordinary
	// user's bridges; nil: it dies with its parent.
	Keep *Keep `json:"keep,omitempty"`
}

// Keep is how the first process of a shared uplink is found and when it ends.
// With Prepare come the network namespace and the file of locks.
type Keep struct {
	FD    int   `json:"fd"`    // at this descriptor others find the namespace
	Own   int64 `json:"own"`   // the byte of the file that it locks
	Users int64 `json:"users"` // it ends when no byte from there on is locked
	// Cgroups are joined, as by a monitor.
	Cgroups []string `json:"cgroups,omitempty"`
}

// Events are where the monitor tells what happened and with which words.
type Events struct {
	Path   string            `json:"path"` // the event log; "" is the journal
	Store  string            `json:"store,omitempty"`
	Image  string            `json:"image,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	Max    int64             `json:"max,omitempty"` // of the log and the one before it, in bytes; 0 is no limit
	// NoHealth keeps to itself how the container's health changes.
	NoHealth bool `json:"noHealth,omitempty"`
}

// StartedBody is the body of Started.
type StartedBody struct {
	PID      int    `json:"pid"` // in the monitor's pid namespace
	PIDStart uint64 `json:"pidstart"`
	Monitor  int    `json:"monitor"`
}

// ExitBody is the body of Exit.
type ExitBody struct {
	Code      int  `json:"code"`
	OOMKilled bool `json:"oom,omitempty"`
	Restarts  bool `json:"restarts,omitempty"` // it will be started again by policy
}

// Size of a terminal.
type Size struct {
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// AttachBody is the body of Attach.
type AttachBody struct {
	Output bool `json:"output"`
	Stdin  bool `json:"stdin"`
}

// RenameBody is the body of Rename.
type RenameBody struct {
	Name string `json:"name"`
}

// StopBody is the body of Stop: signal now, SIGKILL after the time-out, no
// restart. Signal 0 only forbids the restart.
type StopBody struct {
	Signal  int  `json:"signal"`
	Timeout uint `json:"timeout"` // seconds
	// Tell has the event "stop" told before the end's own.
	Tell bool `json:"tell,omitempty"`
}

// ExecBody is the body of Exec. Descriptors: the plan, then stdin, stdout and
// stderr unless Terminal, in which case Ready brings the pty's master back, then
// those that the process has under the numbers of Keep.
type ExecBody struct {
	Version  int  `json:"version"`
	Terminal bool `json:"tty,omitempty"`
	Detach   bool `json:"detach,omitempty"`
	// ID is what the process is called while it runs.
	ID string `json:"id,omitempty"`
	// Keep is for the monitor's own processes alone, no other OCI runtime's.
	Keep []int `json:"keep,omitempty"`
}

// Keepable tells whether descriptors of a command may have these numbers: different
// ones, behind the standard streams, and not so many that they do not fit a packet.
func Keepable(numbers []int) bool {
	seen := map[int]bool{}
	for _, n := range numbers {
		if n < 3 || n > MaxKept || seen[n] {
			return false
		}
		seen[n] = true
	}
	return true
}

// MaxKept is the highest number that a descriptor kept for a command may have.
const MaxKept = 200

// PrepareBody is the body of Prepare. Descriptors: the plan, then one for
// each namespace to join, then the shared memory's when Shm is set, then
// init's pidfd when Join is set.
type PrepareBody struct {
	Namespaces []int `json:"ns,omitempty"` // CLONE_NEW* flags
	// Held are the numbers of the monitor's own descriptors of them, which it
	// holds as long as the container runs: another OCI runtime remembers them.
	Held []int `json:"held,omitempty"`
	// Shm says that /dev/shm is that of another container.
	Shm bool `json:"shm,omitempty"`
	// Unread says that the process's standard error is a pipe that nobody reads
	// before it runs: another OCI runtime's words are found in it.
	Unread bool `json:"unread,omitempty"`
	// Proc says that /proc is another container's, with whom the process
	// namespace is shared: its mount namespace comes after Shm's.
	Proc bool `json:"proc,omitempty"`
	// Handed names further descriptors before the pidfd, for the OCI runtime:
	// "mount" (a detached one), "start" (a listening socket on which start
	// comes), "waiting" (a lock held until exec), "notify" (a connection to
	// the seccomp agent), "root" (of the container that an exec is for, where
	// the mount namespace is not to be joined).
	Handed []string `json:"handed,omitempty"`
	// Join is for exec: the CLONE_NEW* flags joined by the pidfd.
	Join int `json:"join,omitempty"`
	// Init is for an exec or a checkpoint by another OCI runtime: the
	// container's process.
	Init       int     `json:"init,omitempty"`
	Checkpoint *Images `json:"checkpoint,omitempty"`
	Restore    *Images `json:"restore,omitempty"`
	// Cgroups are the container's of version 1, which a process joins itself.
	Cgroups []string `json:"cgroups,omitempty"`
}

// ReadyBody is the body of Ready where another OCI runtime has made the process,
// or, with PID 0, is about to restore it: that needs a Go and is told by a second
// Ready.
type ReadyBody struct {
	PID int `json:"pid"`
}

// CheckpointBody is the body of Checkpoint.
type CheckpointBody struct {
	Images
	Leave bool `json:"leave,omitempty"` // the container runs on
	Stay  bool `json:"stay,omitempty"`  // the container is not removed by --rm at its end
}

// GoBody is the body of cove's Go: what the monitor has to undo at the end
// beyond the envelope's teardown, known only now.
type GoBody struct {
	Nft    [][]byte `json:"nft,omitempty"`
	Unlink []string `json:"unlink,omitempty"`
}

// NetworksBody is the body of Networks: what takes the place of the start's.
type NetworksBody struct {
	Nft      [][]byte  `json:"nft,omitempty"`
	Unlink   []string  `json:"unlink,omitempty"`
	Resolver *Resolver `json:"resolver,omitempty"`
	Forward  Forward   `json:"forward,omitzero"`
}
