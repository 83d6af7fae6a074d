package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove"
)

type updateOptions struct {
	*app
	limits  limitFlags
	health  healthFlags
	restart string
}

func updateCommand(a *app) *cobra.Command {
	o := &updateOptions{app: a}
	c := &cobra.Command{
		Use: "update [options] CONTAINER",
		Long: `Changes the limits, the restart policy and the health check of a container, at once when it runs. They stay when it is
started again.

Exit codes:
  125  the container is missing, or a limit cannot be set`,
		Example: `  cove update --cpus=5 foobar_container
  cove update --memory 1g --restart always web`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeContainers(1, nil),
		RunE:              func(c *cobra.Command, args []string) error { return o.run(c, args[0]) },
	}
	fs := c.Flags()
	o.limits.flags(fs)
	fs.StringVar(&o.restart, "restart", "", `Restart policy to apply when a container exits ("always"|"no"|"never"|"on-failure"|"unless-stopped")`)
	o.health.flags(fs)
	var list []unsupported
	for name := range strings.FieldsSeq("env kernel-memory latest ulimit unsetenv") {
		list = append(list, unsupported{name: name})
	}
	refuse(fs, list)
	return c
}

func (o *updateOptions) run(c *cobra.Command, name string) error {
	policy, err := parseRestart(o.restart)
	if err != nil {
		return err
	}
	e, err := o.engine()
	if err != nil {
		return err
	}
	id, warnings, err := e.Update(c.Context(), name, func(s *cove.ContainerSpec) error {
		if c.Flags().Changed("restart") {
			s.Restart = policy
		}
		if err := o.health.update(s); err != nil {
			return err
		}
		return o.limits.apply(&s.Resources)
	})
	for _, w := range warnings {
		o.warn(w)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(o.Out, id)
	return err
}
