package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove/internal/unnamed"
)

func exportCommand(a *app) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:  "export [options] CONTAINER",
		Long: "Exports container's filesystem contents as a tar archive and saves it on the local machine.\n\nExit codes:\n  125  the archive could not be written",
		Example: "  cove export ctrID > myCtr.tar\n" +
			"  cove export --output=\"myCtr.tar\" ctrID",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if strings.Contains(output, ":") {
				return usagef("invalid filename (should not contain ':') %q", output)
			}
			return a.export(output, func(eng Engine, w io.Writer) error { return eng.Export(c.Context(), args[0], w) })
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "Write to a specified file (default: stdout, which must be redirected)")
	return c
}

// export has write fill the file output, which gets its name when it is whole,
// or standard output.
func (a *app) export(output string, write func(Engine, io.Writer) error) (err error) {
	if output == "" && a.outTerminal() != nil {
		return usagef("refusing to export to terminal. Use -o flag or redirect")
	}
	eng, err := a.engine()
	if err != nil || output == "" {
		if err == nil {
			err = write(eng, a.Out)
		}
		return err
	}
	if fi, serr := os.Stat(output); serr == nil && !fi.Mode().IsRegular() {
		f, err := os.OpenFile(output, os.O_WRONLY, 0) // a pipe or device
		if err != nil {
			return err
		}
		return errors.Join(write(eng, f), f.Close())
	}
	f, err := unnamed.Create(filepath.Dir(output), 0o644, false)
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		err = fmt.Errorf("open %s: %w", output, pe.Err)
	}
	if err != nil {
		return err
	}
	if err = write(eng, f); err == nil {
		err = f.Publish(output)
	}
	return errors.Join(err, f.Close())
}
