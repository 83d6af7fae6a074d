package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

// A volume is a directory: it need not be mounted to be found, and what is not
// mounted need not be unmounted.

func volumeMountCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "mount NAME [NAME...]",
		Long:    "Tell where the volumes are on the host.\n\nExit codes:\n  125  a volume is missing",
		Example: "  cove volume mount myvol",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.eachVolume(c.Context(), args, func(_, place string) { fmt.Fprintln(a.Out, place) })
		},
	}
}

func volumeUnmountCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "unmount NAME [NAME...]",
		Long:    "Say that the volumes' places are not used any more. The volumes stay where they are.\n\nExit codes:\n  125  a volume is missing",
		Example: "  cove volume unmount myvol",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.eachVolume(c.Context(), args, func(name, _ string) { fmt.Fprintln(a.Out, name) })
		},
	}
}

func volumeReloadCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:  "reload",
		Long: "Take over the volumes of volume plugins. There are no plugins: it does nothing.",
		Args: takesNone,
		RunE: func(*cobra.Command, []string) error { return nil },
	}
}

// eachVolume tells of each volume its name and place, and of the first that is
// missing.
func (a *app) eachVolume(ctx context.Context, names []string, tell func(name, place string)) error {
	eng, err := a.engine()
	if err != nil {
		return err
	}
	var first error
	for _, name := range names {
		v, err := eng.Volume(ctx, name)
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		tell(v.Name, v.Mountpoint)
	}
	return first
}
