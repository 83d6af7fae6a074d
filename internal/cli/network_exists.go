package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func networkExistsCommand(a *app) *cobra.Command {
	return existsCommand(a, "network", func(ctx context.Context, eng Engine, name string) error {
		_, err := eng.Network(ctx, name)
		return err
	})
}
