package engine

import (
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/ownplace"
)

// sockets is the directory that the monitors' sockets are in.
func (e *Engine) sockets() string { return filepath.Join(e.conf.Scratch(), "containers") }

// socket is where the container's monitor listens.
func (e *Engine) socket(id string) string { return filepath.Join(e.sockets(), id, "attach") }

// makeRoomForSocket sees to it that a monitor can make its socket, whatever has
// been put in the place of its directories.
func (e *Engine) makeRoomForSocket(id string) error {
	own := filepath.Dir(e.socket(id))
	if ownplace.Dangling(own) {
		_ = unix.Unlink(own) // nothing else is ever there
	}
	for _, dir := range []string{e.conf.Scratch(), e.sockets(), own} {
		if err := ownplace.Directory(dir); err != nil {
			return cove.E("make directory", dir, fileKind(err), err)
		}
	}
	return nil
}

// removeSocket removes a container's socket with its directory.
func (e *Engine) removeSocket(id string) error { return ownplace.Remove(filepath.Dir(e.socket(id))) }
