// Package cli is cove's command line: flags to a request, a result to text,
// an error to an exit code. Each command is one file; the verbs themselves
// are the engine's, reached through the [Engine] interface.
//
// Commands are built on demand: a run of `cove ps` makes the ps command and
// nothing else; only help and completion list the rest, by name.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cove-engine/cove"
)

// Stdio is the world around a command: its streams, as file descriptors where
// they are files (a terminal is recognised on an *os.File only), and its
// environment.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
	// Env is the environment as KEY=value; nil takes the process's own.
	Env []string
}

// app is one run of the program.
type app struct {
	Stdio
	globals     Globals
	globalFlags *pflag.FlagSet // the global ones
	args        []string       // the whole command line, args[0] the program
	engine      func() (Engine, error)
	code        int // exit code of a command that ended without error
}

// Main runs the command line args, args[0] being the program's name, and
// gives the exit code. Engine is opened by open when a command first needs
// it, so that flag errors and help open nothing; what open gives is not
// closed here.
func Main(ctx context.Context, args []string, std Stdio, open func(Globals) (Engine, error)) int {
	if std.Env == nil {
		std.Env = os.Environ()
	}
	a := &app{Stdio: std, args: args}
	a.engine = sync.OnceValues(func() (Engine, error) {
		// Global flags may stand behind the command too.
		if err := a.globals.check(a.globalFlags); err != nil {
			return nil, err
		}
		return open(a.globals)
	})
	err := a.execute(ctx, args)
	if err != nil {
		a.printError(ctx, err)
		return exitCode(err)
	}
	return a.code
}

// execute finds the command's words behind the global flags, builds that one
// command and runs it.
func (a *app) execute(ctx context.Context, args []string) error {
	root := a.root( // only before the command: many have such letters of their own
		unsupported{name: "connection", short: "c"}, unsupported{name: "host", short: "H"},
		unsupported{name: "remote", short: "r", bool: true, accept: []string{"false"}})
	var rest []string
	if len(args) > 1 {
		rest = args[1:]
	}
	fs := root.PersistentFlags()
	fs.SetInterspersed(false)
	help := fs.BoolP("help", "h", false, "Help for cove")
	version := fs.BoolP("version", "v", false, "version for cove")
	if err := fs.Parse(rest); err != nil {
		return flagError(root, err)
	}
	words := fs.Args()
	if *version {
		fmt.Fprintf(a.Out, "cove version %s\n", cove.Version)
		return nil
	}
	if err := a.globals.check(fs); err != nil {
		return err
	}
	if len(words) > 0 && words[0] == "help" {
		words = append(append([]string{}, words[1:]...), "--help")
	} else if *help {
		words = append(words, "--help")
	}
	return a.run(ctx, words)
}

// run builds the command that words name, in a fresh tree without the root's
// own short flags, and runs it.
func (a *app) run(ctx context.Context, words []string) error {
	root := a.root()
	if len(words) == 0 || words[0] == "--help" {
		a.fill(root, commandTree(), nil, true)
		root.SetArgs([]string{"--help"})
		if len(words) == 0 {
			root.SetOut(a.Out)
			_ = root.Help()
			return coded(exitEngine, errors.New("missing command 'cove COMMAND'"))
		}
		return root.ExecuteContext(ctx)
	}
	completing := words[0] == cobra.ShellCompRequestCmd || words[0] == cobra.ShellCompNoDescRequestCmd
	path := words
	if completing {
		path = words[1:]
	}
	if err := a.fill(root, commandTree(), path, completing || words[len(words)-1] == "--help"); err != nil && !completing {
		return err
	}
	if completing {
		a.completeFlags(root)
		root.TraverseChildren = false
	}
	root.SetArgs(words)
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	return root.ExecuteContext(ctx)
}

// printError writes err as podman does, one line per joined error. Whoever has
// called the command off need not be told.
func (a *app) printError(ctx context.Context, err error) {
	if e, ok := errors.AsType[*exitError](err); ok && e.err == nil {
		return
	}
	for _, e := range flatten(err) {
		if ctx.Err() != nil && errors.Is(e, context.Canceled) {
			continue
		}
		fmt.Fprintf(a.Err, "Error: %s\n", visible(strings.TrimRight(e.Error(), "\n")))
	}
}

// flatten takes a tree of joined errors apart.
func flatten(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range j.Unwrap() {
			out = append(out, flatten(e)...)
		}
		return out
	}
	if e, ok := err.(*exitError); ok {
		return flatten(e.err)
	}
	return []error{err}
}
