package cli

import "github.com/spf13/cobra"

func imageUntagCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:  "untag IMAGE [NAME...]",
		Long: "Removes one or more names from a locally-stored image, all of them if none is given. The image stays.",
		Example: "  cove untag 0e3bbc2\n" +
			"  cove untag imageID:latest otherImageName:latest\n" +
			"  cove untag httpd myregistryhost:5000/fedora/httpd:v2",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeLocalImages(0),
		RunE: func(c *cobra.Command, args []string) error {
			eng, err := a.imageEngine()
			if err != nil {
				return err
			}
			return eng.UntagImage(c.Context(), args[0], args[1:])
		},
	}
}
