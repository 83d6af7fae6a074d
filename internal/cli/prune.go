package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func pruneCommand(a *app) *cobra.Command {
	var force bool
	var filters []string
	c := &cobra.Command{
		Use: "prune [options]",
		Long: `Removes all non running containers

Exit codes:
  125  a container could not be removed`,
		Example: `  cove container prune
  cove container prune --force --filter until=24h`,
		Args: takesNone,
		RunE: func(c *cobra.Command, _ []string) error {
			fl, err := splitFilters(filters)
			if err != nil {
				return err
			}
			if !force {
				fmt.Fprintln(a.Out, "WARNING! This will remove all non running containers.")
				if yes, err := a.confirm(); err != nil || !yes {
					return err
				}
			}
			e, err := a.engine()
			if err != nil {
				return err
			}
			ids, _, err := e.PruneContainers(c.Context(), fl)
			for _, id := range ids {
				fmt.Fprintln(a.Out, id)
			}
			return err
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation.  The default is false")
	arrayVar(c.Flags(), &filters, "filter", "", "Provide filter values (e.g. 'label=<key>=<value>')")
	return c
}
