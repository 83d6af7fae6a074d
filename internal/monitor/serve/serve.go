// Package serve is the program that watches one container: it clones the
// container's init, copies its streams to the log and to whoever is attached,
// reaps it, records the exit, applies the restart policy, runs health checks
// and takes down what belonged to the run. It is the one owner of an exit.
//
// It knows nothing of images, stores or networks: all it needs comes as data
// in [wire.Envelope]. It never opens the state store.
//
// Everything happens on one locked thread around one epoll loop, so there are
// no locks and little memory: one of these lives beside every container. The
// thread is the main one because init is to die with it (PR_SET_PDEATHSIG
// counts the parent's thread, prctl(2)).
//
// Standard library and x/sys only; net and net/http stay out.
package serve

import (
	"math"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/coldjson"
	"github.com/cove-engine/cove/internal/ctrinit"
	"github.com/cove-engine/cove/internal/ctrinit/hook"
	"github.com/cove-engine/cove/internal/interrupt/early"
	"github.com/cove-engine/cove/internal/journal"
	"github.com/cove-engine/cove/internal/monitor/forward"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

const control = 3 // the socket to the cove that started us

// Monitor is the state of one monitor process.
type Monitor struct {
	loop
	env      wire.Envelope
	keep     []kept // init's
	dir      int    // the container's directory
	record   *runfile.File
	flags    uintptr
	foreign  bool  // another OCI runtime makes the container
	restores bool  // the run to come goes on from a checkpoint
	dump     *dump // the checkpoint under way
	dumped   bool  // the run ends in a checkpoint
	driver   child // what drives it, until the container runs
	exe      int   // our own program, as a read-only mount of its own or a memfd
	planFD   int
	spaces   []namespace
	shm      int   // mount namespace of another container's shared memory
	proc     int   // mount namespace with the /proc of a process namespace to join
	root     int   // init's, held until the exit is told
	ports    []int // sockets that reserve the published ports
	fwd      []forward.Port
	home     int // the network namespace to live in, -1 for where it is
	lan      int // the file in which that is told

	init    child
	uplink  child // the network program's namespace; no pid when there is none
	run     cove.Run
	streams streams
	log     logger
	journal journal.Socket // for events
	clients map[int]*client
	listen  int
	socket  unix.Stat_t // of the name of what listens
	execs   map[int]*execution

	stopping    bool          // a user asked for the end: no restart
	tellStop    bool          // and that is told
	hook        *hook.Running // that is waited for
	hooked      bool          // hooks of this run may have run: poststop is due
	calledOff   bool          // the start being prepared is not to be
	driverTimer *timer        // SIGKILL of a driver that was called off
	signalTimer *timer        // a stop's signal, while init would not hear it
	killTimer   *timer        // SIGKILL after a stop's time-out
	backoff     time.Duration // before the next restart by policy
	reconnects  time.Duration // the same of the uplink
	connecting  *timer        // runs in that pause, and as long as a new uplink gets ready
	ended       bool          // the final exit is being handled
	over        bool          // it has been
	unrecorded  bool          // it has, but it could not be written down
	orphans     bool          // see keepOrphans
	untold      bool          // see endUntold
	// birthless says that cgroup.kill was written: from Linux 6.14 on whoever is
	// born in such a cgroup is killed, too (kill_seq of kernel/cgroup/cgroup.c; seen
	// on 6.18). Who moves in is not.
	birthless bool
	tasks     string // the limit that liftTasks has lifted
	power     power  // see ordinary
	score     string // the caller's OOM score, once it is not ours any more: spare
	health    prober
	stopNames func() // nil when no names are answered
	stopPorts func() // nil when no ports are forwarded
	retarget  func() // tells it other addresses
	// Shared by all, since there is one thread: one read of output, one
	// message of a client.
	buf   [16 << 10]byte
	input [33 << 10]byte
}

type namespace struct {
	flag, fd int
}

type child struct {
	pid, pidfd int
	socket     int
	started    time.Time
}

// Main runs the monitor and does not return. args are the program's, without
// its name: wire version, clone flags of init in decimal, letters t (terminal),
// i (stdin), s (its own streams are the container's), o (another OCI runtime
// makes the container); behind ":" and with commas between them, the numbers that
// descriptors from 4 on have for the command. Descriptor 3 is the socket to cove.
func Main(args []string) {
	early.Note(unix.SIGTERM)
	early.Note(unix.SIGINT)
	runtime.LockOSThread()
	// A monitor makes no garbage as long as nobody speaks with it, and the
	// collector, which otherwise runs every two minutes all the same, keeps for
	// itself more than it finds: a third of a monitor's memory. So it runs only
	// when the runtime, at 5 MiB (mapped, not used) from the start, comes to this.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(6 << 20)
	setName("cove-monitor") // the file's name has a checksum in it
	if len(args) != 3 {
		os.Exit(125)
	}
	flags, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		os.Exit(125)
	}
	m := newMonitor()
	letters, numbers, _ := strings.Cut(args[2], ":")
	m.foreign, m.flags = strings.Contains(letters, "o"), uintptr(flags)
	if m.keep, err = toKeep(numbers); err != nil {
		os.Exit(125)
	}
	closeBut(len(m.keep))
	if strings.Contains(letters, "s") {
		if err := m.streams.takeOwn(); err != nil {
			m.giveUp(wire.Fail("keep the container's streams", err))
		}
	}
	if f := m.boot(strings.Contains(letters, "t"), strings.Contains(letters, "i")); f != nil {
		m.giveUp(f)
	}
	m.serve()
	os.Exit(m.run.ExitCode) // for systemd, where a unit's main process is its container's monitor, as conmon
}

