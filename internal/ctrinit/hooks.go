package ctrinit

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/ctrinit/hook"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// createHooks lets those of the runtime's side run and runs the container's.
// Both are before the root changes.
func (p *process) createHooks() *wire.Failure {
	h := p.plan.Hooks
	if h == nil {
		return nil
	}
	if h.Outside() {
		if err := p.report(wire.Mounted, -1); err != nil {
			return wire.Fail("report", err)
		}
	}
	return wire.HookFailure(hook.Run("createContainer", h.CreateContainer, h.In("creating", os.Getpid()), nil))
}

// startHooks run as the user's command would: their paths are the image's. pid
// is its number, for the container.
func (p *process) startHooks(pid int) *wire.Failure {
	h := p.plan.Hooks
	if h == nil {
		return nil
	}
	state := h.In("created", pid)
	if p.descends {
		return wire.HookFailure(hook.RunApart("startContainer", h.StartContainer, state))
	}
	f := wire.HookFailure(hook.Run("startContainer", h.StartContainer, state, nil))
	if f == nil && p.oci.start >= 0 && len(h.StartContainer) > 0 {
		// The filter allows write(2): the hooks have got the state by it.
		_, _ = unix.Write(control, []byte{byte(wire.Ready)})
	}
	return f
}
