package cli

import (
	"io"

	"github.com/spf13/cobra"
)

func volumeExportCommand(a *app) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:     "export [options] VOLUME",
		Long:    "Allow content of volume to be exported into external tar.\n\nExit codes:\n  125  the archive could not be written",
		Example: "  cove volume export myvol --output myvol.tar",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.export(output, func(eng Engine, w io.Writer) error { return eng.ExportVolume(c.Context(), args[0], w) })
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "Write to a specified file (default: stdout, which must be redirected)")
	return c
}
