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
	for _, dir := range []string{e.conf.Scratch(), e.sockets()} {
		if err := ownplace.Directory(dir); err != nil {
			return cove.E("make directory", dir, fileKind(err), err)
		}
	}
	// The monitor makes its own, if it still lives: nobody else would take that away.
	if own := filepath.Dir(e.socket(id)); noDirectory(own) {
		_ = unix.Unlink(own)
	}
	return nil
}

// removeSocket removes a container's socket with its directory.
func (e *Engine) removeSocket(id string) error { return ownplace.Remove(filepath.Dir(e.socket(id))) }
