package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
)

type inspectOptions struct {
	*app
	format, kind string
	latest, size bool
}

func inspectCommand(a *app) *cobra.Command { return inspectLike(a, "all") }

func containerInspectCommand(a *app) *cobra.Command { return inspectLike(a, "container") }

// inspectLike is inspect of every kind of object, or of one.
func inspectLike(a *app, kind string) *cobra.Command {
	o := &inspectOptions{app: a, kind: kind}
	c := &cobra.Command{
		Use: "inspect [options] {CONTAINER|IMAGE|VOLUME|NETWORK} [...]",
		Long: `Displays the low-level information on an object identified by name or ID.

  Without --type, containers are looked for first, then images, volumes and networks.

Exit codes:
  125  an object is missing; those that were found are printed`,
		Example: `  cove inspect fedora
  cove inspect --type image fedora
  cove inspect CtrID ImgID
  cove inspect --format "imageId: {{.Id}} size: {{.Size}}" fedora`,
		ValidArgsFunction: a.completeContainers(0, nil),
		RunE:              func(c *cobra.Command, args []string) error { return o.run(c.Context(), args) },
	}
	fs := c.Flags()
	fs.StringVarP(&o.format, "format", "f", "json", "Format the output to a Go template or json")
	fs.BoolVarP(&o.latest, "latest", "l", false, "Act on the latest container cove is aware of")
	fs.BoolVarP(&o.size, "size", "s", false, "Display total file size")
	if kind == "all" {
		fs.StringVarP(&o.kind, "type", "t", "all", `Specify inspect-object type: "all", "container", "image", "network" or "volume"`)
	} else {
		c.Use = "inspect [options] CONTAINER [CONTAINER...]"
	}
	return c
}

func (o *inspectOptions) run(ctx context.Context, args []string) error {
	switch o.kind {
	case "", "all", "container", "image", "network", "volume":
	case "pod":
		return &refusedError{name: "type", value: o.kind}
	default:
		return fmt.Errorf("invalid type %q: must be one of all, container, image, network, volume", o.kind)
	}
	if o.latest {
		if len(args) > 0 {
			return errors.New("--latest and arguments cannot be used together")
		}
		if o.kind != "all" && o.kind != "container" {
			return errors.New("--latest can only be used with containers")
		}
	} else if len(args) == 0 {
		return errors.New("no names or ids specified")
	}
	if o.size && o.kind != "all" && o.kind != "container" {
		return errors.New("size can only be used for type=container")
	}
	e, err := o.engine()
	if err != nil {
		return err
	}
	if o.latest {
		list, err := e.List(ctx, engine.ListOptions{All: true, Latest: true})
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return errors.New("no containers to inspect")
		}
		args, o.kind = []string{list[0].ID}, "container"
	}
	var found []any
	var errs []error
	for _, name := range args {
		v, err := o.look(ctx, e, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found = append(found, v)
	}
	return o.inspectAll(o.format, found, errs)
}

// look finds name among the kinds that were asked for.
func (o *inspectOptions) look(ctx context.Context, e Engine, name string) (any, error) {
	kinds := []string{o.kind}
	if o.kind == "all" || o.kind == "" {
		kinds = []string{"container", "image", "volume", "network"}
	}
	for _, kind := range kinds {
		var v any
		var err error
		switch kind {
		case "container":
			var c engine.Container
			if c, err = e.Container(ctx, name, o.size); err == nil {
				v = c.Inspect()
			}
		case "image":
			v, err = e.InspectImage(ctx, name)
		case "volume":
			v, err = e.Volume(ctx, name)
		case "network":
			v, err = e.Network(ctx, name)
		}
		if err == nil {
			return v, nil
		}
		if !cove.Is(err, cove.NotFound) {
			return nil, err
		}
	}
	if len(kinds) == 1 {
		return nil, cove.E("", "", cove.NotFound, fmt.Errorf("no such %s %s", kinds[0], name))
	}
	return nil, cove.E("", "", cove.NotFound, fmt.Errorf("no such object: %q", name))
}
