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

// exitExecStatus is exec's code for a container that does not run.
const exitExecStatus = 255

type execOptions struct {
	*app
	selection
	spec          engine.ExecSpec
	env, envFiles []string
	detachKeys    keySequence
	preserve      preserveFlags
}

func execCommand(a *app) *cobra.Command {
	o := &execOptions{app: a}
	c := &cobra.Command{
		Use: "exec [options] CONTAINER COMMAND [ARG...]",
		Long: `Execute the specified command inside a running container.

Exit codes:
  125  the error is cove's own
  126  the command cannot be executed
  127  the command cannot be found
  255  the container does not run
  any other code is the command's`,
		Example: `  cove exec -it ctrID ls
  cove exec -it -w /tmp myCtr pwd
  cove exec --user root ctrID ls`,
		ValidArgsFunction: a.completeContainers(1, running),
		RunE:              func(c *cobra.Command, args []string) error { return o.run(c.Context(), args) },
	}
	o.flags(c.Flags())
	return c
}

func (o *execOptions) flags(fs *pflag.FlagSet) {
	fs.SetInterspersed(false)
	o.selection.flags(fs, "lc", "")
	fs.BoolVarP(&o.spec.Detach, "detach", "d", false, "Run the exec session in detached mode (backgrounded)")
	fs.Var(&o.detachKeys, "detach-keys", "Select the key sequence for detaching a container")
	arrayVar(fs, &o.env, "env", "e", "Set environment variables")
	arrayVar(fs, &o.envFiles, "env-file", "", "Read in a file of environment variables")
	fs.BoolVarP(&o.spec.Stdin, "interactive", "i", false, "Make STDIN available to the contained process")
	o.preserve.flags(fs)
	fs.BoolVar(&o.spec.Privileged, "privileged", false, "Give the process extended Linux capabilities inside the container.  The default is false")
	fs.BoolVarP(&o.spec.Terminal, "tty", "t", false, "Allocate a pseudo-TTY. The default is false")
	fs.StringVarP(&o.spec.User, "user", "u", "", "Sets the username or UID used and optionally the groupname or GID for the specified command")
	fs.StringVarP(&o.spec.WorkDir, "workdir", "w", "", "Working directory inside the container")
	refuse(fs, []unsupported{{name: "wait"}, {name: "no-session", bool: true, accept: []string{"false"}}})
}

func (o *execOptions) run(ctx context.Context, args []string) error {
	var names []string
	if !o.latest && len(o.cidfiles) == 0 {
		if len(args) < 1 {
			return errors.New("exec requires the name or ID of a container or the --latest or --cidfile flag")
		}
		names, args = args[:1], args[1:]
	}
	if len(args) < 1 {
		return errors.New("must provide a non-empty command to start an exec session: invalid argument")
	}
	var err error
	if o.spec.Env, err = o.outside().environment(o.envFiles, o.env); err != nil {
		return err
	}
	if o.spec.Keep, err = o.preserve.value(); err != nil {
		return err
	}
	o.spec.Command = args
	e, ts, err := o.choose(ctx, o.app, names, nil)
	if err != nil {
		return err
	}
	at := engine.AttachOptions{DetachKeys: string(o.detachKeys), NoStdin: !o.spec.Stdin}
	if !o.spec.Detach {
		at.Streams = o.streams(o.spec.Terminal, o.spec.Stdin, nil)
		at.SigProxy = !o.spec.Terminal
	}
	r, err := e.Exec(ctx, ts[0].name, o.spec, at)
	switch {
	case err == nil:
	case o.spec.Detach: // whatever the reason
		return coded(exitEngine, err)
	case cove.Is(err, cove.WrongStatus), r.OutputLost:
		return coded(exitExecStatus, err)
	case r.StartFailed && cove.Is(err, cove.NoFile):
		return coded(exitNoCommand, err)
	case r.StartFailed && !cove.Is(err, cove.NoCommand) && !cove.Is(err, cove.NotExecutable):
		return coded(exitExecStatus, err)
	default:
		return err
	}
	if o.spec.Detach {
		fmt.Fprintln(o.Out, r.ID)
	}
	if !r.Detached {
		o.code = r.ExitCode
	}
	return nil
}
