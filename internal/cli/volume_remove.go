package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
)

func volumeRemoveCommand(a *app) *cobra.Command {
	var (
		o       engine.RemoveOptions
		all     bool
		timeout uint
	)
	c := &cobra.Command{
		Use: "rm [options] VOLUME [VOLUME...]",
		Long: "Remove one or more existing volumes. Volumes in use by a container are removed only with --force.\n" +
			"  Exit codes: 1 a volume does not exist, 2 a volume is in use, 125 another error.",
		Example: "  cove volume rm myvol1 myvol2\n" +
			"  cove volume rm --all\n" +
			"  cove volume rm --force myvol",
		RunE: func(c *cobra.Command, args []string) error {
			if (len(args) > 0) == all {
				return usagef("choose either one or more volumes or all")
			}
			o.Timeout, o.Warn = stopTimeout(c, timeout), a.warn
			eng, err := a.engine()
			if err != nil {
				return err
			}
			names := args
			if all {
				vols, err := eng.Volumes(c.Context(), nil)
				if err != nil {
					return err
				}
				for _, v := range vols {
					names = append(names, v.Name)
				}
			}
			return a.removeEach(names, o.Force || all, func(name string) (string, error) {
				return eng.RemoveVolume(c.Context(), name, o)
			})
		},
	}
	fs := c.Flags()
	fs.BoolVarP(&all, "all", "a", false, "Remove all volumes")
	fs.BoolVarP(&o.Force, "force", "f", false, "Remove a volume by force, even if it is being used by a container")
	fs.UintVarP(&timeout, "time", "t", 10, "Seconds to wait for running containers to stop before killing the container")
	return c
}

// removalCodes are the exit codes of the rm of volumes, networks and images.
func removalCodes() map[cove.Kind]int {
	return map[cove.Kind]int{cove.NotFound: exitMissing, cove.InUse: exitState}
}

// removeEach removes all names whatever becomes of the others, and prints
// what went. With ignore a missing one is no error.
func (a *app) removeEach(names []string, ignore bool, remove func(name string) (string, error)) error {
	var errs []error
	for _, name := range names {
		removed, err := remove(name)
		switch {
		case err == nil:
			fmt.Fprintln(a.Out, removed)
		case !ignore || !cove.Is(err, cove.NotFound):
			errs = append(errs, err)
		}
	}
	return codedByKind(errors.Join(errs...), removalCodes())
}

// stopTimeout is --time when it was given; nil leaves each container its own.
func stopTimeout(c *cobra.Command, seconds uint) *uint {
	return changed(c.Flags(), "time", seconds)
}
