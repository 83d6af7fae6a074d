package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/checkpoint"
	"github.com/cove-engine/cove/internal/engine"
)

type checkpointOptions struct {
	*app
	selection
	engine.CheckpointOptions
	stats bool
}

func checkpointCommand(a *app) *cobra.Command {
	o := &checkpointOptions{app: a}
	c := &cobra.Command{
		Use: "checkpoint [options] CONTAINER [CONTAINER...]",
		Long: `Checkpoints one or more running containers: CRIU writes their processes to the disk, and they end. The container name or ID can be used.

  The container must have been made by another OCI runtime that knows checkpoints, like runc.

Exit codes:
  125  a container is missing, does not run or could not be checkpointed`,
		Example: `  cove container checkpoint --keep ctrID
  cove container checkpoint --all
  cove container checkpoint --leave-running --latest`,
		ValidArgsFunction: a.completeContainers(0, running),
		RunE:              func(c *cobra.Command, args []string) error { return o.run(c, args) },
	}
	fs := c.Flags()
	o.selection.flags(fs, "al", "Checkpoint")
	fs.StringVarP(&o.Export.Compression, "compress", "c", "zstd", "Select compression algorithm (gzip, none, zstd) for checkpoint archive.")
	fs.StringVarP(&o.Export.Path, "export", "e", "", "Export the checkpoint image to a tar.gz")
	fs.BoolVar(&o.FileLocks, "file-locks", false, "Checkpoint a container with file locks")
	fs.BoolVar(&o.Export.IgnoreRootfs, "ignore-rootfs", false, "Do not include root file-system changes when exporting")
	fs.BoolVar(&o.Export.IgnoreVolumes, "ignore-volumes", false, "Do not export volumes associated with container")
	fs.BoolVarP(&o.Keep, "keep", "k", false, "Keep all temporary checkpoint files")
	fs.BoolVarP(&o.Leave, "leave-running", "R", false, "Leave the container running after writing checkpoint to disk")
	fs.BoolVarP(&o.Pre, "pre-checkpoint", "P", false, "Dump container's memory information only, leave the container running")
	fs.BoolVar(&o.stats, "print-stats", false, "Display checkpoint statistics")
	fs.BoolVar(&o.TCPEstablished, "tcp-established", false, "Checkpoint a container with established TCP connections")
	fs.BoolVar(&o.WithPrevious, "with-previous", false, "Checkpoint container with pre-checkpoint images")
	fs.StringVar(&o.Image, "create-image", "", "Create checkpoint image with specified name")
	return c
}

func (o *checkpointOptions) run(c *cobra.Command, args []string) error {
	x := &o.Export
	x.Compression = strings.ToLower(x.Compression)
	switch {
	case c.Flags().Changed("compress") && x.Path == "":
		return errors.New("--compress can only be used with --export")
	case x.Compression != "none" && x.Compression != "gzip" && x.Compression != "zstd":
		return fmt.Errorf("selected compression algorithm (%q) not supported. Please select one from: gzip, none, zstd", x.Compression)
	case x.Path == "" && x.IgnoreRootfs:
		return errors.New("--ignore-rootfs can only be used with --export")
	case x.Path == "" && x.IgnoreVolumes:
		return errors.New("--ignore-volumes can only be used with --export")
	case o.WithPrevious && o.Pre:
		return errors.New("--with-previous can not be used with --pre-checkpoint")
	}
	e, ts, err := o.choose(c.Context(), o.app, args, func(c engine.Container) bool { return c.Status == cove.Running })
	if err != nil {
		return err
	}
	if len(ts) > 1 && x.Path != "" {
		return errors.New("--export can only be used with one container")
	}
	if len(ts) > 1 && o.Image != "" {
		return errors.New("--create-image can only be used with one container")
	}
	begun := time.Now()
	return o.eachCheckpoint(c.Context(), "checkpoint", o.stats, begun, ts, func(ctx context.Context, t target) (engine.CheckpointResult, error) {
		return e.Checkpoint(ctx, t.name, o.CheckpointOptions)
	})
}

