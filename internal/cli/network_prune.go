package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func networkPruneCommand(a *app) *cobra.Command {
	var (
		filters []string
		force   bool
	)
	c := &cobra.Command{
		Use:     "prune [options]",
		Long:    "Prune networks that no container uses. The default network stays.",
		Example: "  cove network prune",
		Args:    takesNone,
		RunE: func(c *cobra.Command, _ []string) error {
			by, err := parseFilters("network", filters, networkFilters())
			if err != nil {
				return err
			}
			if !force {
				fmt.Fprintln(a.Out, "WARNING! This will remove all networks not used by at least one container.")
				if yes, err := a.confirm(); !yes {
					return err
				}
			}
			eng, err := a.engine()
			if err != nil {
				return err
			}
			names, err := eng.PruneNetworks(c.Context(), by)
			for _, n := range names {
				fmt.Fprintln(a.Out, n)
			}
			return err
		},
	}
	fs := c.Flags()
	fs.StringArrayVar(&filters, "filter", nil, "Provide filter values (e.g. 'label=<key>=<value>')")
	fs.BoolVarP(&force, "force", "f", false, "do not prompt for confirmation")
	return c
}
