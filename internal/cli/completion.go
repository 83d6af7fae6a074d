package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cove-engine/cove/internal/engine"
)

func completionCommand(a *app) *cobra.Command {
	var file string
	var noDescriptions bool
	c := &cobra.Command{
		Use: "completion [options] {bash|zsh|fish}",
		Long: `Generates the completion script of a shell.

Exit codes:
  125  the shell is unknown or the file could not be written`,
		Example: `  cove completion bash > /etc/bash_completion.d/cove
  cove completion zsh -f _cove`,
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] != "bash" && args[0] != "zsh" && args[0] != "fish" {
				return fmt.Errorf("name one shell: bash, zsh or fish")
			}
			return nil
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "Output the completion to file rather than stdout")
	c.Flags().BoolVar(&noDescriptions, "no-desc", false, "Don't include descriptions in the completion output")
	c.RunE = func(c *cobra.Command, args []string) error {
		var b strings.Builder
		var err error
		switch root := c.Root(); args[0] {
		case "bash":
			err = root.GenBashCompletionV2(&b, !noDescriptions)
		case "zsh":
			if noDescriptions {
				err = root.GenZshCompletionNoDesc(&b)
			} else {
				err = root.GenZshCompletion(&b)
			}
		case "fish":
			err = root.GenFishCompletion(&b, !noDescriptions)
		}
		if err != nil {
			return err
		}
		if file != "" {
			return os.WriteFile(file, []byte(b.String()), 0o644)
		}
		_, err = fmt.Fprint(a.Out, b.String())
		return err
	}
	return c
}

// completer completes the arguments of a command.
type completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// completeContainers completes container names, and IDs once some of one is
// typed, of those that suit; nil takes all. At most n arguments are
// completed; 0 is no limit.
func (a *app) completeContainers(n int, suits func(engine.Container) bool) completer {
	return func(c *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
		const no = cobra.ShellCompDirectiveNoFileComp
		if n > 0 && len(args) >= n {
			return nil, cobra.ShellCompDirectiveDefault
		}
		e, err := a.engine()
		if err != nil {
			return nil, no
		}
		list, err := e.List(c.Context(), engine.ListOptions{All: true})
		if err != nil {
			return nil, no
		}
		var out []string
		for _, ctr := range list {
			if suits != nil && !suits(ctr) || contains(args, ctr.Name) {
				continue
			}
			if strings.HasPrefix(ctr.Name, begin) {
				out = append(out, ctr.Name+"\t"+ctr.Image.Name)
			}
			if begin != "" && strings.HasPrefix(ctr.ID, begin) {
				out = append(out, shortID(ctr.ID, false)+"\t"+ctr.Image.Name)
			}
		}
		return out, no
	}
}

// completeImages completes the image of run and create; what follows it is the
// container's own.
func (a *app) completeImages(c *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.completeLocalImages(1)(c, args, begin)
}

// flagValues are the values of flags that have a fixed set of them.
func flagValues() map[string][]string {
	namespaces := func(more ...string) []string {
		return append([]string{"container:", "host", "ns:", "private"}, more...)
	}
	return map[string][]string{
		"cgroup-manager": {"cgroupfs", "systemd"},
		"cgroupns":       namespaces(),
		"cgroups":        {"disabled", "enabled", "no-conmon", "split"},
		"condition":      waitConditions(),
		"db-backend":     {"boltdb", "sqlite"},
		"events-backend": {"file", "none"},
		"format":         {"json"},
		"ipc":            namespaces("none", "shareable"),
		"log-driver":     {"journald", "json-file", "k8s-file", "none", "passthrough", "passthrough-tty"},
		"log-level":      {"debug", "error", "fatal", "info", "panic", "trace", "warn"},
		"pid":            namespaces(),
		"pull":           {"always", "missing", "never", "newer"},
		"restart":        {"always", "no", "on-failure", "unless-stopped"},
		"type":           {"all", "container", "image", "network", "volume"},
		"uts":            namespaces(),
	}
}

// completeFlags completes the values of the flags of c and of what is below it.
func (a *app) completeFlags(c *cobra.Command) {
	for _, sub := range c.Commands() {
		a.completeFlags(sub)
	}
	register := func(name string, f completer) {
		if flag := c.Flags().Lookup(name); flag != nil && flag.NoOptDefVal == "" {
			_ = c.RegisterFlagCompletionFunc(name, f) // it has none so far
		}
	}
	for name, values := range flagValues() {
		register(name, fixed(values))
	}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if v, ok := f.Value.(*choice); ok {
			register(f.Name, fixed(v.choices))
		}
	})
	register("network", a.completeNetworks)
}

// completeNetworks completes --network: the networks that there are, and the
// other modes.
func (a *app) completeNetworks(c *cobra.Command, _ []string, begin string) ([]string, cobra.ShellCompDirective) {
	names := []string{"bridge", "container:", "host", "none", "ns:", "pasta", "slirp4netns"}
	if e, err := a.engine(); err == nil {
		list, _ := e.Networks(c.Context(), nil)
		for _, n := range list {
			names = append(names, n.Name)
		}
	}
	return fixed(names)(c, nil, begin)
}

// fixed completes one of values.
func fixed(values []string) completer {
	return func(_ *cobra.Command, _ []string, begin string) ([]string, cobra.ShellCompDirective) {
		fit := slices.DeleteFunc(slices.Clone(values), func(v string) bool { return !strings.HasPrefix(v, begin) })
		return fit, cobra.ShellCompDirectiveNoFileComp
	}
}
