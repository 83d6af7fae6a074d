package cli

import "github.com/spf13/cobra"

func imageInspectCommand(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:  "inspect [options] IMAGE [IMAGE...]",
		Long: "Displays the low-level information of an image identified by name or ID.",
		Example: "  cove image inspect alpine\n" +
			"  cove image inspect --format \"imageId: {{.Id}} size: {{.Size}}\" alpine",
		ValidArgsFunction: a.completeLocalImages(0),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("no names or ids specified")
			}
			eng, err := a.imageEngine()
			if err != nil {
				return err
			}
			return inspectEach(c.Context(), a, format, args, eng.InspectImage)
		},
	}
	c.Flags().StringVarP(&format, "format", "f", "json", "Format the output to a Go template or json")
	refuse(c.Flags(), []unsupported{{name: "platform"}}) // docker's
	return c
}
