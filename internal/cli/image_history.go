package cli

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/cove-engine/cove/internal/image"
)

func imageHistoryCommand(a *app) *cobra.Command {
	var (
		t = listing{
			columns: "{{.ID}}\t{{.Created}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
			headers: map[string]string{"CreatedBy": "CREATED BY"},
		}
		human, noTrunc, quiet bool
	)
	c := &cobra.Command{
		Use:               "history [options] IMAGE",
		Long:              "Displays the history of an image. The information can be printed out in an easy to read, or user specified format, and truncated.",
		Example:           "  cove history quay.io/fedora/fedora",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeLocalImages(1),
		RunE: func(c *cobra.Command, args []string) error {
			eng, err := a.imageEngine()
			if err != nil {
				return err
			}
			layers, err := eng.ImageHistory(c.Context(), args[0])
			if err != nil {
				return err
			}
			if isJSON(t.format) {
				text, err := toJSON(historyJSON(layers))
				if err == nil {
					_, err = fmt.Fprintln(a.Out, text)
				}
				return err
			}
			if quiet && t.format == "" {
				t.format = "{{.ID}}"
			}
			rows := make([]any, len(layers))
			for i, l := range layers {
				rows[i] = layerRow{l, time.Now(), human, noTrunc}
			}
			return a.list(t, rows)
		},
	}
	fs := c.Flags()
	fs.StringVar(&t.format, "format", "", "Change the output to JSON or a Go template")
	fs.BoolVarP(&human, "human", "H", true, "Display sizes and dates in human readable format")
	fs.BoolVar(&noTrunc, "no-trunc", false, "Do not truncate the output")
	fs.BoolVarP(&quiet, "quiet", "q", false, "Display the numeric IDs only")
	refuse(fs, []unsupported{{name: "platform"}}) // docker's
	return c
}

// historyStep is a step in the JSON of history, which is podman's.
type historyStep struct {
	ID        string     `json:"id"`
	Created   *time.Time `json:"created,omitempty"`
	CreatedBy string     `json:"CreatedBy"`
	Size      int64      `json:"size"`
	Comment   string     `json:"comment,omitempty"`
	Tags      []string   `json:"tags,omitempty"`
}

func historyJSON(steps []image.HistoryEntry) []historyStep {
	out := make([]historyStep, len(steps))
	for i, s := range steps {
		out[i] = historyStep(s)
	}
	return out
}

// layerRow is a layer as history prints it.
type layerRow struct {
	image.HistoryEntry
	now            time.Time
	human, noTrunc bool
}

// MarshalJSON is for {{json .}}: podman's names.
func (r layerRow) MarshalJSON() ([]byte, error) { return json.Marshal(historyStep(r.HistoryEntry)) }

// ID is short unless asked otherwise.
func (r layerRow) ID() string { return shortID(r.HistoryEntry.ID, r.noTrunc) }

// Created is how long ago, or when.
func (r layerRow) Created() string {
	if r.human {
		return r.CreatedSince()
	}
	return r.CreatedAt()
}

// CreatedAt is when.
func (r layerRow) CreatedAt() string {
	if r.HistoryEntry.Created == nil {
		return ""
	}
	return r.HistoryEntry.Created.UTC().Format(time.RFC3339)
}

// CreatedSince is how long ago.
func (r layerRow) CreatedSince() string {
	if r.HistoryEntry.Created == nil {
		return ""
	}
	return ago(r.now, *r.HistoryEntry.Created)
}

// CreatedBy is the command that made the layer, on one line of at most 45
// letters.
func (r layerRow) CreatedBy() string {
	const limit = 45
	s := strings.ReplaceAll(r.HistoryEntry.CreatedBy, "\t", " ")
	if !r.noTrunc && len([]rune(s)) > limit {
		s = truncate(s, limit-3) + "..."
	}
	return s
}

// Size is for people, or bytes.
func (r layerRow) Size() string {
	if r.human {
		return units.HumanSizeWithPrecision(float64(r.HistoryEntry.Size), 3)
	}
	return strconv.FormatInt(r.HistoryEntry.Size, 10)
}
