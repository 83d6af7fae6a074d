package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func volumeInspectCommand(a *app) *cobra.Command {
	var (
		all    bool
		format string
	)
	c := &cobra.Command{
		Use:  "inspect [options] VOLUME [VOLUME...]",
		Long: "Display detailed information on one or more volumes.",
		Example: "  cove volume inspect myvol\n" +
			"  cove volume inspect --all\n" +
			"  cove volume inspect --format \"{{.Driver}} {{.Scope}}\" myvol",
		RunE: func(c *cobra.Command, args []string) error {
			if (len(args) > 0) == all {
				return usagef("provide one or more volume names or use --all")
			}
			eng, err := a.engine()
			if err != nil {
				return err
			}
			if all {
				vols, err := eng.Volumes(c.Context(), nil)
				if err != nil {
					return err
				}
				return a.inspectAll(format, anys(vols), nil)
			}
			return inspectEach(c.Context(), a, format, args, eng.Volume)
		},
	}
	fs := c.Flags()
	fs.BoolVarP(&all, "all", "a", false, "Inspect all volumes")
	fs.StringVarP(&format, "format", "f", "json", "Format volume output using Go template")
	return c
}

// inspectEach looks all names up and prints those found, then says which
// were not.
func inspectEach[T any](ctx context.Context, a *app, format string, names []string, look func(context.Context, string) (T, error)) error {
	var (
		found []any
		errs  []error
	)
	for _, name := range names {
		v, err := look(ctx, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found = append(found, v)
	}
	return a.inspectAll(format, found, errs)
}
