package cli

import (
	"context"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
	"github.com/cove-engine/cove/internal/inspect"
)

// NetworkEngine is the network verbs. A nameOrID is a name, a full ID or an
// unambiguous beginning of one.
type NetworkEngine interface {
	// CreateNetwork makes n and gives its record: the engine chooses name,
	// ID, interface, subnets and gateways where n has none. With ignore a
	// network of that name is given as it is.
	CreateNetwork(ctx context.Context, n cove.Network, ignore bool) (cove.Network, error)
	// Networks gives those that the filters choose, by name.
	Networks(ctx context.Context, filters map[string][]string) ([]cove.Network, error)
	Network(ctx context.Context, nameOrID string) (inspect.Network, error)
	// RemoveNetwork gives the name of what it removed. Of o only Force
	// (with the containers on it) and Timeout count.
	RemoveNetwork(ctx context.Context, nameOrID string, o engine.RemoveOptions) (string, error)
	// ConnectNetwork puts a container on one more network, a.Network, while it
	// runs or not; of a count Aliases, StaticIPs and MAC too.
	ConnectNetwork(ctx context.Context, container string, a cove.NetworkAttachment) error
	// DisconnectNetwork takes a container off a network. With force what
	// cannot be done at once is left to the next command.
	DisconnectNetwork(ctx context.Context, container, network string, force bool) error
	// ReloadNetwork makes a running container's networks anew where others have
	// taken something of them away, and gives its ID.
	ReloadNetwork(ctx context.Context, nameOrID string) (id string, err error)
	// PruneNetworks removes what no container uses and gives the names.
	PruneNetworks(ctx context.Context, filters map[string][]string) ([]string, error)
}
