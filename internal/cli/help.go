package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// writeUsage prints how c is called, in podman's layout.
func writeUsage(c *cobra.Command) error {
	var b strings.Builder
	b.WriteString("Usage:\n")
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s [command]\n", c.CommandPath())
	} else {
		fmt.Fprintf(&b, "  %s\n", c.UseLine())
	}
	if len(c.Aliases) > 0 {
		fmt.Fprintf(&b, "\nAliases:\n  %s\n", c.NameAndAliases())
	}
	if c.HasExample() {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", c.Example)
	}
	if c.HasAvailableSubCommands() {
		b.WriteString("\nAvailable Commands:\n")
		for _, s := range c.Commands() {
			if s.IsAvailableCommand() {
				fmt.Fprintf(&b, "  %-*s %s\n", s.NamePadding(), s.Name(), s.Short)
			}
		}
	}
	if c.HasAvailableLocalFlags() {
		b.WriteString("\nOptions:\n")
		writeFlags(&b, c.LocalFlags())
	}
	_, err := fmt.Fprintln(c.OutOrStdout(), strings.TrimRight(b.String(), "\n"))
	return err
}

// writeFlags lists the flags, as pflag does but for "[=true|false]" behind
// every boolean.
func writeFlags(b *strings.Builder, fs *pflag.FlagSet) {
	type line struct{ left, right string }
	var lines []line
	width := 0
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" {
			return
		}
		l := line{left: "      --" + f.Name}
		if f.Shorthand != "" {
			l.left = fmt.Sprintf("  -%s, --%s", f.Shorthand, f.Name)
		}
		var name string
		if name, l.right = pflag.UnquoteUsage(f); name != "" && f.Value.Type() != "bool" {
			l.left += " " + name
		}
		switch d := f.DefValue; {
		case d == "" || d == "0" || d == "false" || d == "[]" || d == "0s" && f.Value.Type() == "duration":
		case f.Value.Type() == "string":
			l.right += fmt.Sprintf(" (default %q)", d)
		default:
			l.right += fmt.Sprintf(" (default %s)", d)
		}
		width = max(width, len(l.left))
		lines = append(lines, l)
	})
	for _, l := range lines {
		fmt.Fprintf(b, "%-*s   %s\n", width, l.left, l.right)
	}
}