// toKeep reads which descriptors are the command's.
func toKeep(numbers string) (keep []kept, err error) {
	if numbers == "" {
		return nil, nil
	}
	for s := range strings.SplitSeq(numbers, ",") {
		k := kept{fd: control + 1 + len(keep)}
		if k.number, err = strconv.Atoi(s); err != nil {
			return nil, err
		}
		unix.CloseOnExec(k.fd)
		keep = append(keep, k)
	}
	return keep, nil
}

// closeBut closes what the caller has left open beside our socket and n more: that
// is not the container's to reach, nor ours to keep: locks, ends of pipes. Nothing of
// ours may be open by then.
func closeBut(n int) {
	if err := unix.CloseRange(uint(control+1+n), math.MaxInt32, 0); err != nil {
		os.Exit(125)
	}
}

// newMonitor is one that has been told nothing yet.
func newMonitor() *Monitor {
	return &Monitor{planFD: -1, home: -1, lan: -1, shm: -1, proc: -1, root: -1, listen: -1, clients: map[int]*client{}, execs: map[int]*execution{},
		streams: streams{in: -1, out: -1, err: -1, master: -1}}
}

// boot starts init, learns what to do with it and leads it to its exec.
func (m *Monitor) boot(terminal, stdin bool) *wire.Failure {
	// Out of the caller's session: its terminal and its hang-ups are not ours.
	if _, err := unix.Setsid(); err != nil && err != unix.EPERM {
		return wire.Fail("setsid", err)
	}
	unix.CloseOnExec(control)
	var err error
	if m.exe, err = ctrinit.Self(); err != nil {
		return wire.Fail("seal own program", err)
	}
	// Outside Go's heap, where it would stay: what a monitor has once used
	// it keeps.
	big, err := unix.Mmap(-1, 0, wire.Max, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return wire.Fail("map memory", err)
	}
	defer unix.Munmap(big)
	kind, body, _, err := wire.Receive(control, big)
	if err != nil || kind != wire.Clone {
		os.Exit(1) // called off
	}
	if f := m.cloneInit(terminal, stdin, string(body)); f != nil {
		return f
	}
	if f := m.receiveStart(big); f != nil {
		return f
	}
	if f := m.setUp(); f != nil {
		return f
	}
	prepare := []func() *wire.Failure{m.prepareInit, m.uplinkReady}
	if m.env.Hooks != nil { // that expect the network
		prepare = []func() *wire.Failure{m.uplinkReady, m.prepareInit}
	}
	if m.env.Hooks != nil || m.foreign {
		m.untilGone()
	}
	for _, step := range prepare {
		if f := step(); f != nil {
			return f
		}
	}
	m.unwatch(control)
	return m.release(big)
}

