package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/network/teardown"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/state"
)

// ConnectNetwork puts a container on one more network. One that runs is there
// at once, others when they are started.
func (e *Engine) ConnectNetwork(ctx context.Context, container string, a cove.NetworkAttachment) error {
	h, err := e.holdBridged(ctx, container)
	if err != nil {
		return err
	}
	defer h.release()
	if err := monitorStopped(&h.Container); err != nil {
		return cove.E("change networks of container", h.Name, cove.Unavailable, err)
	}
	running := h.Run.PID != 0
	connected := false
	var n cove.Network
	err = e.update(func(tx state.Tx) (err error) {
		if n, err = e.findNetwork(tx, a.Network); err != nil {
			return err
		}
		c := new(cove.Container)
		if err := tx.Get(state.Containers, h.ID, c); err != nil {
			return err
		}
		if connected = attachedTo(c, n) >= 0; connected {
			return nil
		}
		if len(c.Attachments) == network.MaxNetworks {
			return cove.E("", "", cove.Invalid, fmt.Errorf("container %s is on %d networks, which is the most", c.ID, network.MaxNetworks))
		}
		joined := a
		joined.Network = n.Name
		joined.Link, joined.Interface = freeLink(c)
		if joined.MAC == "" {
			joined.MAC = randomMAC()
		}
		if running {
			joined.Pending = cove.Joining
		}
		c.Attachments = append(c.Attachments, joined)
		if running || len(a.StaticIPs) > 0 {
			if err := e.lease(tx, c, nil); err != nil {
				return err
			}
		}
		h.Container.Container.Attachments = c.Attachments
		return tx.Put(state.Containers, c.ID, c)
	})
	switch {
	case err != nil:
		return err
	case connected && running:
		return cove.E("", "", cove.Exists, fmt.Errorf("container %s is already connected to network %q: network is already connected", h.ID, a.Network))
	case connected: // docker's answer, and podman's
		return nil
	}
	if err := e.completeNetworks(ctx, h); err != nil {
		return errors.Join(err, e.leave(ctx, h, n))
	}
	e.connectionEvent(h, n.Name, "connect")
	return nil
}

// DisconnectNetwork takes a container off a network. With force, what cannot
// be done at once is left to the next command.
func (e *Engine) DisconnectNetwork(ctx context.Context, container, nameOrID string, force bool) error {
	h, err := e.holdBridged(ctx, container)
	if err != nil {
		return err
	}
	defer h.release()
	if err := monitorStopped(&h.Container); err != nil && !force {
		return cove.E("change networks of container", h.Name, cove.Unavailable, err)
	}
	var n cove.Network
	err = e.store.View(func(tx state.Tx) (err error) {
		n, err = e.findNetwork(tx, nameOrID)
		return err
	})
	if err != nil {
		return err
	}
	if attachedTo(&h.Container.Container, n) < 0 {
		return cove.E("", "", cove.NotFound, fmt.Errorf("container %s is not connected to network %q: network not found", h.ID, nameOrID))
	}
	if err := e.leave(ctx, h, n); err != nil && !(force && pending(&h.Container.Container)) {
		return err
	}
	e.connectionEvent(h, n.Name, "disconnect")
	return nil
}

// leave takes the container held off a network.
func (e *Engine) leave(ctx context.Context, h *held, n cove.Network) error {
	return e.takeOff(ctx, h, func(c *cove.Container, i int) bool { return i == attachedTo(c, n) })
}

// takeOff takes the container held off the networks of the attachments that goes
// tells, by their index.
func (e *Engine) takeOff(ctx context.Context, h *held, goes func(c *cove.Container, i int) bool) error {
	err := e.change(h.ID, func(c *cove.Container) error {
		for i := range c.Attachments {
			if goes(c, i) {
				c.Attachments[i].Pending = cove.Leaving
			}
		}
		h.Container.Container.Attachments = c.Attachments
		return nil
	})
	if err != nil {
		return err
	}
	return e.completeNetworks(ctx, h)
}

// holdBridged holds a container that can be on networks by name.
func (e *Engine) holdBridged(ctx context.Context, nameOrID string) (*held, error) {
	h, err := e.holdAsIs(ctx, nameOrID)
	if err != nil {
		return nil, err
	}
	if mode := e.networkMode(&h.Container.Container); mode != "bridge" {
		h.release()
		return nil, cove.E("", "", cove.Invalid, fmt.Errorf("%q is not supported: invalid network mode", mode))
	}
	// Between two runs of a restart policy there is a monitor and a network
	// namespace, and no process to find it by. The run that was has a number
	// until its monitor has recorded its end.
	waited := false
	for end := time.Now().Add(betweenRuns); (h.Run.PID == 0 || procfs.Ending(h.Run.PID)) && alive(h.Dir); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			h.release()
			return nil, cove.E("change networks of container", h.Name, cove.Unavailable, errors.New("its last run is ending, or it is about to be started again by its restart policy: try again, or stop it"))
		}
		if err := h.again(); err != nil {
			h.release()
			return nil, err
		}
		waited = true
	}
	if waited { // what the last run has left undone could not be seen to in between
		if err := e.settleNetworks(ctx, h); err != nil {
			h.release()
			return nil, err
		}
	}
	if isForeign(&h.Container.Container) && h.Run.PID != 0 && inOurs(h.Run.PID, "net") {
		h.release()
		return nil, keptFromHost(&h.Container.Container, "networks")
	}
	return h, nil
}

