package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove"
)

func imageExistsCommand(a *app) *cobra.Command {
	return existsCommand(a, "image", func(ctx context.Context, eng Engine, name string) error {
		ok, err := eng.ImageExists(ctx, name)
		if err == nil && !ok {
			return cove.E("", name, cove.NotFound, errors.New("image not known"))
		}
		return err
	})
}
