package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/cove-engine/cove/internal/image"
)

type systemPruneOptions struct {
	*app
	all, force, volumes bool
	filters             []string
}

func systemPruneCommand(a *app) *cobra.Command {
	o := &systemPruneOptions{app: a}
	c := &cobra.Command{
		Use:     "prune [options]",
		Long:    "Remove stopped containers, networks that nobody uses and dangling images; with --all every image, and with --volumes every volume, that no container uses.",
		Example: "  cove system prune\n  cove system prune --all --volumes --force",
		Args:    takesNone,
		RunE:    func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	fs := c.Flags()
	fs.BoolVarP(&o.all, "all", "a", false, "Remove all unused data")
	fs.BoolVarP(&o.force, "force", "f", false, "Do not prompt for confirmation")
	fs.BoolVar(&o.volumes, "volumes", false, "Prune volumes")
	fs.StringArrayVar(&o.filters, "filter", nil, "Provide filter values (e.g. 'label=<key>=<value>')")
	refuse(fs, []unsupported{{name: "build", bool: true, accept: []string{"false"}}, {name: "external", bool: true, accept: []string{"false"}}})
	return c
}

func (o *systemPruneOptions) run(ctx context.Context) error {
	by, err := parseFilters("system prune", o.filters, []string{"label", "label!", "until"})
	if err != nil {
		return err
	}
	eng, err := o.imageEngine()
	if err != nil {
		return err
	}
	if !o.force {
		volumes, images := "", "all dangling images"
		if o.volumes {
			volumes = "\t- all volumes not used by at least one container\n"
		}
		if o.all {
			images = "all images without at least one container associated with them"
		}
		fmt.Fprintf(o.Out, "WARNING! This command removes:\n\t- all stopped containers\n\t- all networks not used by at least one container\n%s\t- %s\n\n", volumes, images)
		if yes, err := o.confirm(); !yes {
			return err
		}
	}
	// What a container uses is free once that is gone.
	containers, sizes, err := eng.PruneContainers(ctx, by)
	errs := []error{err}
	images, err := eng.PruneImages(ctx, o.all, o.filters)
	errs = append(errs, err)
	networks, err := eng.PruneNetworks(ctx, by)
	errs = append(errs, err)
	var volumes []string
	if o.volumes {
		var more []int64
		volumes, more, err = eng.PruneVolumes(ctx, by)
		sizes, errs = append(sizes, more...), append(errs, err)
	}
	var total int64
	for _, n := range sizes {
		total += n
	}
	for _, group := range []struct {
		title string
		names []string
	}{{"Containers", containers}, {"Volumes", volumes}, {"Images", deletedImages(images, &total)}, {"Networks", networks}} {
		if len(group.names) > 0 {
			fmt.Fprintf(o.Out, "Deleted %s\n", group.title)
		}
		for _, name := range group.names {
			fmt.Fprintln(o.Out, name)
		}
	}
	fmt.Fprintf(o.Out, "Total reclaimed space: %s\n", units.HumanSize(float64(total)))
	return errors.Join(errs...)
}

// deletedImages gives the IDs of those that are gone and adds their sizes up.
func deletedImages(reports []image.RemoveReport, total *int64) (ids []string) {
	for _, r := range reports {
		if r.Deleted {
			ids = append(ids, r.ID)
			*total += r.Size
		}
	}
	return ids
}
