package runtime

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// RunOptions are the flags of run beyond those of create.
type RunOptions struct {
	CreateOptions
	Detach      bool
	Keep        bool // the stopped container stays
	NoSubreaper bool
}

// Run creates and starts a container and, unless detached, stays until it has
// ended, gives its code and removes it.
func (r *Runtime) Run(id string, o RunOptions) (int, error) {
	o.KeepTerminal = !o.Detach
	if !o.Detach && !o.NoSubreaper {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return -1, cove.E("run container", id, cove.Internal, err)
		}
	}
	b, err := r.Create(id, o.CreateOptions)
	if err != nil {
		return -1, err
	}
	if err := r.Start(id); err != nil {
		_ = b.end()
		_, _ = unix.Wait4(b.PID, nil, 0, nil)
		return -1, errors.Join(err, r.Delete(id, true))
	}
	if o.Detach {
		return 0, nil
	}
	code := b.Watch(!o.NoSubreaper)
	if o.Keep {
		return code, nil
	}
	return code, r.Delete(id, true)
}
