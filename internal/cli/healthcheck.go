package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
)

// healthCommands is `cove healthcheck`.
func healthCommands() []entry {
	return []entry{group("healthcheck", "Manage health checks on containers", func() []entry {
		return []entry{{name: "run", short: "Run the health check of a container", build: healthRunCommand}}
	})}
}

func healthRunCommand(a *app) *cobra.Command {
	running := func(c engine.Container) bool { return c.Status == cove.Running }
	return &cobra.Command{
		Use: "run CONTAINER",
		Long: `Run the health check of a container now, whatever its interval

Exit codes:
  0    it is healthy
  1    it is not
  125  the container is missing, does not run or has no health check`,
		Example:           "  cove healthcheck run mywebapp",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeContainers(1, running),
		RunE:              func(c *cobra.Command, args []string) error { return a.checkHealth(c.Context(), args[0]) },
	}
}

func (a *app) checkHealth(ctx context.Context, name string) error {
	e, err := a.engine()
	if err != nil {
		return err
	}
	healthy, err := e.CheckHealth(ctx, name)
	if err != nil || healthy {
		return err
	}
	state := "unhealthy"
	if c, err := e.Container(ctx, name, false); err == nil && c.Spec.StartupHealth != nil && c.Run.Health != nil && c.Run.Health.Status == "starting" {
		state = "starting"
	}
	fmt.Fprintln(a.Out, state)
	return &exitError{code: 1}
}
