package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
)

type startOptions struct {
	*app
	selection
	attach, interactive, sigProxy bool
	detachKeys                    keySequence
	set                           func(flag string) bool // was given
}

func startCommand(a *app) *cobra.Command {
	o := &startOptions{app: a}
	c := &cobra.Command{
		Use: "start [options] CONTAINER [CONTAINER...]",
		Long: `Starts one or more containers.  The container name or ID can be used.

Exit codes:
  125  a container could not be started
  126, 127  its command cannot be executed, cannot be found
  with --attach, any other code is the container's`,
		Example: `  cove start --latest
  cove start 860a4b231279 5421ab43b45
  cove start --interactive --attach imageID`,
		ValidArgsFunction: a.completeContainers(0, func(c engine.Container) bool { return !running(c) }),
		RunE:              func(c *cobra.Command, args []string) error { return o.run(c.Context(), args) },
	}
	o.flags(c.Flags())
	return c
}

func (o *startOptions) flags(fs *pflag.FlagSet) {
	o.set = fs.Changed
	o.selection.flags(fs, "Alf", "Start")
	refuse(fs, []unsupported{{name: "checkpoint"}, {name: "checkpoint-dir"}}) // docker's; podman and cove have restore
	fs.BoolVarP(&o.attach, "attach", "a", false, "Attach container's STDOUT and STDERR")
	fs.Var(&o.detachKeys, "detach-keys", "Override the key sequence for detaching a container")
	fs.BoolVarP(&o.interactive, "interactive", "i", false, "Make STDIN available to the contained process")
	fs.BoolVar(&o.sigProxy, "sig-proxy", true, "Proxy received signals to the process (default true if attaching, false otherwise)")
}

func (o *startOptions) run(ctx context.Context, args []string) error {
	if len(args) == 0 && !o.latest && !o.all && len(o.filters) == 0 {
		return errors.New("start requires at least one argument")
	}
	attached := o.attach || o.interactive
	if attached && (len(args) > 1 || o.all) {
		return errors.New("you cannot start and attach multiple containers at once")
	}
	if o.set("sig-proxy") && o.sigProxy && !o.attach {
		return errors.New("you cannot use sig-proxy without --attach")
	}
	filters, err := splitFilters(o.filters)
	if err != nil {
		return err
	}
	_, byPolicy := filters["restart-policy"]
	e, ts, err := o.choose(ctx, o.app, args, func(c engine.Container) bool {
		// Whoever asks by policy wants what should run.
		return !running(c) && !(byPolicy && c.Spec.Restart.Name == "unless-stopped" && c.Desired == cove.DesireStop)
	})
	if err != nil {
		return err
	}
	if !attached {
		return o.each(ctx, ts, false, func(t target) error {
			r, err := e.Start(ctx, t.name, engine.StartOptions{})
			for _, w := range r.Warnings {
				o.warn(w)
			}
			return coded(exitEngine, err)
		})
	}
	if len(ts) == 0 {
		return nil
	}
	c, err := e.Container(ctx, ts[0].name, false)
	if err != nil {
		return err
	}
	at := engine.AttachOptions{
		Streams:    o.streams(c.Spec.Terminal, o.interactive && c.Spec.Stdin, nil),
		DetachKeys: string(o.detachKeys),
		SigProxy:   o.sigProxy && !c.Spec.Terminal,
		NoStdin:    !o.interactive,
	}
	if !o.attach { // -i alone attaches stdin only
		at.Streams.Out, at.Streams.Err = nil, nil
	}
	o.warnTTY(c.Spec.Terminal, o.interactive)
	if running(c) {
		return o.ended(e.Attach(ctx, ts[0].name, at))
	}
	r, err := e.Start(ctx, ts[0].name, engine.StartOptions{Attach: &at})
	return o.ended(r, coded(exitEngine, err)) // whatever the command lacks; run tells that
}

// ended takes the exit code of an attached container as cove's own.
func (a *app) ended(r engine.RunResult, err error) error {
	for _, w := range r.Warnings {
		a.warn(w)
	}
	if err != nil {
		return err
	}
	if !r.Detached {
		a.code = r.ExitCode
	}
	return nil
}

type attachOptions struct {
	*app
	selection
	noStdin, sigProxy bool
	detachKeys        keySequence
}

func attachCommand(a *app) *cobra.Command {
	o := &attachOptions{app: a}
	c := &cobra.Command{
		Use: "attach [options] CONTAINER",
		Long: `The cove attach command allows you to attach to a running container using the container's ID or name, either to view its ongoing output or to control it interactively.

Exit codes:
  125  the container is missing or does not run
  any other code is the container's`,
		Example: `  cove attach ctrID
  cove attach --no-stdin ctrID`,
		ValidArgsFunction: a.completeContainers(1, running),
		RunE:              func(c *cobra.Command, args []string) error { return o.run(c.Context(), args) },
	}
	fs := c.Flags()
	o.selection.flags(fs, "l", "")
	fs.Var(&o.detachKeys, "detach-keys", "Select the key sequence for detaching a container")
	fs.BoolVar(&o.noStdin, "no-stdin", false, "Do not attach STDIN. The default is false")
	fs.BoolVar(&o.sigProxy, "sig-proxy", true, "Proxy received signals to the process")
	return c
}

func (o *attachOptions) run(ctx context.Context, args []string) error {
	if len(args) > 1 || len(args) == 0 && !o.latest {
		return errors.New("attach requires the name or id of one running container or the latest flag")
	}
	e, ts, err := o.choose(ctx, o.app, args, nil)
	if err != nil {
		return err
	}
	c, err := e.Container(ctx, ts[0].name, false)
	if err != nil {
		return err
	}
	if !running(c) {
		return fmt.Errorf("you can only attach to running containers")
	}
	return o.ended(e.Attach(ctx, c.ID, engine.AttachOptions{
		Streams:    o.streams(c.Spec.Terminal, !o.noStdin && c.Spec.Stdin, nil),
		DetachKeys: string(o.detachKeys),
		SigProxy:   o.sigProxy && !c.Spec.Terminal,
		NoStdin:    o.noStdin,
	}))
}
