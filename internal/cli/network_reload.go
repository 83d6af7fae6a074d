package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
)

func networkReloadCommand(a *app) *cobra.Command {
	var s selection
	running := func(c engine.Container) bool { return c.Status == cove.Running }
	c := &cobra.Command{
		Use: "reload [options] [CONTAINER...]",
		Long: `Makes the links, addresses and firewall rules of running containers anew where others have taken them away.

Exit codes:
  125  a container is missing, does not run, or is on no network of cove's`,
		Example:           "  cove network reload mywebserver\n  cove network reload --all",
		ValidArgsFunction: a.completeContainers(0, running),
		RunE: func(c *cobra.Command, args []string) error {
			e, ts, err := s.choose(c.Context(), a, args, running)
			if err != nil {
				return err
			}
			var errs []error
			for _, t := range ts {
				switch id, err := e.ReloadNetwork(c.Context(), t.name); {
				case err == nil:
					fmt.Fprintln(a.Out, id)
				case s.all && (cove.Is(err, cove.WrongStatus) || cove.Is(err, cove.NotFound)): // it is on none, or has just ended
				default:
					errs = append(errs, err)
				}
			}
			return errors.Join(errs...)
		},
	}
	s.flags(c.Flags(), "al", "Reload network configuration of")
	return c
}
