package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/interrupt"
)

// notYet are entries for podman's commands that cove lacks: known, so that
// nobody takes them for a slip of the pen, and refused by name.
func notYet(names ...string) []entry {
	var out []entry
	for _, name := range names {
		out = append(out, entry{name: name, short: "Not supported yet", hidden: true, build: refuseCommand})
	}
	return out
}

func refuseCommand(*app) *cobra.Command {
	return &cobra.Command{
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, _ []string) error {
			return cove.E("", c.CommandPath(), cove.Unsupported, errors.New("not supported by cove yet"))
		},
	}
}

// takesNone is the Args of a command without arguments, in podman's words.
func takesNone(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("`%s` takes no arguments", c.CommandPath())
	}
	return nil
}

// existsCommand is `cove KIND exists NAME`: exit code 0 or 1, and no output.
func existsCommand(a *app, kind string, look func(ctx context.Context, eng Engine, name string) error) *cobra.Command {
	noun := strings.ToUpper(kind)
	return &cobra.Command{
		Use: "exists " + noun,
		Long: fmt.Sprintf("Check if the named %s exists.\n"+
			"  Exit codes: 0 it does, 1 it does not, 125 an error.", kind),
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			eng, err := a.engine()
			if err != nil {
				return err
			}
			err = look(c.Context(), eng, args[0])
			if cove.Is(err, cove.NotFound) {
				return &exitError{code: exitMissing}
			}
			return err
		},
	}
}

// labelMap reads key=value flags; a key without = has an empty value.
func labelMap(list []string) map[string]string {
	if len(list) == 0 {
		return nil
	}
	m := make(map[string]string, len(list))
	for _, l := range list {
		k, v, _ := strings.Cut(l, "=")
		m[k] = v
	}
	return m
}

// parseFilters reads --filter flags and refuses keys that lists of this kind
// do not know. "key!=value" is the key "key!".
func parseFilters(kind string, list, known []string) (map[string][]string, error) {
	m, err := splitFilters(list)
	if err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if !slices.Contains(known, key) {
			return nil, usagef("%q is an invalid %s filter, choose from: %s", key, kind, strings.Join(known, ", "))
		}
	}
	return m, nil
}

// confirm asks whether to go on. Anything but an answer that begins with y is
// a no, which is no error; the end of the input is one.
func (a *app) confirm() (bool, error) {
	defer interrupt.Ask()()
	fmt.Fprint(a.Out, "Are you sure you want to continue? [y/N] ")
	answer, err := readLine(a.In)
	if err != nil {
		return false, err
	}
	return strings.HasPrefix(strings.ToLower(answer), "y"), nil
}

// readLine reads one line, without its end.
func readLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, 64<<10)).ReadString('\n')
	if err != nil && (line == "" || !errors.Is(err, io.EOF)) {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// orEmpty makes a nil list an empty one, for JSON.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// shortID cuts an ID, with or without its algorithm, to the length that lists
// show, unless full.
func shortID(id string, full bool) string {
	if full {
		return id
	}
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(len(id), cove.ShortIDLength)]
}

// anys is list as rows for the printer.
func anys[T any](list []T) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}

// printTemplate writes v through the user's template, and a newline.
func (a *app) printTemplate(format string, v any) error {
	write, err := a.rowTemplate(format)
	if err != nil {
		return err
	}
	return write(v)
}
