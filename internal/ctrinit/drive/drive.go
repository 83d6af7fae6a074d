// Package drive stands in init's place where another OCI runtime makes the
// container: runc, crun or whatever keeps to the runtime's command line. It
// speaks with the monitor as init does, mounts the root in a mount namespace of
// its own, has the runtime create the container, tells the monitor its process
// and ends once the runtime has started it. The monitor is the container's
// parent from then on, since it takes in orphans.
//
// Standard library, x/sys and what else the monitor has only.
package drive

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/ctrinit"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/plan"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/rootfs"
)

const control = 3 // the socket to the monitor

// patience is how long a runtime may take for one command. One that boots a
// machine for its container takes seconds.
const patience = 2 * time.Minute

// driver is the state of one creation or exec.
type driver struct {
	plan.Foreign
	init   int               // for an exec: the container's process
	unseen bool              // whose files are not to be found on the host
	dir    int               // the scratch directory
	spaces map[string]string // paths of the namespaces to be joined, by type
	shm    int               // a mount namespace that is nothing but shared memory, or -1
	unread bool              // standard error is a pipe that nobody reads yet
	// turn is the lock of a checkpoint that is to be made, see Turn: CRIU gets it, too.
	turn int
	// dump and restore are the images to be written or read; nil for neither.
	dump, restore *wire.Images
	// runtimeArgs are what conmon asks of its OCI runtime, nil without conmon;
	// conmon is its pidfd.
	runtimeArgs []string
	conmon      int
}

// Main is the whole life of the process; it does not return. Its caller has
// locked the main thread.
func Main() {
	d := &driver{dir: -1, shm: -1, spaces: map[string]string{}}
	if f := d.run(); f != nil {
		_ = wire.SendJSON(control, wire.Failed, f)
		os.Exit(1)
	}
	os.Exit(0)
}

// Create is Main where conmon is the monitor and has us for its OCI runtime:
// args are those of the runtime's create, or restore. A guard has the runtime start
// what is created, and conmon is its parent. What conmon inherited from cove is not
// the runtime's.
func Create(args []string) {
	d := &driver{dir: -1, shm: -1, spaces: map[string]string{}, runtimeArgs: args}
	f := d.inherit()
	if f == nil {
		f = tellCove()
	}
	if f == nil {
		f = d.run()
	}
	if f != nil {
		_ = wire.SendJSON(control, wire.Failed, f)
		_, _ = os.Stderr.WriteString(f.Error() + "\n")
		os.Exit(1)
	}
	os.Exit(0)
}

func (d *driver) inherit() *wire.Failure {
	if len(d.runtimeArgs) == 0 || d.runtimeArgs[0] != "create" && d.runtimeArgs[0] != "restore" {
		return &wire.Failure{Step: "read conmon's request", Text: "it is neither create nor restore"}
	}
	if err := unix.CloseRange(control, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return wire.Fail("keep descriptors from the runtime", err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return wire.Fail("make a mount namespace", err)
	}
	// As long as conmon's death is ours it is our parent. From then on we have to
	// outlive it: what the runtime has started, hooks for one, is ours to end.
	if f := ctrinit.DieWithMonitor(); f != nil {
		return f
	}
	var err error
	if d.conmon, err = unix.PidfdOpen(os.Getppid(), 0); err == nil {
		err = unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0)
	}
	if err != nil {
		return wire.Fail("find conmon", err)
	}
	return nil
}

// tellCove gives cove our process, to see its end: conmon has the socket open,
// too, and does not end with us when there is a container by then.
func tellCove() *wire.Failure {
	const step = "tell cove of the driver"
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return wire.Fail(step, err)
	}
	defer unix.Close(fd)
	if err := wire.Send(control, wire.Driver, nil, fd); err != nil {
		return wire.Fail(step, err)
	}
	return nil
}

