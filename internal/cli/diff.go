package cli

import (
	"bytes"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove/internal/engine"
	"github.com/cove-engine/cove/internal/rootfs/changes"
)

// diffFlags are those of the three commands diff.
type diffFlags struct {
	engine.DiffOptions
	selection
	format string
}

func diffCommand(a *app) *cobra.Command {
	return diff(a, diffFlags{DiffOptions: engine.DiffOptions{Containers: true, Images: true}}, &cobra.Command{
		Use:  "diff [options] {CONTAINER|IMAGE} [{CONTAINER|IMAGE}]",
		Long: "Displays changes on a container or image's filesystem. The container or image will be compared to its parent layer or the second argument when given.\n\nExit codes:\n  125  the changes could not be listed",
		Example: "  cove diff imageID\n" +
			"  cove diff ctrID\n" +
			"  cove diff --format json redis:alpine",
	})
}

func containerDiffCommand(a *app) *cobra.Command {
	return diff(a, diffFlags{DiffOptions: engine.DiffOptions{Containers: true}}, &cobra.Command{
		Use:  "diff [options] CONTAINER [CONTAINER]",
		Long: "Displays changes to the container's filesystem. The container will be compared to its parent layer or the second argument when given.\n\nExit codes:\n  125  the changes could not be listed",
		Example: "  cove container diff myCtr\n" +
			"  cove container diff -l --format json",
	})
}

func imageDiffCommand(a *app) *cobra.Command {
	return diff(a, diffFlags{DiffOptions: engine.DiffOptions{Images: true}}, &cobra.Command{
		Use:  "diff [options] IMAGE [IMAGE]",
		Long: "Displays changes to the image's filesystem. The image will be compared to its parent layer or the second argument when given.\n\nExit codes:\n  125  the changes could not be listed",
		Example: "  cove image diff myImage\n" +
			"  cove image diff --format json redis:alpine",
		ValidArgsFunction: a.completeLocalImages(2),
	})
}

// diff makes the command c one that shows changes.
func diff(a *app, o diffFlags, c *cobra.Command) *cobra.Command {
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case len(args) == 0 && !o.latest && o.Containers:
			return usagef("%q requires a name, id, or the \"--latest\" flag", c.CommandPath())
		case len(args) > 2 || len(args) == 0 && !o.latest:
			return usagef("accepts between 1 and 2 arg(s), received %d", len(args))
		case o.format != "" && o.format != "json":
			return usagef("only supported value for '--format' is 'json'")
		}
		eng, err := a.engine()
		if err != nil {
			return err
		}
		if o.latest {
			ts, err := o.targets(c.Context(), eng, args, nil)
			if err != nil {
				return err
			}
			args, o.Images = []string{ts[0].name}, false
		}
		if len(args) == 2 {
			o.Against = args[1]
		}
		list, err := eng.Diff(c.Context(), args[0], o.DiffOptions)
		if err != nil {
			return err
		}
		if o.format != "" {
			return a.printJSONIndent(changesJSON(list), "     ")
		}
		var text bytes.Buffer
		for _, ch := range list {
			fmt.Fprintln(&text, ch.Kind, ch.Path)
		}
		_, err = a.Out.Write(shown(a.Out, text.Bytes()))
		return err
	}
	c.Flags().StringVar(&o.format, "format", "", "Change the output format (json)")
	if o.Containers {
		o.selection.flags(c.Flags(), "l", "")
	}
	return c
}

// changesJSON is podman's shape of a list of changes.
func changesJSON(list []changes.Change) any {
	var all struct {
		Changed []string `json:"changed,omitempty"`
		Added   []string `json:"added,omitempty"`
		Deleted []string `json:"deleted,omitempty"`
	}
	to := map[changes.Kind]*[]string{changes.Changed: &all.Changed, changes.Added: &all.Added, changes.Deleted: &all.Deleted}
	for _, ch := range list {
		*to[ch.Kind] = append(*to[ch.Kind], ch.Path)
	}
	return all
}
