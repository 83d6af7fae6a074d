package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove"
)

func volumeExistsCommand(a *app) *cobra.Command {
	return existsCommand(a, "volume", func(ctx context.Context, eng Engine, name string) error {
		v, err := eng.Volume(ctx, name)
		// Other commands take the beginning of a name, of one volume; here, as
		// with podman, that is the name of none.
		if err == nil && v.Name != name || name != "" && cove.Is(err, cove.Invalid) {
			return cove.E("", "", cove.NotFound, errors.New("no volume with name "+name))
		}
		return err
	})
}