func (d *driver) run() *wire.Failure {
	unix.CloseOnExec(control)
	if d.runtimeArgs == nil {
		if f := ctrinit.DieWithMonitor(); f != nil {
			return f
		}
	}
	if f := d.receive(); f != nil {
		return f
	}
	err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, "")
	if err != nil {
		return wire.Fail("set the propagation of /", err)
	}
	if d.dir, err = d.openScratch(); err != nil {
		return wire.Fail("open "+d.scratch(), err)
	}
	if d.dump != nil {
		return d.checkpoint()
	}
	root, f := d.openRoot()
	if f != nil {
		return f
	}
	if d.init == 0 {
		if err := ctrinit.LinkMtab(root); err != nil {
			return wire.Fail("make /etc/mtab", err)
		}
	}
	if f := ctrinit.ResolveUser(&d.Process, d.Accounts, root); f != nil {
		return f
	}
	if f := d.giveAway(); f != nil {
		return f
	}
	if f := d.checkWorkDir(root); f != nil {
		return f
	}
	if f := d.configure(); f != nil {
		return f
	}
	if d.restore != nil {
		// What is restored runs at once.
		if err := wire.SendJSON(control, wire.Ready, wire.ReadyBody{}); err != nil {
			return wire.Fail("report", err)
		}
		awaitGo(-1)
	}
	starts := d.init == 0 && d.restore == nil && d.runtimeArgs == nil
	if starts {
		// What is created waits for its start, whoever dies: it is ours to end
		// when the monitor does.
		if err := unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0); err != nil {
			return wire.Fail("outlive the monitor", err)
		}
	}
	pid, hand, f := d.create(root)
	created := -1
	if starts && pid != 0 {
		created, _ = unix.PidfdOpen(pid, 0)
	}
	if f != nil {
		end(created)
		return f
	}
	var rights []int
	if hand >= 0 {
		rights = []int{hand}
	}
	kind, body := wire.Ready, any(wire.ReadyBody{PID: pid})
	if d.restore != nil && d.runtimeArgs != nil {
		kind, body = wire.Started, wire.StartedBody{}
	}
	if err := wire.SendJSON(control, kind, body, rights...); err != nil {
		end(created)
		return wire.Fail("report", err)
	}
	if !starts {
		return nil
	}
	awaitGo(created)
	start := d.request("start", nil, patience, d.ID)
	start.lets = newWaiting(created, d.Dir, d.ID)
	f = start.do()
	if f != nil {
		d.blame(f, root)
		end(created)
		return f
	}
	awaitExec(pid)
	return nil
}

// awaitExec returns when a container's process is the command: a runtime may say
// that it has started it when its own init only is about to execute that, which
// would take a signal for its own, as --init's process does before it listens. It does
// not matter to one that takes long.
func awaitExec(pid int) {
	begun := time.Now()
	for !procfs.Executed(pid) && time.Since(begun) < time.Second {
		time.Sleep(time.Millisecond)
	}
	for initBegins(pid) && time.Since(begun) < 10*time.Second {
		time.Sleep(time.Millisecond)
	}
}

// initBegins tells of --init's process that it has not come to its command, which it
// makes when it listens to signals.
func initBegins(pid int) bool {
	number := strconv.Itoa(pid)
	line, _ := os.ReadFile("/proc/" + number + "/cmdline")
	if len(line) == 0 { // in the middle of its exec, or gone
		_, err := os.Readlink("/proc/" + number + "/exe")
		return err == nil
	}
	if !bytes.HasPrefix(line, []byte("/run/podman-init\x00")) {
		return false
	}
	children, err := os.ReadFile("/proc/" + number + "/task/" + number + "/children")
	return err == nil && len(children) == 0
}

// awaitGo returns when the container may run. If the start is called off, or the
// monitor has died, it ends what was created.
func awaitGo(created int) {
	buf := make([]byte, wire.Max) // cove's own has a body
	if kind, _, _, err := wire.Receive(control, buf); err != nil || kind != wire.Go {
		end(created)
		os.Exit(1)
	}
}

// end kills a process that was created and not started, by its pidfd.
func end(created int) {
	if created >= 0 {
		_ = unix.PidfdSendSignal(created, unix.SIGKILL, nil, 0)
	}
}

