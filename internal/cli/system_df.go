package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/cove-engine/cove/internal/inspect"
)

func systemDfCommand(a *app) *cobra.Command {
	var (
		l       = listing{columns: "{{.Type}}\t{{.Total}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"}
		verbose bool
	)
	c := &cobra.Command{
		Use:     "df [options]",
		Long:    "Show the disk usage of images, containers and volumes.",
		Example: "  cove system df\n  cove system df --format json",
		Args:    takesNone,
		RunE: func(c *cobra.Command, _ []string) error {
			if verbose && l.format != "" {
				return usagef("cannot combine --format and --verbose flags")
			}
			eng, err := a.engine()
			if err != nil {
				return err
			}
			u, err := eng.DiskUsage(c.Context())
			if err != nil {
				return err
			}
			switch {
			case verbose:
				return a.verboseUsage(u, time.Now())
			case isJSON(l.format):
				return a.printJSONIndent(usageRows(u), "  ")
			}
			return a.list(l, anys(usageRows(u)))
		},
	}
	c.Flags().StringVar(&l.format, "format", "", "Pretty-print images using a Go template")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "Show detailed information on disk usage")
	return c
}

// usageRow is one line of df. Its JSON is podman's.
type usageRow struct {
	Type           string
	Total, Active  int
	RawSize        int64
	RawReclaimable int64
	TotalCount     int
	Size           string
	Reclaimable    string
}

func newUsageRow(kind string, total, active int, size, free int64) usageRow {
	var percent int64
	if size > 0 {
		percent = (free*100 + size/2) / size
	}
	return usageRow{
		Type: kind, Total: total, Active: active, RawSize: size, RawReclaimable: free, TotalCount: total,
		Size: units.HumanSize(float64(size)), Reclaimable: fmt.Sprintf("%s (%d%%)", units.HumanSize(float64(free)), percent),
	}
}

// usageRows sums u up. What nothing uses can be reclaimed: of an image the
// layers that it alone has, of a container that does not run its writable
// layer.
func usageRows(u inspect.DiskUsage) []usageRow {
	var active int
	var size, free int64
	for _, i := range u.Images {
		if i.Containers > 0 {
			active++
		} else {
			free += i.UniqueSize
		}
	}
	rows := []usageRow{newUsageRow("Images", len(u.Images), active, u.ImagesSize, free)}
	active, size, free = 0, 0, 0
	for _, c := range u.Containers {
		size += c.RWSize
		if c.Status == "running" {
			active++
		} else {
			free += c.RWSize
		}
	}
	rows = append(rows, newUsageRow("Containers", len(u.Containers), active, size, free))
	active, size, free = 0, 0, 0
	for _, v := range u.Volumes {
		size += v.Size
		if v.Links > 0 {
			active++
		}
		free += v.ReclaimableSize
	}
	return append(rows, newUsageRow("Local Volumes", len(u.Volumes), active, size, free))
}

// The rows of df -v.
type (
	imageUsageRow struct {
		inspect.ImageUsage
		now time.Time
	}
	containerUsageRow struct {
		inspect.ContainerUsage
		now time.Time
	}
	volumeUsageRow struct{ inspect.VolumeUsage }
)

func (r imageUsageRow) ImageID() string    { return shortID(r.ImageUsage.ImageID, false) }
func (r imageUsageRow) Created() string    { return ago(r.now, r.ImageUsage.Created) }
func (r imageUsageRow) Size() string       { return units.HumanSize(float64(r.ImageUsage.Size)) }
func (r imageUsageRow) SharedSize() string { return units.HumanSize(float64(r.ImageUsage.SharedSize)) }
func (r imageUsageRow) UniqueSize() string { return units.HumanSize(float64(r.ImageUsage.UniqueSize)) }

func (r containerUsageRow) ContainerID() string { return shortID(r.ContainerUsage.ContainerID, false) }
func (r containerUsageRow) Image() string       { return shortID(r.ContainerUsage.Image, false) }
func (r containerUsageRow) Command() string     { return strings.Join(r.ContainerUsage.Command, " ") }
func (r containerUsageRow) Created() string     { return ago(r.now, r.ContainerUsage.Created) }
func (r containerUsageRow) Size() string        { return units.HumanSize(float64(r.RWSize)) }

func (r volumeUsageRow) Size() string { return units.HumanSize(float64(r.VolumeUsage.Size)) }

// verboseUsage prints every image, container and volume.
func (a *app) verboseUsage(u inspect.DiskUsage, now time.Time) error {
	headers := map[string]string{
		"ImageID": "IMAGE ID", "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE",
		"ContainerID": "CONTAINER ID", "LocalVolumes": "LOCAL VOLUMES", "VolumeName": "VOLUME NAME",
	}
	var images, containers, volumes []any
	for _, i := range u.Images {
		images = append(images, imageUsageRow{i, now})
	}
	for _, c := range u.Containers {
		containers = append(containers, containerUsageRow{c, now})
	}
	for _, v := range u.Volumes {
		volumes = append(volumes, volumeUsageRow{v})
	}
	for i, part := range []struct {
		title, columns string
		rows           []any
	}{
		{"Images", "{{.Repository}}\t{{.Tag}}\t{{.ImageID}}\t{{.Created}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}", images},
		{"Containers", "{{.ContainerID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.Created}}\t{{.Status}}\t{{.Names}}", containers},
		{"Local Volumes", "{{.VolumeName}}\t{{.Links}}\t{{.Size}}", volumes},
	} {
		if i > 0 {
			fmt.Fprintln(a.Out)
		}
		fmt.Fprintf(a.Out, "%s space usage:\n\n", part.title)
		if err := (listing{columns: part.columns, headers: headers}).print(a.Out, part.rows); err != nil {
			return err
		}
	}
	return nil
}

// ago says how long before now t was, in one unit.
func ago(now, t time.Time) string { return units.HumanDuration(now.Sub(t)) + " ago" }
