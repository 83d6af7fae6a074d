package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/cove-engine/cove"
)

// ReloadNetwork makes a running container's links, addresses and firewall what
// they were when it was started, after others have flushed or removed them, and
// gives its ID. What is there as it should be stays.
func (e *Engine) ReloadNetwork(ctx context.Context, nameOrID string) (id string, err error) {
	h, err := e.holdAsIs(ctx, nameOrID)
	if err != nil {
		return "", err
	}
	defer h.release()
	switch {
	case h.Status != cove.Running:
		return "", cove.E("", "", cove.WrongStatus, errors.New("cannot reload network unless container network has been configured: container state improper"))
	case e.networkMode(&h.Container.Container) != "bridge":
		return "", cove.E("", "", cove.WrongStatus, fmt.Errorf("container %s network is not configured, refusing to reload: container state improper", h.ID))
	}
	if err := monitorStopped(&h.Container); err != nil {
		return "", cove.E("reload network of container", h.Name, cove.Unavailable, err)
	}
	return h.ID, e.carryOut(ctx, h)
}
