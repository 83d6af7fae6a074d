package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove/internal/image"
)

func imageSaveCommand(a *app) *cobra.Command {
	var (
		o     image.SaveOptions
		quiet bool
	)
	c := &cobra.Command{
		Use:  "save [options] IMAGE [IMAGE...]",
		Long: "Save an image to docker-archive or oci-archive on the local machine. Default is docker-archive.",
		Example: "  cove save --quiet -o myimage.tar imageID\n" +
			"  cove save --format docker-dir -o ubuntu-dir ubuntu\n" +
			"  cove save > alpine-all.tar alpine:latest",
		ValidArgsFunction: a.completeLocalImages(0),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("need at least 1 argument")
			}
			if err := checkSave(o); err != nil {
				return err
			}
			if o.Output == "" {
				if a.outTerminal() != nil {
					return usagef("refusing to save to terminal. Use -o flag or redirect")
				}
				o.Writer = a.Out
			}
			if !quiet {
				o.Progress = a.Err
			}
			eng, err := a.imageEngine()
			if err != nil {
				return err
			}
			if o.Format == "docker-archive" && !c.Flags().Changed("multi-image-archive") {
				defaults, err := eng.Defaults()
				if err != nil {
					return err
				}
				o.MultiImageArchive = defaults.MultiImageArchive
			}
			return eng.SaveImages(c.Context(), args, o)
		},
	}
	fs := c.Flags()
	fs.BoolVar(&o.Compress, "compress", false, "Compress tarball image layers when saving to a directory using the 'dir' transport. (default is same compression type as source)")
	fs.StringVar(&o.Format, "format", "docker-archive", "Save image to oci-archive, oci-dir (directory with oci manifest type), docker-archive, docker-dir (directory with v2s2 manifest type)")
	fs.BoolVarP(&o.MultiImageArchive, "multi-image-archive", "m", false, "Interpret additional arguments as images not tags and create a multi-image-archive (only for docker-archive)")
	fs.StringVarP(&o.Output, "output", "o", "", "Write to a specified file (default: stdout, which must be redirected)")
	fs.BoolVarP(&quiet, "quiet", "q", false, "Suppress the output")
	fs.BoolVar(&o.AcceptUncompressed, "uncompressed", false, "Accept uncompressed layers when copying OCI images")
	refuse(fs, []unsupported{{name: "platform"}}) // docker's
	return c
}

// checkSave refuses formats and combinations that cannot be.
func checkSave(o image.SaveOptions) error {
	known := []string{"docker-archive", "oci-archive", "oci-dir", "docker-dir"}
	dir := strings.HasSuffix(o.Format, "-dir")
	switch {
	case !slices.Contains(known, o.Format):
		return usagef("unsupported --format %q: choose from %s", o.Format, strings.Join(known, ", "))
	case o.Compress && o.Format != "docker-dir":
		return usagef("--compress can only be set when --format is 'docker-dir'")
	case dir && o.Output == "":
		return usagef("--format %s writes a directory: name it with -o", o.Format)
	case strings.Contains(o.Output, ":"):
		return usagef("invalid filename (should not contain ':') %q", o.Output)
	case o.MultiImageArchive && o.Format != "docker-archive":
		return usagef("--multi-image-archive is for docker-archive only")
	}
	return nil
}
