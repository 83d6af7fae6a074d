package cli

import (
	"io"
	"os"

	"github.com/spf13/cobra"
)

func volumeImportCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:  "import VOLUME [SOURCE]",
		Long: "Imports contents into a volume from specified tarball (.tar, .tar.gz, .tgz, .bzip, .tar.xz, .txz); - is stdin. What the volume has already stays, unless the tarball has it too.\n\nExit codes:\n  125  the archive could not be read or unpacked",
		Example: "  cove volume import my_vol /home/user/import.tar\n" +
			"  cat ctr.tar | cove volume import my_vol -",
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			var from io.Reader
			if args[1] == "-" {
				if a.terminal() != nil {
					return usagef("cannot read from terminal, use command-line redirection or name a file")
				}
				from = a.In
			} else {
				f, err := os.Open(args[1])
				if err != nil {
					return err
				}
				defer f.Close()
				from = f
			}
			eng, err := a.engine()
			if err != nil {
				return err
			}
			if args[1] == "-" { // the input could not be read once more
				if err := eng.NeedImages(); err != nil {
					return err
				}
			}
			return eng.ImportVolume(c.Context(), args[0], from)
		},
	}
}
