package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// entry is one command's place in the tree: enough to list it, and how to
// build it when it is asked for.
type entry struct {
	name    string
	aliases []string
	short   string
	// build makes the command with its flags; cobra's Use, Aliases and
	// Short are set by the tree when they are empty.
	build func(*app) *cobra.Command
	// children makes a group; it has no build.
	children func() []entry
	hidden   bool
}

// group is an entry that holds others.
func group(name, short string, children func() []entry, aliases ...string) entry {
	return entry{name: name, aliases: aliases, short: short, children: children}
}

// commandTree lists every command. Nothing is built here.
func commandTree() []entry {
	return slices.Concat(
		topContainerCommands(),
		[]entry{group("container", "Manage containers", containerCommands)},
		healthCommands(),
		imageCommands(),
		volumeCommands(),
		networkCommands(),
		registryCommands(),
		systemCommands(),
		[]entry{
			{name: "inspect", short: "Display the configuration of object denoted by ID", build: inspectCommand},
			{name: "completion", short: "Generate the completion script of a shell", build: completionCommand},
		},
		// Groups that cove lacks whole, docker's among them.
		notYet("artifact", "auto-update", "checkpoint", "compose", "config", "context", "farm", "generate", "kube", "machine",
			"node", "play", "plugin", "pod", "quadlet", "secret", "service", "stack", "swarm"),
	)
}

func (e entry) is(word string) bool {
	return e.name == word || slices.Contains(e.aliases, word)
}

// fill adds to parent the entry that words begin with, built, and with list
// all others as bare names.
func (a *app) fill(parent *cobra.Command, entries []entry, words []string, list bool) error {
	word, at := firstWord(parent, words)
	found := false
	for _, e := range entries {
		switch {
		case word != "" && e.is(word):
			found = true
			c, err := a.build(e, parent, words[at+1:], list)
			parent.AddCommand(c)
			if err != nil {
				return err
			}
		case list:
			parent.AddCommand(e.placeholder())
		}
	}
	if !found && word != "" {
		return unrecognized(parent, entries, word)
	}
	return nil
}

// build makes e's command and, for a group, what is below it.
func (a *app) build(e entry, parent *cobra.Command, words []string, list bool) (*cobra.Command, error) {
	if e.children == nil {
		c := e.build(a)
		e.describe(c)
		finish(c)
		return c, nil
	}
	c := &cobra.Command{}
	e.describe(c)
	finish(c)
	parent.AddCommand(c)
	defer parent.RemoveCommand(c) // the caller adds it
	word, _ := firstWord(c, words)
	if word == "" {
		list = true
		c.RunE = func(c *cobra.Command, _ []string) error {
			_ = c.Help()
			return coded(exitEngine, fmt.Errorf("missing command '%s COMMAND'", c.CommandPath()))
		}
	}
	return c, a.fill(c, e.children(), words, list)
}

func (e entry) describe(c *cobra.Command) {
	if c.Use == "" {
		c.Use = e.name
	} else if f := strings.Fields(c.Use); f[0] != e.name {
		c.Use = strings.Join(append([]string{e.name}, f[1:]...), " ")
	}
	c.Aliases = e.aliases
	if c.Short == "" {
		c.Short = e.short
	}
	c.Hidden = e.hidden
}

// placeholder is e as lists and completion need it.
func (e entry) placeholder() *cobra.Command {
	return &cobra.Command{Use: e.name, Aliases: e.aliases, Short: e.short, Hidden: e.hidden,
		Run: func(*cobra.Command, []string) {}}
}

// firstWord is the first of words that is not a flag. A flag with a separate
// value is stepped over when it is one of the global ones.
func firstWord(c *cobra.Command, words []string) (string, int) {
	for i := 0; i < len(words); i++ {
		w := words[i]
		if w == "--" || w == "" {
			return "", i
		}
		if !strings.HasPrefix(w, "-") {
			return w, i
		}
		name := strings.TrimLeft(w, "-")
		if strings.Contains(name, "=") {
			continue
		}
		if f := c.Root().PersistentFlags().Lookup(name); f != nil && f.NoOptDefVal == "" {
			i++
		}
	}
	return "", len(words)
}

// root is cove without commands; letters are global flags that it refuses by their letters, too.
func (a *app) root(letters ...unsupported) *cobra.Command {
	c := &cobra.Command{
		Use:               "cove [options]",
		Short:             "Manage containers, images, volumes and networks",
		Long:              "Manage containers, images, volumes and networks, without a daemon",
		SilenceErrors:     true,
		SilenceUsage:      true,
		TraverseChildren:  true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	c.SetHelpCommand(&cobra.Command{Use: "no-help", Hidden: true})
	c.SetUsageFunc(writeUsage)
	c.SetHelpTemplate(helpTemplate)
	c.SetFlagErrorFunc(flagError)
	c.SetIn(a.In)
	c.SetOut(a.Out)
	c.SetErr(a.Err)
	a.globalFlags = c.PersistentFlags()
	refuse(a.globalFlags, letters)
	a.globals.flags(a.globalFlags)
	return c
}

// finish gives c what all commands share: its own --help without the -h
// that some need for --hostname, and the usage line as podman has it.
func finish(c *cobra.Command) {
	c.DisableFlagsInUseLine = true
	if c.Flags().Lookup("help") == nil {
		if c.Flags().ShorthandLookup("h") == nil {
			c.Flags().BoolP("help", "h", false, "Show this help")
			c.Flags().ShorthandLookup("h").Hidden = true
		} else {
			c.Flags().Bool("help", false, "Show this help")
		}
	}
}

// flagError adds where to find help to a flag's error.
func flagError(c *cobra.Command, err error) error {
	if r, ok := errors.AsType[*refusedError](err); ok {
		return r
	}
	return fmt.Errorf("%w\nSee '%s --help'", err, c.CommandPath())
}

// unrecognized is the error for a word that names no command, with those
// that come near it.
func unrecognized(parent *cobra.Command, entries []entry, word string) error {
	for _, e := range entries {
		parent.AddCommand(e.placeholder())
	}
	parent.SuggestionsMinimumDistance = 2
	msg := fmt.Sprintf("unrecognized command `%s %s`", parent.CommandPath(), word)
	if near := parent.SuggestionsFor(word); len(near) > 0 {
		return fmt.Errorf("%s\n\nDid you mean this?\n\t%s", msg, strings.Join(near, "\n\t"))
	}
	return fmt.Errorf("%s\nTry '%s --help' for more information", msg, parent.CommandPath())
}

// usage is an error of the command line's form.
func usagef(format string, args ...any) error { return fmt.Errorf(format, args...) }

// changed gives the address of v when the flag was set on the command line,
// nil otherwise.
func changed[T any](fs *pflag.FlagSet, name string, v T) *T {
	if !fs.Changed(name) {
		return nil
	}
	return &v
}

const helpTemplate = `{{.Short}}

Description:
  {{with (or .Long .Short)}}{{. | trimTrailingWhitespaces}}{{end}}

{{if or .Runnable .HasSubCommands}}{{.UsageString}}{{end}}`