// giveUp takes everything down again after a start that failed, or was called off
// (nil), and ends the process.
func (m *Monitor) giveUp(f *wire.Failure) {
	m.unwatch(control)
	m.killInit()
	m.emptyCgroups()
	m.deleteForeign()
	m.poststop()
	m.teardown()
	if f != nil {
		_ = wire.SendJSON(control, wire.Failed, f)
	}
	os.Exit(1)
}

// receiveStart reads the envelope and the descriptors that come with it.
func (m *Monitor) receiveStart(buf []byte) *wire.Failure {
	var fds []int
	for {
		kind, body, got, err := wire.Receive(control, buf)
		if err != nil {
			// cove is gone before it told us anything: nothing to do.
			m.killInit()
			os.Exit(1)
		}
		fds = append(fds, got...)
		if kind == wire.FDs {
			continue
		}
		if kind != wire.Start {
			return &wire.Failure{Step: "receive the start", Text: "unexpected message"}
		}
		if body, fds, err = wire.Long(body, fds); err == nil {
			err = coldjson.Unmarshal(body, &m.env)
		}
		if err != nil {
			return &wire.Failure{Step: "read the start", Text: err.Error()}
		}
		break
	}
	m.restores = m.env.Restore != nil
	if m.env.Version > wire.Version {
		return &wire.Failure{Step: "read the start", Text: "it comes from a newer cove"}
	}
	if len(m.env.Handed) != len(fds) || !slices.Contains(m.env.Handed, "run") && m.env.Init == nil {
		return &wire.Failure{Step: "read the start", Text: "descriptors are missing"}
	}
	for i, name := range m.env.Handed {
		switch {
		case name == "plan":
			m.planFD = fds[i]
		case strings.HasPrefix(name, "ns:"):
			flag, _ := strconv.Atoi(name[3:])
			m.spaces = append(m.spaces, namespace{flag, fds[i]})
		case name == "shm":
			m.shm = fds[i]
		case name == "proc":
			m.proc = fds[i]
		case name == "member":
			becomeMember(fds[i])
		case name == "hold":
			m.ports = append(m.ports, fds[i])
		case strings.HasPrefix(name, "port:"):
			protocol, port, _ := strings.Cut(name[5:], ":")
			number, _ := strconv.ParseUint(port, 10, 16)
			m.ports = append(m.ports, fds[i])
			m.fwd = append(m.fwd, forward.Port{FD: fds[i], Protocol: protocol, Port: uint16(number)})
		case name == "home":
			m.home = fds[i]
		case name == "network":
			m.lan = fds[i]
		case name == "run":
			m.record = runfile.Attach(fds[i])
			_ = m.record.TakeLastWords() // it may run without
		}
	}
	return nil
}

// becomeMember lets an ordinary user's commands find this process, and with it
// the user namespace that it lives in, by a lock on the byte of its process
// ID (internal/rootless).
func becomeMember(fd int) {
	_ = unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: int64(os.Getpid()), Len: 1})
}

