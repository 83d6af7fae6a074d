// Package hook runs OCI hooks: programs of somebody's that are told of a
// container at certain points of its life (runtime-spec, config.md "POSIX-
// platform Hooks"). The same few lines serve the monitor, which must go on with
// its work meanwhile, init, and whoever just waits.
//
// Standard library and x/sys only.
package hook

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/plan"
	"github.com/cove-engine/cove/internal/sysmon"
)

// Running is a hook that has been started. It dies with the thread that has
// started it, a process group of its own with it when its time is over.
type Running struct {
	Ended int           // its pidfd: readable when it has ended
	Out   int           // what it says, not blocking; -1 once that has ended
	Limit time.Duration // 0: none
	PID   int           // whoever reaps children leaves this one alone

	late bool
	said []byte
}

// saidMax is how much of a hook's words an error repeats.
const saidMax = 2 << 10

// Run runs hooks one after the other; each reads the state. The first that
// fails ends it. await returns when a hook has ended, or kills it when its
// time is over; nil waits and does nothing else.
func Run(point string, hooks []plan.Hook, state plan.HookState, await func(*Running)) error {
	return run(point, hooks, state, await, unix.SIGKILL)
}

// RunApart is Run of hooks that are born into another process namespace than the
// caller's, and waits. They do not die with him: package syscall has them compare
// their parent's number, and there they have none.
func RunApart(point string, hooks []plan.Hook, state plan.HookState) error {
	return run(point, hooks, state, nil, 0)
}

func run(point string, hooks []plan.Hook, state plan.HookState, await func(*Running), death unix.Signal) error {
	if len(hooks) == 0 {
		return nil
	}
	if await == nil {
		await = (*Running).wait
	}
	text, err := json.Marshal(state)
	if err != nil {
		return err
	}
	// The hook is to die with this thread, which must therefore outlive it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for i := range hooks {
		r, err := start(&hooks[i], text, state.Bundle, death)
		if err == nil {
			await(r)
			err = r.end()
		}
		if err != nil {
			return fmt.Errorf("%s hook #%d, %s: %w", point, i, hooks[i].Path, err)
		}
	}
	return nil
}

// start starts a hook, in dir if that can be entered: one that runs inside the
// container has another root.
func start(h *plan.Hook, state []byte, dir string, death unix.Signal) (*Running, error) {
	in, err := memory(state)
	if err != nil {
		return nil, err
	}
	defer unix.Close(in)
	var out [2]int
	if err := unix.Pipe2(out[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	defer unix.Close(out[1])
	_ = unix.SetNonblock(out[0], true)
	args := h.Args
	if len(args) == 0 {
		args = []string{h.Path}
	}
	if unix.Access(dir, unix.X_OK) != nil {
		dir = ""
	}
	pidfd := -1
	env := append([]string{}, h.Env...) // none is none, not ours
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := sysmon.Exact(); err != nil {
		_ = unix.Close(out[0])
		return nil, err
	}
	pid, err := syscall.ForkExec(h.Path, args, &syscall.ProcAttr{
		Dir: dir, Env: env, Files: []uintptr{uintptr(in), uintptr(out[1]), uintptr(out[1])},
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: death, PidFD: &pidfd},
	})
	if err == nil && pidfd < 0 {
		if pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
			_ = unix.Kill(-pid, unix.SIGKILL)
			_, _ = unix.Wait4(pid, nil, 0, nil)
		}
	}
	if err != nil {
		_ = unix.Close(out[0])
		return nil, err
	}
	return &Running{Ended: pidfd, Out: out[0], Limit: time.Duration(h.Timeout) * time.Second, PID: pid}, nil
}

// memory is a file with text in it, to be read from its beginning.
func memory(text []byte) (int, error) {
	fd, err := unix.MemfdCreate("state", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	if _, err = unix.Write(fd, text); err == nil {
		_, err = unix.Seek(fd, 0, 0)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Listen takes what the hook says by now; false when it has closed its end,
// as it may long before its own.
func (r *Running) Listen() bool {
	var buf [4096]byte
	for {
		n, err := unix.Read(r.Out, buf[:])
		switch {
		case err == unix.EINTR:
		case err != nil: // nothing more for now
			return err == unix.EAGAIN
		case n == 0:
			return false
		default:
			r.said = append(r.said, buf[:min(n, saidMax-len(r.said))]...)
		}
	}
}

// Kill ends the hook with those that it has started in its process group.
func (r *Running) Kill() { _ = unix.Kill(-r.PID, unix.SIGKILL) }

// Expire is Kill because its time is over.
func (r *Running) Expire() {
	r.late = true
	r.Kill()
}

// wait returns when the hook has ended.
func (r *Running) wait() {
	end := time.Now().Add(r.Limit)
	out := int32(r.Out)
	for {
		left := -1
		if r.Limit > 0 && !r.late {
			left = int(max(0, time.Until(end)+time.Millisecond-1) / time.Millisecond)
		}
		// A negative descriptor is passed over, poll(2).
		fds := []unix.PollFd{{Fd: int32(r.Ended), Events: unix.POLLIN}, {Fd: out, Events: unix.POLLIN}}
		n, err := unix.Poll(fds, left)
		switch {
		case err != nil && err != unix.EINTR:
			return
		case n == 0 && left >= 0:
			r.Expire()
		case fds[0].Revents != 0:
			return
		case fds[1].Revents != 0 && !r.Listen():
			out = -1
		}
	}
}

// end reaps the hook and tells how it failed, in its own words if it has any.
// It may have left something running that holds its output.
func (r *Running) end() error {
	var ws unix.WaitStatus
	for {
		if _, err := unix.Wait4(r.PID, &ws, 0, nil); err != unix.EINTR {
			break
		}
	}
	r.Listen()
	_ = unix.Close(r.Out)
	_ = unix.Close(r.Ended)
	var err error
	switch {
	case r.late:
		err = fmt.Errorf("did not end within %d seconds", int(r.Limit.Seconds()))
	case ws.Signaled():
		err = errors.New("was ended by a signal: " + ws.Signal().String())
	case ws.ExitStatus() != 0:
		err = fmt.Errorf("exit status %d", ws.ExitStatus())
	default:
		return nil
	}
	if said := strings.Join(strings.Fields(string(r.said)), " "); said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return err
}
