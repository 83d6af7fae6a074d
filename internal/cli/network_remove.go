package cli

import (
	"github.com/spf13/cobra"

	"github.com/cove-engine/cove/internal/engine"
)

func networkRemoveCommand(a *app) *cobra.Command {
	var (
		o       engine.RemoveOptions
		timeout uint
	)
	c := &cobra.Command{
		Use: "rm [options] NETWORK [NETWORK...]",
		Long: "Remove networks.\n" +
			"  Exit codes: 1 a network does not exist, 2 a network is in use, 125 another error.",
		Example: "  cove network rm net1",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("time") && !o.Force {
				return usagef("--force option must be specified to use the --time option")
			}
			o.Timeout, o.Warn = stopTimeout(c, timeout), a.warn
			eng, err := a.engine()
			if err != nil {
				return err
			}
			return a.removeEach(args, o.Force, func(name string) (string, error) {
				return eng.RemoveNetwork(c.Context(), name, o)
			})
		},
	}
	fs := c.Flags()
	fs.BoolVarP(&o.Force, "force", "f", false, "remove any containers using network")
	fs.UintVarP(&timeout, "time", "t", 10, "Seconds to wait for running containers to stop before killing the container")
	return c
}
