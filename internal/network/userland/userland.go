// Package userland is the network driver of an ordinary user. He has no power
// over the host's links and firewall, but over those of network namespaces of
// his own: there is one in which his bridges are (internal/rootless), and in it
// everything is as it is for root. Published ports are not the firewall's
// there: monitors forward them (internal/monitor/forward).
package userland

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/network/native"
	"github.com/cove-engine/cove/internal/network/teardown"
	"github.com/cove-engine/cove/internal/ownthread"
)

// Driver implements network.Driver.
type Driver struct {
	// Join gives a descriptor of the namespace, made if need be; Find the same,
	// or -1 when there is none.
	Join, Find func() (int, error)
}

var _ network.Driver = Driver{}

// within calls f inside the namespace. The thread is thrown away: the host's
// namespace cannot be entered again.
func within(netns int, f func() error) error {
	defer unix.Close(netns)
	_, err := ownthread.Run(func() (struct{}, error) {
		if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
			return struct{}{}, cove.E("enter the network of this user", "", cove.Internal, err)
		}
		return struct{}{}, f()
	})
	return err
}

// joined calls f inside, wherever that is.
func (d Driver) joined(f func() error) error {
	netns, err := d.Join()
	if err != nil {
		return err
	}
	return within(netns, f)
}

// found calls f inside if there is an inside.
func (d Driver) found(f func() error) error {
	netns, err := d.Find()
	if err != nil || netns < 0 {
		return err
	}
	return within(netns, f)
}

// Setup makes everything but the published ports.
func (d Driver) Setup(ctx context.Context, r network.Request) (t teardown.Teardown, err error) {
	r.Ports = nil
	err = d.joined(func() (err error) {
		t, err = native.Driver{}.Setup(ctx, r)
		return err
	})
	return t, err
}

// Change changes everything but the published ports.
func (d Driver) Change(ctx context.Context, r network.Request) (t teardown.Teardown, err error) {
	r.Ports = nil
	err = d.joined(func() (err error) {
		t, err = native.Driver{}.Change(ctx, r)
		return err
	})
	return t, err
}

// Occupied tells what the host uses: to look is everybody's right, and what
// the containers are to reach are the host's neighbours.
func (Driver) Occupied(ctx context.Context) (network.Occupied, error) {
	return native.Driver{}.Occupied(ctx)
}

// List implements network.Driver.
func (d Driver) List(ctx context.Context) (r network.Reality, err error) {
	err = d.found(func() (err error) {
		r, err = native.Driver{}.List(ctx)
		return err
	})
	return r, err
}

// RemoveLink implements network.Driver.
func (d Driver) RemoveLink(ctx context.Context, name string) error {
	return d.found(func() error { return native.Driver{}.RemoveLink(ctx, name) })
}

// RemoveElements has none to remove.
func (Driver) RemoveElements(context.Context, string) error { return nil }

// RemoveNetwork implements network.Driver.
func (d Driver) RemoveNetwork(ctx context.Context, n cove.Network) error {
	return d.found(func() error { return native.Driver{}.RemoveNetwork(ctx, n) })
}

// RemoveEmpty implements network.Driver.
func (d Driver) RemoveEmpty(ctx context.Context) error {
	return d.found(func() error { return native.Driver{}.RemoveEmpty(ctx) })
}

// RemoveBridge implements network.Driver.
func (d Driver) RemoveBridge(ctx context.Context, name string) error {
	return d.found(func() error { return native.Driver{}.RemoveBridge(ctx, name) })
}
