package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove/internal/image"
)

func imageLoadCommand(a *app) *cobra.Command {
	var (
		input string
		quiet bool
		o     image.LoadOptions
	)
	c := &cobra.Command{
		Use:     "load [options]",
		Long:    "Loads an image from a locally stored archive (tar file) or directory into container storage.",
		Example: "  cove load --input fedora.tar\n  cove load < fedora.tar",
		Args:    takesNone,
		RunE: func(c *cobra.Command, _ []string) error {
			if input == "" && a.terminal() != nil {
				return usagef("cannot read from terminal, use command-line redirection or the --input flag")
			}
			if !quiet {
				o.Progress = a.Err
			}
			eng, err := a.imageEngine()
			if err != nil {
				return err
			}
			names, err := eng.LoadImages(c.Context(), input, a.In, o)
			for _, n := range names {
				fmt.Fprintln(a.Out, "Loaded image: "+n)
			}
			return err
		},
	}
	fs := c.Flags()
	fs.StringVarP(&input, "input", "i", "", "Load images from specified tar archive file")
	fs.BoolVarP(&quiet, "quiet", "q", false, "Suppress the output")
	fs.StringVar(&o.SignaturePolicy, "signature-policy", "", "Pathname of signature policy file")
	fs.Lookup("signature-policy").Hidden = true
	refuse(fs, []unsupported{{name: "platform"}}) // docker's
	return c
}
