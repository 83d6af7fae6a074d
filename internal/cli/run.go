package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
	"github.com/cove-engine/cove/internal/image"
)

// runOptions are run's and, without a start, create's.
type runOptions struct {
	*app
	containerFlags
	fs *pflag.FlagSet
}

func runCommand(a *app) *cobra.Command {
	o := &runOptions{app: a}
	c := &cobra.Command{
		Use: "run [options] IMAGE [COMMAND [ARG...]]",
		Long: `Runs a command in a new container from the given image

Exit codes:
  125  the error is cove's own
  126  the container cannot be started or its command not be executed
  127  the contained command cannot be found
  any other code is the contained command's`,
		Example: `  cove run imageID ls -alF /etc
  cove run --network=host imageID dnf -y install java
  cove run --volume /var/hostdir:/var/ctrdir -i -t fedora /bin/bash`,
		Args:              needImage,
		RunE:              func(c *cobra.Command, args []string) error { return o.run(c.Context(), args) },
		ValidArgsFunction: a.completeImages,
	}
	o.fs = c.Flags()
	o.flags(o.fs, true)
	return c
}

// needImage asks for the image and perhaps a command.
func needImage(c *cobra.Command, args []string) error {
	if len(args) < 1 {
		return fmt.Errorf("%q requires at least 1 argument: the image\nSee '%s --help'", c.CommandPath(), c.CommandPath())
	}
	return nil
}

// createOptions are the part that run and create share.
func (o *runOptions) createOptions() (engine.CreateOptions, error) {
	if err := checkAuthFile(o.authFile); err != nil {
		return engine.CreateOptions{}, err
	}
	retries, delay, err := o.retry.value(o.fs)
	return engine.CreateOptions{
		Retries:     retries,
		RetryDelay:  delay,
		Replace:     o.replace,
		CommandLine: o.args,
		Quiet:       o.quiet,
		Progress:    o.Err,
		AuthFile:    o.authFile,
		TLSVerify:   changed(o.fs, "tls-verify", o.tlsVerify),
	}, err
}

// passthrough tells whether a container gets the caller's own streams.
func passthrough(s *cove.ContainerSpec, d engine.Defaults) bool {
	return strings.HasPrefix(cmp.Or(s.LogDriver, d.LogDriver), "passthrough")
}

func (o *runOptions) run(ctx context.Context, args []string) error {
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
	passthrough := passthrough(&spec, defaults)
	if passthrough && len(o.attach) > 0 {
		return errors.New("cannot specify --attach with --log-driver=passthrough: invalid argument")
	}
	sockets, listen := in.activation()
	if o.preserve.count > 0 || len(o.preserve.list) > 0 {
		if listen != nil {
			o.warn("Ignoring LISTEN_FDS to preserve custom user-specified FDs")
		}
		sockets, listen = o.preserve, nil
	}
	keep, err := sockets.value()
	if err != nil {
		return err
	}
	ro := engine.RunOptions{CreateOptions: co, Detach: o.detach, Keep: keep, Listen: listen}
	if !o.detach {
		o.warnTTY(spec.Terminal, spec.Stdin)
		stdin := spec.Stdin || contains(o.attach, "stdin")
		ro.Attach = engine.AttachOptions{
			Streams:    o.streams(spec.Terminal, stdin, o.attach),
			DetachKeys: string(o.detachKeys),
			// With a terminal its keys make the signals.
			SigProxy: o.sigProxy && !spec.Terminal,
			NoStdin:  !stdin,
		}
	}
	if o.rmi { // it needs the full program, which begins anew
		if err := e.NeedImages(); err != nil {
			return err
		}
	}
	r, err := e.Run(ctx, spec, ro)
	for _, w := range r.Warnings {
		o.warn(w)
	}
	if o.rmi && !r.Detached {
		o.removeImage(ctx, e, spec.Image)
	}
	if err != nil && (r.StartFailed || r.OutputLost) && !cove.Is(err, cove.NoCommand) {
		return coded(exitNotExecutable, err)
	}
	if err != nil {
		return err
	}
	switch {
	case o.detach && passthrough: // the output is the container's
	case o.detach:
		fmt.Fprintln(o.Out, r.ID)
	case !r.Detached:
		o.code = r.ExitCode
	}
	return nil
}

// removeImage removes the image of a container that has ended, unless others
// use it.
func (o *runOptions) removeImage(ctx context.Context, e Engine, name string) {
	_, err := e.RemoveImages(ctx, []string{name}, image.RemoveOptions{Ignore: true})
	if err != nil {
		o.warn(err.Error())
	}
}
