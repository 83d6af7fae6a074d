package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
)

type cleanupOptions struct {
	*app
	selection
	run uint64
}

// cleanupCommand is what conmon runs when a container has ended (with --run),
// and what podman's users know it as: take down what an ended container has left.
func cleanupCommand(a *app) *cobra.Command {
	o := &cleanupOptions{app: a}
	c := &cobra.Command{
		Use: "cleanup [options] CONTAINER [CONTAINER...]",
		Long: `Record the end of containers that have ended, and take down what their runs have left.

Exit codes:
  125  a container is missing or still running`,
		Example:           "  cove container cleanup ctrID1 ctrID2",
		ValidArgsFunction: a.completeContainers(0, nil),
		RunE:              func(c *cobra.Command, args []string) error { return o.clean(c.Context(), args) },
	}
	fs := c.Flags()
	o.selection.flags(fs, "al", "Clean up")
	fs.Uint64Var(&o.run, "run", 0, "Of this run only, and apply the restart policy")
	fs.Lookup("run").Hidden = true
	refuse(fs, []unsupported{{name: "exec"}, {name: "rm", bool: true, accept: []string{"false"}}, {name: "rmi", bool: true, accept: []string{"false"}}})
	return c
}

func (o *cleanupOptions) clean(ctx context.Context, args []string) error {
	if o.run > 0 {
		e, err := o.engine()
		if err != nil {
			return err
		}
		if len(args) != 1 {
			return errors.New("--run needs one container")
		}
		return e.Cleanup(ctx, args[0], o.run)
	}
	e, ts, err := o.choose(ctx, o.app, args, nil)
	if err != nil {
		return err
	}
	return o.each(ctx, ts, false, func(t target) error { return e.Cleanup(ctx, t.name, 0) })
}
