package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove"
)

func volumeCreateCommand(a *app) *cobra.Command {
	var (
		v            cove.Volume
		labels, opts []string
		ignore       bool
	)
	c := &cobra.Command{
		Use:  "create [options] [NAME]",
		Long: "If using the default driver, \"local\", the volume will be created on the host in the volumes directory under container storage.",
		Example: "  cove volume create myvol\n" +
			"  cove volume create\n" +
			"  cove volume create --label foo=bar myvol",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				v.Name = args[0]
			}
			v.Labels, v.Options = labelMap(labels), labelMap(opts)
			eng, err := a.engine()
			if err != nil {
				return err
			}
			made, err := eng.CreateVolume(c.Context(), v, ignore)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.Out, made.Name)
			return err
		},
	}
	fs := c.Flags()
	fs.StringVarP(&v.Driver, "driver", "d", "local", "Specify volume driver name")
	fs.StringArrayVarP(&labels, "label", "l", nil, "Set metadata for a volume")
	fs.StringArrayVarP(&opts, "opt", "o", nil, "Set driver specific options")
	fs.BoolVar(&ignore, "ignore", false, "Don't fail if volume already exists")
	refuse(fs, []unsupported{{name: "uid"}, {name: "gid"}})
	return c
}
