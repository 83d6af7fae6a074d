// Package userland is the network driver of an ordinary user. He has no power
// over the host's links and firewall: his containers are connected by a
// program each (pasta, slirp4netns), which is the monitor's, and networks are
// records that no container can join yet.
package userland

import (
	"context"
	"errors"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/network/native"
	"github.com/cove-engine/cove/internal/network/teardown"
)

// Driver implements network.Driver.
type Driver struct{}

var _ network.Driver = Driver{}

// Setup refuses: no container of an ordinary user is on a bridge.
func (Driver) Setup(context.Context, network.Request) (teardown.Teardown, error) {
	return teardown.Teardown{}, cove.E("join networks", "", cove.Unsupported, errors.New("bridge networks are not supported by cove for ordinary users yet"))
}

// Change refuses like Setup.
func (d Driver) Change(ctx context.Context, r network.Request) (teardown.Teardown, error) {
	return d.Setup(ctx, r)
}

// Occupied tells what the host uses: to look is everybody's right.
func (Driver) Occupied(ctx context.Context) (network.Occupied, error) {
	return native.Driver{}.Occupied(ctx)
}

// Reload has nothing to replace.
func (Driver) Reload(context.Context, []cove.Network, []network.Request) error { return nil }

// List finds nothing: what the kernel holds of cove's is root's.
func (Driver) List(context.Context) (network.Reality, error) { return network.Reality{}, nil }

// RemoveLink has none to remove, and so have the following.
func (Driver) RemoveLink(context.Context, string) error { return nil }

// RemoveElements does nothing.
func (Driver) RemoveElements(context.Context, string) error { return nil }

// RemoveNetwork does nothing.
func (Driver) RemoveNetwork(context.Context, cove.Network) error { return nil }

// RemoveBridge does nothing.
func (Driver) RemoveBridge(context.Context, string) error { return nil }
