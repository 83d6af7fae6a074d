package runtime

import (
	"encoding/json"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/ctrinit"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/plan"
	"github.com/cove-engine/cove/internal/procfs"
)

// Others in a process namespace can take over who is born there, if they have
// CAP_SYS_PTRACE. So init and exec stay outside of one that is joined until they
// have nothing left that the command has not, and then have another process in
// there that takes their place (internal/ctrinit/descend.go).

// openProcesses opens the process namespace that init is going to join by
// itself: one that is not ours, and over which it has the right in its user
// namespace. A container of a new user namespace has none over those that were
// there before, and is made inside.
func (c *creation) openProcesses() error {
	var users string
	for _, n := range c.spec.Linux.Namespaces {
		if n.Type == specs.UserNamespace {
			if users = n.Path; users == "" {
				return nil
			}
		}
	}
	for _, j := range c.plan.Joins {
		if j.Flag != unix.CLONE_NEWPID {
			continue
		}
		fd, err := openNamespace(j)
		if err != nil {
			return cove.E("join namespace", j.Path, kindOf(err), err)
		}
		if sameFile(fd, "/proc/self/ns/pid") || users != "" && !owns(users, fd) {
			_ = unix.Close(fd)
			return nil
		}
		c.ns = fd
	}
	return nil
}

// owns tells whether a namespace belongs to the user namespace of a path.
func owns(users string, ns int) bool {
	owner, err := unix.IoctlRetInt(ns, unix.NS_GET_USERNS)
	if err != nil {
		return false
	}
	defer unix.Close(owner)
	return sameFile(owner, users)
}

func sameFile(fd int, path string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(fd, &a) == nil && unix.Stat(path, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

// descended puts the process that init has had in the process namespace in its
// place. Both end with us, until init is told that all is recorded.
func (c *creation) descended(body []byte) error {
	born, err := c.child.born(body, c.plan.Plan.OCI.Scheduler)
	if err != nil {
		return err
	}
	c.maker = &child{pid: c.child.pid, pidfd: c.child.pidfd, socket: -1}
	c.child = born
	c.PID = born.pid
	if c.PIDStart, err = procfs.StartTime(c.PID); err != nil {
		return cove.E("clone init", "", cove.Internal, err)
	}
	return nil
}

// born is the process that k tells of, with the scheduling that could not be
// inherited.
func (k *child) born(body []byte, s *plan.Sched) (*child, error) {
	var started wire.StartedBody
	if err := json.Unmarshal(body, &started); err != nil {
		return nil, cove.E("clone init", "", cove.Internal, err)
	}
	b := &child{pid: started.PID, socket: k.socket}
	var err error
	if b.pidfd, err = unix.PidfdOpen(b.pid, 0); err != nil {
		return nil, cove.E("clone init", "", cove.Internal, err)
	}
	if err := ctrinit.SetScheduler(b.pid, s); err != nil {
		b.socket = -1
		b.kill()
		return nil, cove.E("", "process.scheduler", kindOf(err), err)
	}
	return b, nil
}

// descend has the process that the child has in the container's process
// namespace take its place, and waits for it to become the command.
func (k *child) descend(t Telling, s *plan.Sched) error {
	buf := make([]byte, wire.Max)
	kind, body, _, err := wire.AwaitFrom(k.pid, k.socket, buf)
	if err != nil {
		return k.died()
	}
	if kind != wire.Started {
		return failed(kind, body)
	}
	born, err := k.born(body, s)
	if err != nil {
		return err
	}
	maker := *k
	*k = *born
	if err = t.tell(k, "setns"); err != nil {
		_ = unix.PidfdSendSignal(k.pidfd, unix.SIGKILL, nil, 0)
	}
	_, _ = unix.Wait4(maker.pid, nil, 0, nil) // it does so once the command runs
	_ = unix.Close(maker.pidfd)
	if err != nil {
		return err
	}
	if kind, body, _, err := wire.ReceiveFrom(maker.pid, k.socket, buf); err == nil {
		return failed(kind, body)
	}
	return nil
}
