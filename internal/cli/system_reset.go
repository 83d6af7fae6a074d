package cli

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"
)

func systemResetCommand(a *app) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "reset [options]",
		Long: "Remove all containers, networks and volumes, and cove's own directories. Images stay: their store is shared with podman, buildah and skopeo.\n" +
			"  It works also when the state store is damaged. If it is cut short, the next one goes on.",
		Example: "  cove system reset\n  cove rmi --all --force && cove system reset --force",
		Args:    takesNone,
		RunE: func(c *cobra.Command, _ []string) error {
			eng, err := a.imageEngine() // before it asks: the program that acts does
			if err != nil {
				return err
			}
			if !force {
				home, scratch := eng.Places()
				fmt.Fprintf(a.Out, `WARNING! This will remove:
        - all containers, running ones too
        - all networks
        - all volumes, with all that is in them
        - cove's directory: %q
        - cove's run directory: %q
Images stay, for their store, %q, is podman's, buildah's and skopeo's too: "cove rmi --all --force" before removes them.
`, home, scratch, filepath.Dir(home))
				if yes, err := a.confirm(); !yes {
					return err
				}
			}
			return eng.Reset(c.Context())
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	return c
}
