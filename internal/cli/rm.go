package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
)

type rmOptions struct {
	*app
	selection
	grace
	depend, force, volumes bool
}

func rmCommand(a *app) *cobra.Command {
	o := &rmOptions{app: a}
	c := &cobra.Command{
		Use: "rm [options] CONTAINER [CONTAINER...]",
		Long: `Removes one or more containers from the host. The container name or ID can be used.

  Command does not remove images. Running or unusable containers will not be removed without the -f option.

Exit codes:
  1    a container does not exist, and nothing else went wrong
  2    a container is running or paused, and --force was not given
  125  anything else`,
		Example: `  cove rm ctrID
  cove rm mywebserver myflaskserver 860a4b23
  cove rm --force --all
  cove rm -f ctrID`,
		ValidArgsFunction: a.completeContainers(0, nil),
		RunE:              func(c *cobra.Command, args []string) error { return o.run(c.Context(), args) },
	}
	o.flags(c.Flags())
	return c
}

func (o *rmOptions) flags(fs *pflag.FlagSet) {
	o.selection.flags(fs, "alFci", "Remove")
	o.grace.flags(fs)
	fs.BoolVar(&o.depend, "depend", false, "Remove container and all containers that depend on the selected container")
	fs.BoolVarP(&o.force, "force", "f", false, "Force removal of a running or unusable container")
	fs.BoolVarP(&o.volumes, "volumes", "v", false, "Remove anonymous volumes associated with the container")
	refuse(fs, []unsupported{{name: "link", bool: true}})
}

func (o *rmOptions) run(ctx context.Context, args []string) error {
	if o.set("time") && !o.force {
		return errors.New("--force option must be specified to use the --time option")
	}
	o.ignore = o.ignore || o.force
	e, ts, err := o.choose(ctx, o.app, args, nil)
	if err != nil {
		return codedByKind(err, rmCodes())
	}
	var mu sync.Mutex
	var dependents []string
	err = o.eachTogether(ctx, ts, o.ignore, func(t target) error {
		return e.Remove(ctx, t.name, engine.RemoveOptions{
			Force: o.force, Volumes: o.volumes, Depend: o.depend, Timeout: o.timeout(), Warn: o.warn,
			Dependent: func(id string) {
				mu.Lock()
				defer mu.Unlock()
				dependents = append(dependents, id)
			},
		})
	})
	for _, id := range dependents {
		fmt.Fprintln(o.Out, id)
	}
	return codedByKind(err, rmCodes())
}

// rmCodes are rm's exit codes.
func rmCodes() map[cove.Kind]int {
	return map[cove.Kind]int{cove.NotFound: exitMissing, cove.WrongStatus: exitState}
}