// betweenRuns is how long a change of a container's networks waits for its
// next run.
const betweenRuns = 2 * time.Second

// monitorStopped is the error of a container that runs whose monitor somebody has
// stopped, which will not answer; nil else.
func monitorStopped(c *Container) error {
	if c.Run.PID == 0 || c.Spec.Monitor != "" {
		return nil // conmon is not asked for anything
	}
	if state, _, err := procfs.Look(c.Run.MonitorPID); err != nil || state != 'T' && state != 't' {
		return nil
	}
	return fmt.Errorf("its monitor, process %d, is stopped: let it go on (kill -CONT %d), or stop the container", c.Run.MonitorPID, c.Run.MonitorPID)
}

func (e *Engine) connectionEvent(h *held, network, status string) {
	_ = e.events.Write(cove.Event{ID: h.ID, Name: h.Name, Network: network, Status: status, Time: time.Now(), Type: "network"})
}

// attachedTo finds a container's place among its networks, -1 without one. One
// that has never been started may know the network by its ID.
func attachedTo(c *cove.Container, n cove.Network) int {
	return slices.IndexFunc(c.Attachments, func(a cove.NetworkAttachment) bool {
		return a.Network == n.Name || len(a.Network) >= 12 && strings.HasPrefix(n.ID, a.Network)
	})
}

// freeLink gives the first number that none of the container's links has, and
// the first name of an interface.
func freeLink(c *cove.Container) (link int, name string) {
	has := func(f func(cove.NetworkAttachment) bool) bool { return slices.ContainsFunc(c.Attachments, f) }
	for has(func(a cove.NetworkAttachment) bool { return a.Link == link }) {
		link++
	}
	for i := 0; ; i++ {
		name = fmt.Sprintf("eth%d", i)
		if !has(func(a cove.NetworkAttachment) bool { return a.Interface == name }) {
			return link, name
		}
	}
}

func pending(c *cove.Container) bool {
	return slices.ContainsFunc(c.Attachments, func(a cove.NetworkAttachment) bool { return a.Pending != "" })
}

// without is the container without the attachments that are in a change.
func without(c *cove.Container, p cove.Pending) *cove.Container {
	other := *c
	other.Attachments = slices.DeleteFunc(slices.Clone(c.Attachments), func(a cove.NetworkAttachment) bool { return a.Pending == p })
	return &other
}

// settleNetworks sees to the changes of the container's networks that somebody
// else has left under way: nobody was told of a connect that it was done, perhaps that
// it was not, so it is taken back; a disconnect is completed.
func (e *Engine) settleNetworks(ctx context.Context, h *held) error {
	joining := func(a cove.NetworkAttachment) bool { return a.Pending == cove.Joining }
	if slices.ContainsFunc(h.Attachments, joining) {
		return e.takeOff(ctx, h, func(c *cove.Container, i int) bool { return joining(c.Attachments[i]) })
	}
	return e.completeNetworks(ctx, h)
}

// completeNetworks completes the changes of the container's networks that its
// record says are under way.
func (e *Engine) completeNetworks(ctx context.Context, h *held) error {
	c := &h.Container.Container
	if !pending(c) || h.Run.PID == 0 && alive(h.Dir) {
		return nil
	}
	if h.Run.PID != 0 {
		if err := e.carryOut(ctx, h); err != nil {
			if aerr := h.again(); aerr != nil || h.Run.PID != 0 || alive(h.Dir) {
				return err
			}
			// It has ended in the meantime.
		}
	}
	if h.Run.PID == 0 {
		// Of what a killed command has made, its monitor knew nothing.
		if err := e.forgetNames(c); err != nil {
			return err
		}
		if len(c.Ports) > 0 {
			if err := e.networks.RemoveElements(ctx, c.ID); err != nil {
				return err
			}
		}
	}
	return e.update(func(tx state.Tx) error {
		now := new(cove.Container)
		if err := tx.Get(state.Containers, h.ID, now); err != nil {
			return err
		}
		for _, a := range now.Attachments {
			if a.Pending == cove.Leaving {
				if err := tx.Unlease(a.Network, now.ID); err != nil {
					return err
				}
			}
		}
		now = without(now, cove.Leaving)
		for i := range now.Attachments {
			now.Attachments[i].Pending = ""
		}
		h.Container.Container.Attachments = now.Attachments
		return tx.Put(state.Containers, now.ID, now)
	})
}

