package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
)

type waitOptions struct {
	*app
	selection
	conditions []string
	interval   string
}

func waitCommand(a *app) *cobra.Command {
	o := &waitOptions{app: a}
	c := &cobra.Command{
		Use: "wait [options] CONTAINER [CONTAINER...]",
		Long: `Block until one or more containers stop and then print their exit codes.

Exit codes:
  125  a container is missing`,
		Example: `  cove wait --interval 5s ctrID
  cove wait ctrID1 ctrID2`,
		ValidArgsFunction: a.completeContainers(0, nil),
		RunE:              func(c *cobra.Command, args []string) error { return o.run(c.Context(), args) },
	}
	fs := c.Flags()
	o.selection.flags(fs, "l", "")
	fs.BoolVar(&o.ignore, "ignore", false, "Ignore if a container does not exist")
	sliceVar(fs, &o.conditions, "condition", "", "Condition to wait on")
	fs.StringVarP(&o.interval, "interval", "i", "250ms", "Time Interval to wait before polling for completion")
	refuse(fs, []unsupported{{name: "exit-first-match", bool: true, accept: []string{"false"}}, {name: "return-on-first", bool: true, accept: []string{"false"}}})
	return c
}

// waitConditions are what --condition takes.
func waitConditions() []string {
	return []string{"created", "exited", "healthy", "initialized", "paused", "removing", "running", "stopped", "stopping", "unhealthy"}
}

func (o *waitOptions) run(ctx context.Context, args []string) error {
	interval, err := time.ParseDuration(o.interval)
	if err != nil {
		ms, err2 := strconv.ParseUint(o.interval, 10, 32) // docker's and older podman's milliseconds
		if err2 != nil {
			return err
		}
		interval = time.Duration(ms) * time.Millisecond
	}
	for _, c := range o.conditions {
		if !contains(waitConditions(), c) {
			return fmt.Errorf("unknown container state: %s: invalid argument", c)
		}
	}
	e, ts, err := o.choose(ctx, o.app, args, nil)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range ts {
		code, err := e.Wait(ctx, t.name, engine.WaitOptions{Conditions: o.conditions, Interval: interval, Ignore: o.ignore})
		if err != nil && o.ignore && cove.Is(err, cove.NotFound) {
			code, err = -1, nil
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(o.Out, code)
	}
	return errors.Join(errs...)
}

func renameCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "rename CONTAINER NAME",
		Long: `The cove rename command allows you to rename an existing container.

Exit codes:
  125  the container is missing or the name is taken`,
		Example:           `  cove rename containerA newName`,
		ValidArgsFunction: a.completeContainers(1, nil),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("accepts 2 arg(s), received %d", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			name := strings.TrimPrefix(args[1], "/") // as docker writes it
			if !validName(name) {
				return errName
			}
			e, err := a.engine()
			if err != nil {
				return err
			}
			return e.Rename(c.Context(), args[0], name)
		},
	}
}

func containerExistsCommand(a *app) *cobra.Command {
	var external bool
	c := existsCommand(a, "container", func(ctx context.Context, e Engine, name string) error {
		_, err := e.Container(ctx, name, false)
		return err
	})
	c.Flags().BoolVar(&external, "external", false, "Check external storage containers as well as cove's")
	c.ValidArgsFunction = a.completeContainers(1, nil)
	return c
}
