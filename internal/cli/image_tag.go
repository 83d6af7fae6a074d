package cli

import "github.com/spf13/cobra"

func imageTagCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:  "tag IMAGE TARGET_NAME [TARGET_NAME...]",
		Long: "Adds one or more additional names to locally-stored image.",
		Example: "  cove tag 0e3bbc2 fedora:latest\n" +
			"  cove tag imageID:latest myNewImage:newTag\n" +
			"  cove tag httpd myregistryhost:5000/fedora/httpd:v2",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: a.completeLocalImages(0),
		RunE: func(c *cobra.Command, args []string) error {
			eng, err := a.imageEngine()
			if err != nil {
				return err
			}
			return eng.TagImage(c.Context(), args[0], args[1:])
		},
	}
}
