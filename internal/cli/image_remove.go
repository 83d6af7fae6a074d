package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove/internal/image"
)

func imageRemoveCommand(a *app) *cobra.Command {
	var o image.RemoveOptions
	c := &cobra.Command{
		Use: "rm [options] IMAGE [IMAGE...]",
		Long: "Removes one or more previously pulled or locally created images.\n" +
			"  Exit codes: 1 an image does not exist, 2 an image is in use by a container, 125 another error.",
		Example: "  cove rmi imageID\n" +
			"  cove rmi --force alpine\n" +
			"  cove rmi c4dfb1609ee2 93fd78260bd1 c0ed59d05ff7",
		ValidArgsFunction: a.completeLocalImages(0),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 && !o.All {
				return usagef("image name or ID must be specified")
			}
			if len(args) > 0 && o.All {
				return usagef("when using the --all switch, you may not pass any images names or IDs")
			}
			o.Ignore = o.Ignore || o.Force // as podman's and docker's -f
			eng, err := a.imageEngine()
			if err != nil {
				return err
			}
			gone, err := eng.RemoveImages(c.Context(), args, o)
			for _, r := range gone {
				for _, name := range r.Untagged {
					fmt.Fprintln(a.Out, "Untagged: "+name)
				}
			}
			for _, r := range gone {
				if r.Deleted {
					fmt.Fprintln(a.Out, "Deleted: "+r.ID)
				}
			}
			return codedByKind(err, removalCodes())
		},
	}
	fs := c.Flags()
	fs.BoolVarP(&o.All, "all", "a", false, "Remove all images")
	fs.BoolVarP(&o.Force, "force", "f", false, "Force Removal of the image")
	fs.BoolVarP(&o.Ignore, "ignore", "i", false, "Ignore errors if a specified image does not exist")
	fs.BoolVar(&o.NoPrune, "no-prune", false, "Do not remove dangling images")
	refuse(fs, []unsupported{{name: "platform"}}) // docker's
	return c
}
