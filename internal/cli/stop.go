package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
)

// grace is --time: seconds until SIGKILL, -1 for ever.
type grace struct {
	seconds int
	set     func(string) bool
}

func (g *grace) flags(fs *pflag.FlagSet) {
	g.set = fs.Changed
	fs.IntVarP(&g.seconds, "time", "t", 10, "Seconds to wait for stop before killing the container (-1: for ever)")
	fs.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "timeout" {
			name = "time"
		}
		return pflag.NormalizedName(name)
	})
}

// timeout is nil when --time was not given.
func (g *grace) timeout() *uint {
	if !g.set("time") {
		return nil
	}
	u := uint(math.MaxUint32)
	if g.seconds >= 0 {
		u = uint(g.seconds)
	}
	return &u
}

type stopOptions struct {
	*app
	selection
	grace
	signal  string
	running bool
}

func stopCommand(a *app) *cobra.Command {
	o := &stopOptions{app: a}
	c := &cobra.Command{
		Use: "stop [options] CONTAINER [CONTAINER...]",
		Long: `Stops one or more running containers.  The container name or ID can be used.

  A timeout to forcibly stop the container can also be set but defaults to 10 seconds otherwise.

Exit codes:
  125  a container is missing or could not be stopped`,
		Example: `  cove stop ctrID
  cove stop --latest
  cove stop --time 2 mywebserver 6e534f14da9d`,
		ValidArgsFunction: a.completeContainers(0, running),
		RunE:              func(c *cobra.Command, args []string) error { return o.stop(c.Context(), args) },
	}
	fs := c.Flags()
	o.selection.flags(fs, "alfci", "Stop")
	o.grace.flags(fs)
	fs.StringVarP(&o.signal, "signal", "s", "", "Signal to stop the container with, instead of its own")
	return c
}

func (o *stopOptions) stop(ctx context.Context, args []string) error {
	// Those, too, that have ended: podman names them all.
	e, ts, err := o.choose(ctx, o.app, args, nil)
	if err != nil {
		return err
	}
	return o.eachTogether(ctx, ts, o.ignore, func(t target) error {
		return e.Stop(ctx, t.name, engine.StopOptions{Timeout: o.timeout(), Signal: o.signal, Warn: o.warn})
	})
}

func restartCommand(a *app) *cobra.Command {
	o := &stopOptions{app: a}
	c := &cobra.Command{
		Use: "restart [options] CONTAINER [CONTAINER...]",
		Long: `Restarts one or more running containers. The container ID or name can be used.

  A timeout before forcibly stopping can be set, but defaults to 10 seconds.

Exit codes:
  125  a container is missing or could not be restarted`,
		Example: `  cove restart ctrID
  cove restart --latest
  cove restart ctrID1 ctrID2`,
		ValidArgsFunction: a.completeContainers(0, nil),
		RunE: func(c *cobra.Command, args []string) error {
			if o.running && !o.all {
				if len(args) > 0 {
					return errors.New("--running and containers cannot be used together")
				}
				o.all = true
			}
			ctx := c.Context()
			suits := running
			if !o.running {
				suits = nil
			}
			e, ts, err := o.choose(ctx, o.app, args, suits)
			if err != nil {
				return err
			}
			return o.each(ctx, ts, false, func(t target) error {
				return e.Restart(ctx, t.name, engine.StopOptions{Timeout: o.timeout(), Signal: o.signal, Warn: o.warn})
			})
		},
	}
	fs := c.Flags()
	o.selection.flags(fs, "alfc", "Restart")
	o.grace.flags(fs)
	fs.BoolVar(&o.running, "running", false, "Restart only running containers")
	fs.StringVarP(&o.signal, "signal", "s", "", "Signal to stop the container with, instead of its own")
	return c
}

type killOptions struct {
	*app
	selection
	signal string
}

func killCommand(a *app) *cobra.Command {
	o := &killOptions{app: a}
	c := &cobra.Command{
		Use: "kill [options] CONTAINER [CONTAINER...]",
		Long: `The main process inside each container specified will be sent SIGKILL, or any signal specified with option --signal.

Exit codes:
  125  a container is missing, does not run or could not be signalled`,
		Example: `  cove kill mywebserver
  cove kill 860a4b23
  cove kill --signal TERM ctrID`,
		ValidArgsFunction: a.completeContainers(0, running),
		RunE: func(c *cobra.Command, args []string) error {
			ctx := c.Context()
			if err := checkSignal(o.signal); err != nil {
				return err
			}
			e, ts, err := o.choose(ctx, o.app, args, running)
			if err != nil {
				return err
			}
			return o.each(ctx, ts, false, func(t target) error { return e.Kill(ctx, t.name, o.signal) })
		},
	}
	fs := c.Flags()
	o.selection.flags(fs, "alc", "Signal")
	fs.StringVarP(&o.signal, "signal", "s", "KILL", "Signal to send to the container")
	return c
}

// checkSignal refuses what cannot be a signal; names are the engine's to
// know.
func checkSignal(s string) error {
	if n, err := strconv.Atoi(s); err == nil && (n < 1 || n > 64) || s == "" {
		return errors.New(`valid signals are 1 through 64`)
	}
	return nil
}

type pauseOptions struct {
	*app
	selection
}

func pauseCommand(a *app) *cobra.Command {
	return pauseLike(a, "pause", "Pauses one or more running containers.  The container name or ID can be used.",
		func(c engine.Container) bool { return c.Status == cove.Running },
		func(ctx context.Context, e Engine, name string) error { return e.Pause(ctx, name) })
}

func unpauseCommand(a *app) *cobra.Command {
	return pauseLike(a, "unpause", "Unpauses one or more previously paused containers.  The container name or ID can be used.",
		func(c engine.Container) bool { return c.Status == cove.Paused },
		func(ctx context.Context, e Engine, name string) error { return e.Unpause(ctx, name) })
}

// pauseLike is pause or unpause.
func pauseLike(a *app, name, long string, suits func(engine.Container) bool, verb func(context.Context, Engine, string) error) *cobra.Command {
	o := &pauseOptions{app: a}
	c := &cobra.Command{
		Use:               name + " [options] CONTAINER [CONTAINER...]",
		Long:              long + "\n\nExit codes:\n  125  a container is missing, or its status does not allow it",
		Example:           fmt.Sprintf("  cove %[1]s mywebserver\n  cove %[1]s --all", name),
		ValidArgsFunction: a.completeContainers(0, suits),
		RunE: func(c *cobra.Command, args []string) error {
			e, ts, err := o.choose(c.Context(), o.app, args, suits)
			if err != nil {
				return err
			}
			return o.each(c.Context(), ts, false, func(t target) error { return verb(c.Context(), e, t.name) })
		},
	}
	o.selection.flags(c.Flags(), "alfc", title(name))
	return c
}
