package cli

import "github.com/spf13/cobra"

func infoCommand(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:     "info [options]",
		Long:    "Display information pertaining to the host, current storage stats, and version of cove. Useful for the user and when reporting issues.",
		Example: "  cove info\n  cove info --format json\n  cove info --format '{{.Store.GraphRoot}}'",
		Args:    takesNone,
		RunE: func(c *cobra.Command, _ []string) error {
			eng, err := a.engine()
			if err != nil {
				return err
			}
			info, err := eng.Info(c.Context())
			if err != nil {
				return err
			}
			info.Version = a.version()
			switch {
			case format == "":
				return writeYAML(a.Out, info)
			case isJSON(format):
				return a.printJSONIndent(info, "  ")
			}
			return a.printTemplate(format, &info)
		},
	}
	c.Flags().StringVarP(&format, "format", "f", "", "Change the output format to JSON or a Go template")
	refuse(c.Flags(), []unsupported{{name: "debug", short: "D", bool: true, accept: []string{"true", "false"}}})
	return c
}
