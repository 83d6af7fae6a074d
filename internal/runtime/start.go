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
	if status != Created {
		return nil, cove.E("", "", cove.WrongStatus, errors.New("cannot start a container in the "+string(status)+" state"))
	}
	fd, err := connect(filepath.Join(r.dir(id), "start"), unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, cove.E("start container", id, cove.WrongStatus, err)
	}
	defer unix.Close(fd)
	err = wire.Send(fd, wire.Go, nil)
	if err == nil {
		err = executed(fd)
	}
	return c, err
}

// executed waits for the end of init's socket, which is the beginning of the
// command; a failure comes before it.
func executed(fd int) error {
	buf := make([]byte, wire.Max)
	kind, body, _, err := wire.Receive(fd, buf)
	if err != nil {
		return nil
	}
	return failed(kind, body)
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
	return c.gone(fd, 10*time.Second)
}

// gone waits for the end of a process: a pidfd is readable then.
func (c *Container) gone(pidfd int, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for c.alive() {
		left := time.Until(deadline)
		if left <= 0 {
			return cove.E("wait for container", c.ID, cove.Unavailable, errors.New("it does not end"))
		}
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		_, _ = unix.Poll(fds, int(left.Milliseconds())+1)
	}
	return nil
}
