package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func volumeExistsCommand(a *app) *cobra.Command {
	return existsCommand(a, "volume", func(ctx context.Context, eng Engine, name string) error {
		_, err := eng.Volume(ctx, name)
		return err
	})
}
