package cli

import (
	"fmt"
	"maps"

	"github.com/spf13/cobra"
)

func volumePruneCommand(a *app) *cobra.Command {
	var (
		filters    []string
		force, all bool
	)
	c := &cobra.Command{
		Use:  "prune [options]",
		Long: "Volumes that are not currently owned by a container will be removed. The command prompts for confirmation unless --force is given. All data in the volumes is destroyed.",
		Args: takesNone,
		RunE: func(c *cobra.Command, _ []string) error {
			by, err := parseFilters("volume", filters, volumeFilters())
			if err != nil {
				return err
			}
			eng, err := a.engine()
			if err != nil {
				return err
			}
			if !force {
				dangling := maps.Clone(by)
				if dangling == nil {
					dangling = map[string][]string{}
				}
				dangling["dangling"] = []string{"true"}
				vols, err := eng.Volumes(c.Context(), dangling)
				if err != nil {
					return err
				}
				fmt.Fprintln(a.Out, "WARNING! This will remove all volumes not used by at least one container. The following volumes will be removed:")
				if len(vols) == 0 {
					_, err := fmt.Fprintln(a.Out, "No dangling volumes found")
					return err
				}
				for _, v := range vols {
					fmt.Fprintln(a.Out, v.Name)
				}
				if yes, err := a.confirm(); !yes {
					return err
				}
			}
			names, _, err := eng.PruneVolumes(c.Context(), by)
			for _, n := range names {
				fmt.Fprintln(a.Out, n)
			}
			return err
		},
	}
	fs := c.Flags()
	fs.StringArrayVar(&filters, "filter", nil, "Provide filter values (e.g. 'label=<key>=<value>')")
	fs.BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	fs.BoolVarP(&all, "all", "a", false, "Remove all unused volumes, named ones too; the default")
	return c
}
