package engine

import (
	"context"

	"github.com/cove-engine/cove"
)

// CreateNetwork records a network; the kernel gets its bridge with the first
// container. What n does not say is chosen: name, ID, interface, subnets and
// gateways. With ignore an existing network of that name is given as it is.
func (e *Engine) CreateNetwork(ctx context.Context, n cove.Network, ignore bool) (cove.Network, error) {
	return e.now().CreateNetwork(ctx, n, ignore)
}

// Networks gives the networks that the filters choose, by name.
func (e *Engine) Networks(ctx context.Context, filters map[string][]string) ([]cove.Network, error) {
	return e.now().Networks(ctx, filters)
}

// Network describes a network, with the running containers on it.
func (e *Engine) Network(ctx context.Context, nameOrID string) (NetworkData, error) {
	return e.now().Network(ctx, nameOrID)
}

// RemoveNetwork removes a network and gives its name. Of o only Force (with
// the containers on it), Timeout and Warn count.
func (e *Engine) RemoveNetwork(ctx context.Context, nameOrID string, o RemoveOptions) (string, error) {
	return e.now().RemoveNetwork(ctx, nameOrID, o)
}

// ConnectNetwork puts a container on one more network. One that runs is there
// at once, others when they are started.
func (e *Engine) ConnectNetwork(ctx context.Context, container string, a cove.NetworkAttachment) error {
	return e.now().ConnectNetwork(ctx, container, a)
}

// ReloadNetwork makes a running container's links, addresses and firewall what
// they were when it was started, after others have flushed or removed them, and
// gives its ID. What is there as it should be stays.
func (e *Engine) ReloadNetwork(ctx context.Context, nameOrID string) (id string, err error) {
	return e.now().ReloadNetwork(ctx, nameOrID)
}

// DisconnectNetwork takes a container off a network. With force, what cannot
// be done at once is left to the next command.
func (e *Engine) DisconnectNetwork(ctx context.Context, container, nameOrID string, force bool) error {
	return e.now().DisconnectNetwork(ctx, container, nameOrID, force)
}

// PruneNetworks removes the networks that no container is on and gives their
// names. The default network stays.
func (e *Engine) PruneNetworks(ctx context.Context, filters map[string][]string) ([]string, error) {
	return e.now().PruneNetworks(ctx, filters)
}
