package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove/internal/engine"
)

func systemMigrateCommand(a *app) *cobra.Command {
	var o engine.MigrateOptions
	c := &cobra.Command{
		Use: "migrate [options]",
		Long: "Move the records of containers, volumes, networks and secrets to the database backend that --db-backend or containers.conf names,\n" +
			"  and to this release's layout. Nothing is lost if it is killed; the next command finishes or undoes it.",
		Example: "  cove system migrate\n  cove --db-backend sqlite system migrate",
		Args:    takesNone,
		RunE: func(c *cobra.Command, _ []string) error {
			eng, err := a.engine()
			if err != nil {
				return err
			}
			m, err := eng.Migrate(c.Context(), o)
			if err == nil && m.To != "" {
				fmt.Fprintf(a.Out, "moved %d records from %s to %s\n", m.Records, m.From, m.To)
			}
			return err
		},
	}
	c.Flags().StringVar(&o.NewRuntime, "new-runtime", "", "Specify a new runtime for all containers")
	return c
}