// carryOut makes a running container's links, addresses, routes, ports, names
// and files what its record wants them to be, and tells its monitor.
func (e *Engine) carryOut(ctx context.Context, h *held) error {
	before, after := without(&h.Container.Container, cove.Joining), without(&h.Container.Container, cove.Leaving)
	var was, is []cove.Network
	err := e.store.View(func(tx state.Tx) (err error) {
		if was, err = e.networksOf(tx, before); err == nil {
			is, err = e.networksOf(tx, after)
		}
		return err
	})
	if err != nil {
		return err
	}
	netns, err := networkOf(&h.Container)
	if err != nil {
		return err
	}
	defer unix.Close(netns)
	var down teardown.Teardown
	err = e.whileTaken(ctx, &h.Container.Container, func() (err error) {
		after = without(&h.Container.Container, cove.Leaving)
		down, err = e.networks.Change(ctx, request(after, netns, is))
		return err
	})
	if err != nil {
		return err
	}
	if err := e.forgetNames(before); err != nil {
		return err
	}
	names, err := e.publishNames(after, is)
	if err != nil {
		return err
	}
	if err := e.changeFiles(before, after, was, is); err != nil {
		return err
	}
	body := wire.NetworksBody{Nft: down.Nft, Unlink: names, Resolver: e.resolver(after, is)}
	if e.lan != nil {
		body.Forward.Targets = targets(after, is)
	}
	if after.Spec.Remove && hasCIDFile(after) {
		body.Unlink = append(body.Unlink, after.Spec.CIDFile)
	}
	conn, err := e.dial(&h.Container)
	if cove.Is(err, cove.NoFile) { // it is ending
		err = cove.E("tell the monitor of container", h.Name, cove.WrongStatus, err)
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, monitor.ErrNoAnswer)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = unix.Shutdown(conn.FD(), unix.SHUT_RDWR) })()
	if err := conn.Request(wire.Networks, body); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return cove.E("tell the monitor of container", h.Name, cove.Unavailable, err)
	}
	return nil
}

// networkOf opens a running container's network namespace. The error is of kind
// WrongStatus when the container has ended.
func networkOf(c *Container) (int, error) {
	fd, err := openNamespace("/proc/" + strconv.Itoa(c.Run.PID) + "/ns/net")
	if cove.Is(err, cove.NoFile) {
		err = cove.E("find the network of container", c.Name, cove.WrongStatus, err)
	}
	if err != nil {
		return -1, err
	}
	// After the opening: now it was no other process of that number.
	if start, err := procfs.StartTime(c.Run.PID); err != nil || c.Run.PIDStart != 0 && start != c.Run.PIDStart {
		_ = unix.Close(fd)
		return -1, cove.E("find the network of container", c.Name, cove.WrongStatus, unix.ESRCH)
	}
	return fd, nil
}

// changeFiles changes what the engine has written into the container's
// /etc/hosts and /etc/resolv.conf. What the container itself has written
// there stays.
func (e *Engine) changeFiles(before, after *cove.Container, was, is []cove.Network) error {
	dir := e.dir(after.ID)
	read := func(name string) (string, error) {
		fd, err := unix.Open(filepath.Join(dir, name), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return "", cove.E("read", filepath.Join(dir, name), fileKind(err), err)
		}
		defer unix.Close(fd)
		text, err := procfs.ReadFD(fd, 1<<20)
		return string(text), err
	}
	write := func(name, old, text string) error {
		if old == text {
			return nil
		}
		if err := replaceFile(filepath.Join(dir, name), text); err != nil {
			return cove.E("write files of container", after.Name, fileKind(err), err)
		}
		return nil
	}
	name, err := read("hostname")
	if err != nil {
		return err
	}
	name = strings.TrimSpace(name)
	old, err := e.hosts(before, "bridge", name)
	if err != nil {
		return err
	}
	text, err := e.hosts(after, "bridge", name)
	if err != nil {
		return err
	}
	present, err := read("hosts")
	if err != nil {
		return err
	}
	if err := write("hosts", present, exchange(present, old, text)); err != nil {
		return err
	}
	present, err = read("resolv.conf")
	if err != nil {
		return err
	}
	if present != e.resolvConf(before, "bridge", was) {
		return nil // the order of its lines matters: it is the container's own now
	}
	return write("resolv.conf", present, e.resolvConf(after, "bridge", is))
}

// exchange takes the lines of old that are not in new out of text, and adds
// those of new that are neither in it nor in old.
func exchange(text, old, new string) string {
	was, is, there := split(old), split(new), split(text)
	there = slices.DeleteFunc(there, func(l string) bool { return slices.Contains(was, l) && !slices.Contains(is, l) })
	for _, l := range is {
		if !slices.Contains(was, l) && !slices.Contains(there, l) {
			there = append(there, l)
		}
	}
	return strings.Join(there, "\n") + "\n"
}

func split(text string) []string {
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