// checkpointStatistics is what --print-stats prints of one container.
type checkpointStatistics struct {
	ID         string                `json:"Id"`
	Checkpoint int64                 `json:"runtime_checkpoint_duration,omitempty"`
	Restore    int64                 `json:"runtime_restore_duration,omitempty"`
	CRIU       checkpoint.Statistics `json:"criu_statistics"`
}

// eachCheckpoint is each, and with stats their statistics come instead of the
// names. All is over before they are printed.
func (a *app) eachCheckpoint(ctx context.Context, what string, stats bool, begun time.Time, ts []target, verb func(context.Context, target) (engine.CheckpointResult, error)) error {
	if !stats {
		return a.each(ctx, ts, false, func(t target) error { _, err := verb(ctx, t); return err })
	}
	var all []checkpointStatistics
	var errs []error
	for _, t := range ts {
		r, err := verb(ctx, t)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s := checkpointStatistics{ID: r.ID, CRIU: r.CRIU}
		if what == "restore" {
			s.Restore = r.Runtime.Microseconds()
		} else {
			s.Checkpoint = r.Runtime.Microseconds()
		}
		all = append(all, s)
	}
	whole := struct {
		Checkpoint *int64                 `json:"podman_checkpoint_duration,omitempty"`
		Restore    *int64                 `json:"podman_restore_duration,omitempty"`
		Containers []checkpointStatistics `json:"container_statistics"`
	}{Containers: all}
	took := time.Since(begun).Microseconds()
	if what == "restore" {
		whole.Restore = &took
	} else {
		whole.Checkpoint = &took
	}
	text, err := json.MarshalIndent(whole, "", "    ")
	if err != nil {
		return err
	}
	fmt.Fprintln(a.Out, string(text))
	return errors.Join(errs...)
}

type restoreOptions struct {
	*app
	selection
	engine.ImportOptions
	archive string
	pod     string
	publish []string
	stats   bool
}

func restoreCommand(a *app) *cobra.Command {
	o := &restoreOptions{app: a}
	c := &cobra.Command{
		Use: "restore [options] CONTAINER|IMAGE [CONTAINER|IMAGE...]",
		Long: `Restores one or more containers from a checkpoint. The container name or ID can be used, or those of an image that was made of a checkpoint.

  An archive or image is carried out as root, by the OCI runtime and CRIU: only those should be restored whose maker is trusted.

Exit codes:
  125  a container is missing, has no checkpoint or could not be restored`,
		Example: `  cove container restore ctrID
  cove container restore --latest
  cove container restore --all`,
		ValidArgsFunction: a.completeContainers(0, func(c engine.Container) bool { return !running(c) }),
		RunE:              func(c *cobra.Command, args []string) error { return o.run(c, args) },
	}
	fs := c.Flags()
	o.selection.flags(fs, "al", "Restore")
	fs.BoolVar(&o.FileLocks, "file-locks", false, "Restore a container with file locks")
	fs.BoolVar(&o.IgnoreRootfs, "ignore-rootfs", false, "Do not apply root file-system changes when importing from exported checkpoint")
	fs.BoolVar(&o.IgnoreIP, "ignore-static-ip", false, "Ignore IP address set via --static-ip")
	fs.BoolVar(&o.IgnoreMAC, "ignore-static-mac", false, "Ignore MAC address set via --mac-address")
	fs.BoolVar(&o.IgnoreVolumes, "ignore-volumes", false, "Do not export volumes associated with container")
	fs.StringVarP(&o.archive, "import", "i", "", "Restore from exported checkpoint archive (tar.gz)")
	fs.StringVar(&o.Previous, "import-previous", "", "Restore from exported pre-checkpoint archive (tar.gz)")
	fs.BoolVarP(&o.Keep, "keep", "k", false, "Keep all temporary checkpoint files")
	fs.StringVarP(&o.Name, "name", "n", "", "Specify new name for container restored from exported checkpoint (only works with --import)")
	fs.BoolVar(&o.stats, "print-stats", false, "Display restore statistics")
	arrayVar(fs, &o.publish, "publish", "p", "Publish a container's port, or a range of ports, to the host (only works with --import)")
	fs.BoolVar(&o.TCPEstablished, "tcp-established", false, "Restore a container with established TCP connections")
	fs.StringVar(&o.pod, "pod", "", "Restore container into existing Pod (only works with image or --import)")
	return c
}

