package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func createCommand(a *app) *cobra.Command {
	o := &runOptions{app: a}
	c := &cobra.Command{
		Use: "create [options] IMAGE [COMMAND [ARG...]]",
		Long: `Creates a new container from the given image or storage and prepares it for running the specified command.

  The container ID is then printed to stdout. You can then start it at any time with the cove start <container_id> command. The container will be created with the initial state 'created'.

Exit codes:
  125  the container could not be created`,
		Example: `  cove create alpine ls
  cove create --annotation HELLO=WORLD alpine ls
  cove create -t -i --name myctr alpine ls`,
		Args:              needImage,
		RunE:              func(c *cobra.Command, args []string) error { return o.create(c.Context(), args) },
		ValidArgsFunction: a.completeImages,
	}
	o.fs = c.Flags()
	o.flags(o.fs, false)
	return c
}

func (o *runOptions) create(ctx context.Context, args []string) error {
	in := o.outside()
	spec, err := o.request(in, args)
	if err != nil {
		return err
	}
	co, err := o.createOptions()
	if err != nil {
		return err
	}
	e, err := o.engine()
	if err != nil {
		return err
	}
	defaults, err := e.Defaults()
	if err != nil {
		return err
	}
	o.configured(&spec, in, defaults)
	id, warnings, err := e.Create(ctx, spec, co)
	for _, w := range warnings {
		o.warn(w)
	}
	if err != nil {
		return err
	}
	if !passthrough(&spec, defaults) { // as podman
		fmt.Fprintln(o.Out, id)
	}
	return nil
}
