package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove/internal/engine"
)

type commitOptions struct {
	*app
	engine.CommitOptions
	config, format, iidFile string
	quiet                   bool
}

func commitCommand(a *app) *cobra.Command {
	o := &commitOptions{app: a}
	c := &cobra.Command{
		Use: "commit [options] CONTAINER [IMAGE]",
		Long: `Create an image from a container's changes. Optionally tag the image created, set the author with the --author flag, set the commit message with the --message flag, and make changes to the instructions with the --change flag.

Exit codes:
  125  the container is missing or the image could not be made`,
		Example: `  cove commit -q --message "committing container to image" -f docker reverent_golick image-committed
  cove commit -q --author "firstName lastName" reverent_golick image-committed
  cove commit -q --pause=false containerID image-committed
  cove commit containerID`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeContainers(1, nil),
		RunE:              func(c *cobra.Command, args []string) error { return o.run(c, args) },
	}
	fs := c.Flags()
	fs.StringVarP(&o.Author, "author", "a", "", "Set the author for the image committed")
	fs.StringArrayVarP(&o.Changes, "change", "c", nil, "Apply the following possible instructions to the created image (default []): CMD | ENTRYPOINT | ENV | EXPOSE | LABEL | ONBUILD | STOPSIGNAL | USER | VOLUME | WORKDIR")
	fs.StringVar(&o.config, "config", "", "`file` containing a container configuration to merge into the image")
	fs.StringVarP(&o.format, "format", "f", "oci", "`Format` of the image manifest and metadata")
	fs.StringVar(&o.iidFile, "iidfile", "", "`file` to write the image ID to")
	fs.BoolVar(&o.Volumes, "include-volumes", false, "Include container volumes as image volumes")
	fs.StringVarP(&o.Message, "message", "m", "", "Set commit message for imported image")
	fs.BoolVarP(&o.Pause, "pause", "p", false, "Pause container during commit")
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress output")
	fs.BoolVarP(&o.Squash, "squash", "s", false, "squash newly built layers into a single new layer")
	return c
}

func (o *commitOptions) run(c *cobra.Command, args []string) error {
	switch o.format {
	case "oci":
		if o.Message != "" {
			return fmt.Errorf("messages are only compatible with the docker image format (-f docker)")
		}
	case "docker":
		o.Docker = true
	default:
		return fmt.Errorf("unrecognized image format %q", o.format)
	}
	if len(args) > 1 {
		o.Name = args[1]
	}
	if o.config != "" {
		data, err := os.ReadFile(o.config)
		if err != nil {
			return err
		}
		o.Merge = data
	}
	if !o.quiet {
		o.Progress = o.Err
	}
	e, err := o.engine()
	if err != nil {
		return err
	}
	id, err := e.Commit(c.Context(), args[0], o.CommitOptions)
	if err != nil {
		return err
	}
	if o.iidFile != "" {
		if err := os.WriteFile(o.iidFile, []byte(id), 0o644); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(o.Out, id)
	return err
}
