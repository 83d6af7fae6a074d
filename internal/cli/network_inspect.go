package cli

import "github.com/spf13/cobra"

func networkInspectCommand(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:     "inspect [options] NETWORK [NETWORK...]",
		Long:    "Inspect network: its record and the containers on it.",
		Example: "  cove network inspect podman",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			eng, err := a.engine()
			if err != nil {
				return err
			}
			return inspectEach(c.Context(), a, format, args, eng.Network)
		},
	}
	c.Flags().StringVarP(&format, "format", "f", "", "Pretty-print network to JSON or using a Go template")
	refuse(c.Flags(), []unsupported{{name: "verbose", short: "v", bool: true}, {name: "scope", accept: []string{"local"}}})
	return c
}
