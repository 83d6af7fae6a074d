package ctrinit

import (
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/rootfs"
)

// openGifts opens the sources of mounts that the user will own, while they can
// be reached: who the user is, only the container's own files tell.
func (p *process) openGifts() *wire.Failure {
	for _, name := range p.plan.Chown {
		fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return wire.Fail("open "+name, err)
		}
		p.gift = append(p.gift, fd)
	}
	return nil
}

// giveAway makes the user the owner of them and of all that is in them.
func (p *process) giveAway() *wire.Failure {
	for i, fd := range p.gift {
		err := rootfs.Chown(fd, int(p.plan.Process.UID), int(p.plan.Process.GID))
		_ = unix.Close(fd)
		if err != nil {
			return wire.Fail("give "+p.plan.Chown[i]+" to the user", err)
		}
	}
	p.gift = nil
	return nil
}
