package runtime

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/ctrinit/hook"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// Start lets a created container execute its command, and tells why it could
// not. Hooks that follow take their time: the container can be ended and deleted
// meanwhile.
func (r *Runtime) Start(id string) error {
	c, err := r.begin(id)
	if err != nil {
		return err
	}
	if err := hook.Run("poststart", c.Poststart, c.hookState(Running), nil); err != nil {
		// It must not run on as if it had been started.
		return errors.Join(cove.E("start container", id, cove.Internal, err), c.end())
	}
	return nil
}

// begin has the command of a created container executed.
func (r *Runtime) begin(id string) (*Container, error) {
	c, lock, err := r.openLocked(id)
	if err != nil {
		return nil, err
	}
	defer unix.Close(lock)
	status, err := c.Status()
	if err != nil {
		return nil, err
	}
	notIn := func(s Status) error {
		return cove.E("", "", cove.WrongStatus, errors.New("cannot start a container in the "+string(s)+" state"))
	}
	if status != Created {
		return nil, notIn(status)
	}
	fd, err := connect(filepath.Join(r.dir(id), "start"), unix.SOCK_SEQPACKET)
	if err == nil {
		defer unix.Close(fd)
		err = wire.Send(fd, wire.Go, nil)
	}
	switch err {
	case nil:
		done, err := executed(fd, c.TellsHooks)
		if err == nil && !done {
			err = notIn(Stopped)
		}
		return c, err
	case unix.ECONNREFUSED, unix.ECONNRESET, unix.EPIPE:
		return nil, notIn(Stopped) // it is ending, and its socket is closed first
	}
	return nil, cove.E("start container", id, cove.WrongStatus, err)
}

// executed waits for the end of init's socket, which is the beginning of the
// command; a failure comes before it, and with hooks the word that they have run.
// It is false when init has ended without having come so far.
func executed(fd int, hooks bool) (bool, error) {
	if wire.Unread(fd) {
		return false, nil
	}
	buf := make([]byte, wire.Max)
	for {
		kind, body, _, err := wire.Receive(fd, buf)
		if err != nil {
			return !hooks, nil
		}
		if !hooks || kind != wire.Ready {
			return false, failed(kind, body)
		}
		hooks = false
	}
}

// failed is the error that a last word tells of.
func failed(kind wire.Kind, body []byte) error {
	f := new(wire.Failure)
	if kind != wire.Failed || json.Unmarshal(body, f) != nil {
		return cove.E("start container", "", cove.Internal, errors.New("unexpected message from init"))
	}
	return monitor.FailureError(f)
}

// end kills the container and waits until it is stopped.
func (c *Container) end() error {
	fd, err := c.hold()
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return cove.E("kill container", c.ID, kindOf(err), err)
	}
	return c.gone(fd)
}

// gone waits for the end of a process that was killed: a pidfd is readable then.
// Somebody may be pausing the container meanwhile.
func (c *Container) gone(pidfd int) error {
	for deadline := time.Now().Add(10 * time.Second); c.alive(); {
		err := c.thaw()
		if time.Now().After(deadline) {
			if err == nil {
				err = cove.E("wait for container", c.ID, cove.Unavailable, errors.New("it does not end"))
			}
			return err
		}
		const milliseconds = 100
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		_, _ = unix.Poll(fds, milliseconds)
	}
	return nil
}