// receive takes the plan and the namespaces that come with it.
func (d *driver) receive() *wire.Failure {
	buf := make([]byte, 4096)
	kind, body, fds, err := wire.Receive(control, buf)
	if err == io.EOF {
		os.Exit(1) // called off
	}
	if err != nil || kind != wire.Prepare || len(fds) == 0 {
		return wire.Fail("receive the plan", err)
	}
	var msg wire.PrepareBody
	if err := json.Unmarshal(body, &msg); err != nil {
		return wire.Fail("read the plan's message", err)
	}
	data, err := ctrinit.ReadAll(fds[0]) // and it stays open: it tells whose driver this is
	if err == nil {
		err = json.Unmarshal(data, &d.Foreign)
	}
	if err != nil {
		return wire.Fail("read the plan", err)
	}
	d.init, d.dump, d.restore, d.unread = msg.Init, msg.Checkpoint, msg.Restore, msg.Unread
	if d.Version > plan.Version {
		return &wire.Failure{Step: "read the plan", Text: "it was made by a newer cove"}
	}
	fds = fds[1:]
	if d.dump != nil {
		if len(fds) == 0 {
			return &wire.Failure{Step: "receive the turn of the checkpoint", Text: "a descriptor is missing"}
		}
		d.turn = fds[0]
		return nil
	}
	if len(fds) < len(msg.Namespaces) || msg.Shm && len(fds) == len(msg.Namespaces) || len(msg.Held) < len(msg.Namespaces) {
		return &wire.Failure{Step: "receive the plan", Text: "a descriptor is missing"}
	}
	for i, flag := range msg.Namespaces {
		// The monitor's own: ours are gone by the time that a checkpoint asks
		// the runtime which ones these were.
		d.spaces[namespaceType[flag]] = "/proc/" + strconv.Itoa(os.Getppid()) + "/fd/" + strconv.Itoa(msg.Held[i])
	}
	if msg.Shm {
		d.shm = fds[len(msg.Namespaces)]
	}
	return nil
}

// namespaceType is what the runtime specification calls a namespace.
var namespaceType = map[int]string{
	unix.CLONE_NEWPID: "pid", unix.CLONE_NEWNET: "network", unix.CLONE_NEWNS: "mount", unix.CLONE_NEWIPC: "ipc",
	unix.CLONE_NEWUTS: "uts", unix.CLONE_NEWUSER: "user", unix.CLONE_NEWCGROUP: "cgroup",
}

// openRoot mounts the root file system, where only the runtime sees it, or
// finds that of a running container.
func (d *driver) openRoot() (int, *wire.Failure) {
	name := d.Root.Path
	switch {
	case d.init != 0:
		resident := rootfs.Resident(d.init, rootfs.Source{Overlay: d.Root.Overlay, Dir: d.Root.Path})
		if resident == 0 {
			// Nothing is to be found anywhere else, the host's files least.
			d.unseen = true
			return d.dir, nil
		}
		name = "/proc/" + strconv.Itoa(resident) + "/root"
	default:
		if d.Root.Overlay != nil {
			if err := rootfs.MountOverlay(d.Root.Overlay, name); err != nil {
				return -1, wire.Fail("mount overlay on "+name, err)
			}
			_ = unix.Chdir("/")
		}
		if f := d.showShm(); f != nil {
			return -1, f
		}
	}
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, wire.Fail("open root "+name, err)
	}
	return fd, nil
}

