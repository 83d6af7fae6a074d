package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove/internal/image"
)

func imagePullCommand(a *app) *cobra.Command {
	var (
		o  image.PullOptions
		t  transferFlags
		pf platformFlags
	)
	c := &cobra.Command{
		Use:  "pull [options] IMAGE [IMAGE...]",
		Long: "Pulls an image from a registry and stores it locally. Prints the ID on stdout and the progress on stderr.",
		Example: "  cove pull imageName\n" +
			"  cove pull fedora:latest\n" +
			"  cove pull --platform linux/arm64 quay.io/app:1",
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if o.Transfer, err = t.transfer(a, c.Flags()); err != nil {
				return err
			}
			if o.Platform, err = pf.value(); err != nil {
				return err
			}
			o.Policy = strings.ToLower(o.Policy)
			switch o.Policy {
			case "always", "missing", "never", "newer":
			default:
				return usagef("unsupported pull policy %q: choose from always, missing, never, newer", o.Policy)
			}
			eng, err := a.imageEngine()
			if err != nil {
				return err
			}
			var errs []error
			for _, name := range args {
				ids, err := eng.PullImage(c.Context(), name, o)
				errs = append(errs, err)
				for _, id := range ids {
					fmt.Fprintln(a.Out, id)
				}
			}
			return errors.Join(errs...)
		},
	}
	fs := c.Flags()
	fs.BoolVarP(&o.AllTags, "all-tags", "a", false, "All tagged images in the repository will be pulled")
	fs.StringVar(&o.Policy, "policy", "always", `Pull image policy ("always"|"missing"|"never"|"newer")`)
	pf.flags(fs)
	t.flags(fs)
	refuse(fs, []unsupported{{name: "decryption-key"}})
	return c
}
