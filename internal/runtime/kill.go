package runtime

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
	"github.com/cove-engine/cove/internal/signal"
)

// Kill sends a signal to the container's first process, or with all to every
// process in its cgroups.
func (r *Runtime) Kill(id string, sig unix.Signal, all bool) error {
	c, err := r.Open(id)
	if err != nil {
		return err
	}
	if all {
		return c.killAll(sig)
	}
	fd, err := c.hold()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil {
		if err == unix.ESRCH {
			return errNotRunning()
		}
		return cove.E("kill container", id, kindOf(err), err)
	}
	if sig == unix.SIGKILL {
		if err := c.thaw(); err != nil && c.alive() {
			return err
		}
	}
	return nil
}

// thaw lets the container's processes run, which get what ends them only then.
func (c *Container) thaw() error {
	dirs, err := c.own()
	if err != nil {
		return err
	}
	if frozen, err := cgroup.Frozen(dirs); err != nil || !frozen {
		return nil
	}
	err = cgroup.Thaw(dirs)
	if frozen, _ := cgroup.Frozen(dirs); !frozen {
		return nil // or removed meanwhile
	}
	return err
}

func (c *Container) killAll(sig unix.Signal) error {
	if !c.Own {
		return errNotRunning()
	}
	dirs, err := c.own()
	if err != nil {
		return err
	}
	if sig == unix.SIGKILL {
		return cgroup.Kill(dirs, time.Now().Add(10*time.Second))
	}
	pids, err := cgroup.Pids(dirs)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := c.signal(dirs, pid, sig); err != nil {
			return err
		}
	}
	return nil
}

// signal sends a signal to a process that is found to be in the container's
// cgroups still while it is held.
func (c *Container) signal(dirs []string, pid int, sig unix.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	pids, err := cgroup.Pids(dirs)
	if err != nil {
		return err
	}
	for _, p := range pids {
		if p != pid {
			continue
		}
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && err != unix.ESRCH {
			return cove.E("kill container", c.ID, kindOf(err), err)
		}
	}
	return nil
}

// Signal reads a signal's name or number; 0 asks whether there is a process.
func Signal(word string) (unix.Signal, error) {
	sig, ok := signal.Parse(word)
	if !ok && word != "0" {
		return 0, invalid("unknown signal %q", word)
	}
	return sig, nil
}