// showShm puts another container's shared memory where the configuration
// says that it is.
func (d *driver) showShm() *wire.Failure {
	const step = "join shared memory"
	if d.shm < 0 {
		return nil
	}
	own, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return wire.Fail(step, err)
	}
	defer unix.Close(own)
	fd, err := ctrinit.TreeOf(d.shm, own, "/")
	if err == nil {
		err = os.Mkdir(d.Dir+"/shm", 0o700)
	}
	if err == nil {
		err = unix.MoveMount(fd, "", unix.AT_FDCWD, d.Dir+"/shm", unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	if err != nil {
		return wire.Fail(step, err)
	}
	return nil
}

// giveAway makes the user the owner of sources of mounts.
func (d *driver) giveAway() *wire.Failure {
	for _, name := range d.Chown {
		fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err == nil {
			err = rootfs.Chown(fd, int(d.Process.UID), int(d.Process.GID))
			_ = unix.Close(fd)
		}
		if err != nil {
			return wire.Fail("give "+name+" to the user", err)
		}
	}
	return nil
}

// checkWorkDir refuses a working directory that is not there and was not
// promised by the image: runtimes make it.
func (d *driver) checkWorkDir(root int) *wire.Failure {
	cwd := d.Process.Cwd
	if d.unseen || d.Process.MakeCwd || d.restore != nil || cwd == "" || cwd == "/" {
		return nil
	}
	if !path.IsAbs(cwd) {
		return &wire.Failure{Step: "enter working directory " + cwd, Text: "it is not absolute"}
	}
	if d.init == 0 && d.mounts(cwd) {
		return nil
	}
	fd, err := unix.Openat2(root, cwd, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		f := wire.Fail("enter working directory "+cwd, err)
		f.NoFile = err == unix.ENOENT || err == unix.ENOTDIR
		return f
	}
	_ = unix.Close(fd)
	return nil
}

// create has the runtime create the container, or its further process, and
// gives the process's ID and the master of its terminal; with conmon, which has
// that, the guard instead.
func (d *driver) create(root int) (pid, hand int, f *wire.Failure) {
	const pidFile, socket = "pid", "tty"
	if d.runtimeArgs != nil {
		// To be the container's ID, its pid file and the socket for its
		// terminal is conmon's to say.
		n := len(d.runtimeArgs) - 1
		args := slices.Clone(d.runtimeArgs[1:n])
		if d.restore != nil {
			if f := d.making("restore", imageArgs(d.restore, args...), ImagePatience, d.runtimeArgs[n]).do(); f != nil {
				explain(f, d.restore.Work+"/restore.log")
				return 0, -1, f
			}
			return 0, -1, nil
		}
		if d.NoKeyring {
			args = append(args, "--no-new-keyring")
		}
		r := d.making("create", args, patience, d.runtimeArgs[n])
		r.makes = d.scratch() + "/" + pidFile
		if f := r.do(); f != nil {
			d.blame(f, root)
			return 0, -1, f
		}
		if pid, f = d.readPID(pidFile); f != nil {
			return 0, -1, f
		}
		guard, f := d.post(pid)
		return pid, guard, f
	}
	command, args, limit := "create", []string{"--bundle", d.Dir}, patience
	switch {
	case d.init != 0:
		command, args = "exec", []string{"--detach", "--process", d.scratch() + "/" + processFile}
	case d.restore != nil:
		command, args, limit = "restore", append(args, imageArgs(d.restore, "--detach")...), ImagePatience
	}
	_ = unix.Unlinkat(d.dir, pidFile, 0) // of the run before
	args = append(args, "--pid-file", d.scratch()+"/"+pidFile)
	if command == "create" && d.NoKeyring {
		args = append(args, "--no-new-keyring")
	}
	master, listener := -1, -1
	if d.Process.Terminal {
		var err error
		if listener, err = d.listen(socket); err != nil {
			return 0, -1, wire.Fail("listen for the terminal", err)
		}
		defer unix.Close(listener)
		args = append(args, "--console-socket", d.short(socket))
	}
	r := d.making(command, args, limit, d.ID)
	r.makes = d.scratch() + "/" + pidFile
	if f := r.do(); f != nil {
		// One that was called off at its end has created all the same.
		pid, _ := d.readPID(pidFile)
		if d.restore != nil {
			explain(f, d.restore.Work+"/restore.log")
		} else {
			d.blame(f, root)
		}
		return pid, -1, f
	}
	if listener >= 0 {
		if master, f = takeTerminal(listener); f != nil {
			return 0, -1, f
		}
		d.size(master)
	}
	pid, f = d.readPID(pidFile)
	return pid, master, f
}

func (d *driver) readPID(name string) (pid int, f *wire.Failure) {
	text, err := d.read(name)
	if err == nil {
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	if err != nil {
		return 0, wire.Fail("read the pid file of "+d.Runtime[0], err)
	}
	return pid, nil
}