// setUp does what has to be there before init goes on.
func (m *Monitor) setUp() *wire.Failure {
	var err error
	if m.dir, err = unix.Open(m.env.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return wire.Fail("open "+m.env.Dir, err)
	}
	_ = unix.Chdir("/")
	m.keepOrphans()
	if f := m.moveIn(); f != nil {
		return f
	}
	if f := m.startUplink(); f != nil {
		return f
	}
	// Into the monitors' cgroups, so that whoever ends the caller's does not
	// end us.
	if f := enterCgroups(m.env.MonitorCgroups); f != nil {
		return f
	}
	m.run = cove.Run{Generation: m.env.Generation, BootID: m.env.BootID, MonitorPID: os.Getpid(), Restarts: m.env.Restart.Count}
	if err := m.loop.open(); err != nil {
		return wire.Fail("epoll", err)
	}
	if err := m.openLog(); err != nil {
		return &wire.Failure{Step: "open log " + m.env.Log.Path, Text: err.Error()}
	}
	return nil
}

// serve is the life of the monitor once its container runs.
func (m *Monitor) serve() {
	c := m.adopt(control)
	c.output = m.env.AttachOut
	c.first = true
	if m.listen < 0 { // else somebody may be in its queue
		m.openSocket()
	}
	m.spare()
	m.after(signalsAfter, m.watchSignals)
	m.keepUplink()
	m.startHealth()
	m.poststart(c)
	if m.env.Lifetime > 0 {
		m.after(m.env.Lifetime, func() { m.stop(int(unix.SIGKILL), 0) })
	}
	for !m.over || m.unrecorded || m.clientsWaiting() {
		m.step()
	}
}

// signalsAfter is when a monitor begins to listen to signals: a goroutine and a
// thread, more than many a container's whole life takes. Until then they are
// taken note of ([early.Note]).
const signalsAfter = 100 * time.Millisecond

// watchSignals brings the signals that mean something to a monitor into the
// loop: SIGUSR1 makes the socket and the run file's record anew, SIGTERM stops the container, SIGCHLD may
// be the end of an orphan. (They cannot be blocked and read from a descriptor:
// the Go runtime unblocks those that end a process in each of its threads.)
func (m *Monitor) watchSignals() {
	// SIGHUP is caught, not ignored: what is ignored stays so across exec,
	// and the next init is ours.
	signals := []os.Signal{unix.SIGUSR1, unix.SIGTERM, unix.SIGINT, unix.SIGHUP}
	if m.orphans {
		signals = append(signals, unix.SIGCHLD)
	}
	m.onSignals(func(s syscall.Signal) {
		switch s {
		case unix.SIGUSR1:
			m.openSocket()
			if !m.run.Started.IsZero() && !m.over { // else there is nothing to tell yet, or it goes
				_ = m.renewRecord(false) // who has asked sees whether it is there
			}
		case unix.SIGCHLD:
			m.reapStrays()
		case unix.SIGHUP:
		default:
			m.stop(m.env.StopSignal, m.env.StopTimeout)
		}
	}, signals...)
	if early.End() != 0 {
		m.stop(m.env.StopSignal, m.env.StopTimeout)
	}
}

// renewRecord writes the run file, which somebody may have removed or replaced, with its
// directory: then it is made anew.
func (m *Monitor) renewRecord(durable bool) error {
	if unix.Mkdir(m.env.Dir, 0o700) == nil {
		if fd, err := unix.Open(m.env.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
			_ = unix.Close(m.dir)
			m.dir = fd
		}
	}
	return m.record.Renew(m.env.Dir, &m.run, durable)
}

// onSignals has the loop handle signals.
func (m *Monitor) onSignals(handle func(syscall.Signal), signals ...os.Signal) {
	var p [2]int
	if unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return
	}
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, signals...)
	go func() {
		for s := range ch {
			_, _ = unix.Write(p[1], []byte{byte(s.(syscall.Signal))})
		}
	}()
	m.watch(p[0], unix.EPOLLIN, func(uint32) {
		var b [8]byte
		n, _ := unix.Read(p[0], b[:])
		for _, s := range b[:max(n, 0)] {
			handle(syscall.Signal(s))
		}
	})
}

// setName is what ps(1) shows of the process.
func setName(name string) {
	b := append([]byte(name), 0)
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&b[0])), 0, 0, 0)
}
