package serve

import (
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/network/teardown"
)

// teardown undoes what was made for the run and tells whether nothing of it that
// others can see is left. Each step tolerates that it was done before: whoever
// comes after a monitor that was killed in here, or has not done it all, does the
// same again.
func (m *Monitor) teardown() (done bool) {
	t := &m.env.Teardown
	m.endNames() // its sockets hold the network namespace
	m.endUplink()
	m.endPorts()
	// Before the sockets that reserve the ports are closed: a successor's
	// firewall elements could be taken for ours.
	done = teardown.Run(teardown.Teardown{Nft: t.Nft}) == nil
	m.releasePorts()
	for _, ns := range m.spaces {
		_ = unix.Close(ns.fd) // the last one takes the network's links along
	}
	m.spaces = nil
	for _, name := range t.Unlink {
		done = gone(unix.Unlink(name)) && done
	}
	if m.env.Hooks != nil {
		done = os.RemoveAll(m.env.Hooks.State.Bundle) == nil && done
	}
	done = m.removeCgroups() && done
	m.dropRoot()
	if m.listen >= 0 {
		m.forget(m.listen)
		m.listen = -1
	}
	if m.env.Socket != "" {
		done = gone(unix.Unlink(m.env.Socket)) && gone(unix.Rmdir(path.Dir(m.env.Socket))) && done
	}
	if t.Remove && m.run.Removed {
		m.event(m.run.ExitCode, "remove")
	}
	return done
}

// gone tells whether what was to be removed, with that error, is not there.
func gone(err error) bool { return err == nil || err == unix.ENOENT || err == unix.ENOTDIR }