func (o *restoreOptions) run(c *cobra.Command, args []string) error {
	ctx := c.Context()
	var unknown error
	if o.archive == "" && !o.all && !o.latest && len(args) > 0 {
		e, err := o.engine()
		if err != nil {
			return err
		}
		if o.Image, unknown = e.CheckpointImage(ctx, args); unknown != nil && !cove.Is(unknown, cove.NotFound) {
			return unknown
		}
	}
	if err := cmp.Or(o.check(args), unknown); err != nil {
		return err
	}
	if o.archive != "" {
		return o.restoreArchives(ctx, []string{o.archive})
	}
	if o.Image {
		return o.restoreArchives(ctx, args)
	}
	e, ts, err := o.choose(ctx, o.app, args, func(c engine.Container) bool { return !c.Run.Checkpointed.IsZero() })
	if err != nil {
		return err
	}
	return o.eachCheckpoint(ctx, "restore", o.stats, time.Now(), ts, func(ctx context.Context, t target) (engine.CheckpointResult, error) {
		return e.Restore(ctx, t.name, o.ImportOptions.RestoreOptions)
	})
}

// check refuses what does not go together, in podman's words.
func (o *restoreOptions) check(args []string) error {
	archive := o.archive != "" || o.Image
	switch {
	case !archive && o.Previous != "":
		return errors.New("--import-previous can only be used with image or --import")
	case !archive && o.IgnoreRootfs:
		return errors.New("--ignore-rootfs can only be used with image or --import")
	case !archive && o.IgnoreVolumes:
		return errors.New("--ignore-volumes can only be used with image or --import")
	case !archive && o.Name != "":
		return errors.New("--name can only be used with image or --import")
	case !archive && len(o.publish) > 0:
		return errors.New("--publish can only be used with image or --import")
	case !archive && o.pod != "":
		return errors.New("--pod can only be used with image or --import")
	case o.Name != "" && o.TCPEstablished:
		return errors.New("--tcp-established cannot be used with --name")
	case o.Name != "" && len(args) > 1:
		return errors.New("--name can only be used with one image")
	case o.archive != "" && (o.all || o.latest):
		return errors.New("cannot use --import with --all or --latest")
	case o.archive != "" && len(args) > 0:
		return errors.New("cannot use --import with positional arguments")
	case o.pod != "": // no container of cove's is of one
		return errors.New("cannot restore non pod container into pod")
	}
	return nil
}

// restoreArchives makes containers of archives or of images.
func (o *restoreOptions) restoreArchives(ctx context.Context, names []string) error {
	var err error
	if o.Ports, err = parsePublishes(o.publish); err != nil {
		return err
	}
	e, err := o.engine()
	if err != nil {
		return err
	}
	o.Warn = o.warn
	begun := time.Now()
	ts := make([]target, 0, len(names))
	for _, name := range names {
		ts = append(ts, target{name: name})
	}
	if o.stats {
		return o.eachCheckpoint(ctx, "restore", true, begun, ts, func(ctx context.Context, t target) (engine.CheckpointResult, error) {
			return e.RestoreArchive(ctx, t.name, o.ImportOptions)
		})
	}
	var errs []error
	for _, t := range ts {
		r, err := e.RestoreArchive(ctx, t.name, o.ImportOptions)
		if err == nil {
			fmt.Fprintln(o.Out, r.ID)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
