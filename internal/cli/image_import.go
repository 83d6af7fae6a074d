package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove/internal/image"
)

func imageImportCommand(a *app) *cobra.Command {
	var (
		o        image.ImportOptions
		platform string
		quiet    bool
	)
	c := &cobra.Command{
		Use:  "import [options] PATH [REFERENCE]",
		Long: "Create a container image from the contents of the specified tarball (.tar, .tar.gz, .tgz, .bzip, .tar.xz, .txz); - is stdin.",
		Example: "  cat ctr.tar | cove import --quiet --message \"importing the ctr.tar tarball\" - image-imported\n" +
			"  cove import --change CMD=/bin/sh ctr.tar image-imported",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 2 {
				o.Reference = args[1]
			}
			if platform != "" {
				if o.OS != "" || o.Arch != "" || o.Variant != "" {
					return usagef("--platform option can not be specified with --os, --arch or --variant")
				}
				os, rest, _ := strings.Cut(platform, "/")
				arch, variant, _ := strings.Cut(rest, "/")
				if os == "" || strings.Contains(variant, "/") {
					return usagef("invalid platform %q: must be OS[/ARCH[/VARIANT]]", platform)
				}
				o.OS, o.Arch, o.Variant = os, arch, variant
			}
			if args[0] == "-" {
				if a.terminal() != nil {
					return usagef("cannot read from terminal, use command-line redirection or name a file")
				}
				o.Stdin = a.In
			}
			if !quiet {
				o.Progress = a.Err
			}
			eng, err := a.imageEngine()
			if err != nil {
				return err
			}
			id, err := eng.ImportImage(c.Context(), args[0], o)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.Out, "sha256:"+strings.TrimPrefix(id, "sha256:"))
			return err
		},
	}
	fs := c.Flags()
	fs.StringVar(&o.Arch, "arch", "", "Set the architecture of the imported image")
	fs.StringArrayVarP(&o.Changes, "change", "c", nil, "Apply the following possible instructions to the created image: CMD | ENTRYPOINT | ENV | EXPOSE | LABEL | ONBUILD | STOPSIGNAL | USER | VOLUME | WORKDIR")
	fs.StringVarP(&o.Message, "message", "m", "", "Set commit message for imported image")
	fs.StringVar(&o.OS, "os", "", "Set the OS of the imported image")
	fs.StringVar(&platform, "platform", "", "Set the platform of the imported image: OS[/ARCH[/VARIANT]]")
	fs.BoolVarP(&quiet, "quiet", "q", false, "Suppress output")
	fs.StringVar(&o.Variant, "variant", "", "Set the variant of the imported image")
	return c
}
