package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func imagePruneCommand(a *app) *cobra.Command {
	var (
		filters    []string
		all, force bool
	)
	c := &cobra.Command{
		Use:     "prune [options]",
		Long:    "Removes dangling or unused images from local storage.",
		Example: "  cove image prune",
		Args:    takesNone,
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := parseFilters("image", filters, []string{"dangling", "label", "label!", "until"}); err != nil {
				return err
			}
			eng, err := a.imageEngine()
			if err != nil {
				return err
			}
			if !force {
				which := "dangling images"
				if all {
					which = "images without at least one container associated with them"
				}
				fmt.Fprintf(a.Out, "WARNING! This command removes all %s.\n", which)
				if yes, err := a.confirm(); !yes {
					return err
				}
			}
			gone, err := eng.PruneImages(c.Context(), all, filters)
			for _, r := range gone {
				if r.Deleted {
					fmt.Fprintln(a.Out, r.ID)
				}
			}
			return err
		},
	}
	fs := c.Flags()
	fs.BoolVarP(&all, "all", "a", false, "Remove all images not in use by containers, not just dangling ones")
	fs.StringArrayVar(&filters, "filter", nil, "Provide filter values (e.g. 'label=<key>=<value>')")
	fs.BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	refuse(fs, []unsupported{{name: "external", bool: true}, {name: "build-cache", bool: true}})
	return c
}
