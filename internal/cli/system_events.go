package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove"
)

func eventsCommand(a *app) *cobra.Command {
	var (
		filters       []string
		format        string
		since, until  string
		noTrunc, tail bool
	)
	c := &cobra.Command{
		Use:  "events [options]",
		Long: "Monitor system events: print those to come, or with --since, --until and --stream=false those that were.",
		Example: "  cove events\n" +
			"  cove events --filter event=create\n" +
			"  cove events --format {{.Image}}\n" +
			"  cove events --since 1h30s",
		Args: takesNone,
		RunE: func(c *cobra.Command, _ []string) error {
			by, err := parseFilters("event", filters, eventFilters())
			if err != nil {
				return err
			}
			now := time.Now()
			from, err := parseTime("since", since, now, -1)
			if err != nil {
				return err
			}
			to, err := parseTime("until", until, now, 1)
			if err != nil {
				return err
			}
			print, err := a.eventPrinter(format, noTrunc)
			if err != nil {
				return err
			}
			eng, err := a.engine()
			if err != nil {
				return err
			}
			follow := tail && (to.IsZero() || to.After(now))
			return eng.Events(c.Context(), from, to, follow, by, print)
		},
	}
	fs := c.Flags()
	fs.StringArrayVarP(&filters, "filter", "f", nil, "filter output")
	fs.StringVar(&format, "format", "", "format the output using a Go template")
	fs.BoolVar(&noTrunc, "no-trunc", true, "do not truncate the output")
	fs.StringVar(&since, "since", "", "show all events created since timestamp")
	fs.BoolVar(&tail, "stream", true, "stream events and do not exit when returning the last known event")
	fs.StringVar(&until, "until", "", "show all events until timestamp")
	return c
}

// eventFilters are the keys of --filter; status is docker's word for event.
func eventFilters() []string {
	return []string{"container", "event", "image", "label", "network", "pod", "status", "type", "volume"}
}

// parseTime reads a point in time: seconds since 1970 with or without a
// fraction, a date with or without a time, or a span such as 10m, which is
// counted from now in the given direction. "" is the zero time.
func parseTime(flag, text string, now time.Time, direction time.Duration) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if sec, frac, _ := strings.Cut(text, "."); sec != "" {
		s, err := strconv.ParseInt(sec, 10, 64)
		n, err2 := strconv.ParseInt((frac + "000000000")[:9], 10, 64)
		if err == nil && err2 == nil {
			return time.Unix(s, n), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(direction * d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02 15:04:05.999999999 -0700 MST", "2006-01-02 15:04:05", "2006-01-02Z07:00", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usagef("invalid --%s %q: it must be a date, a Unix time or a duration such as 10m", flag, text)
}

// eventPrinter prints one event per call.
func (a *app) eventPrinter(format string, noTrunc bool) (func(cove.Event) error, error) {
	switch {
	case format == "":
		return func(e cove.Event) error {
			_, err := fmt.Fprintln(a.Out, visible(oneLine(eventLine(e, noTrunc))))
			return err
		}, nil
	case isJSON(format):
		return func(e cove.Event) error {
			data, err := json.Marshal(newEventFields(e))
			if err == nil {
				_, err = fmt.Fprintln(a.Out, string(data))
			}
			return err
		}, nil
	}
	write, err := a.rowTemplate(format)
	if err != nil {
		return nil, err
	}
	return func(e cove.Event) error { return write(newEventFields(e)) }, nil
}

// eventLine is an event for people.
func eventLine(e cove.Event, noTrunc bool) string {
	id := shortID(e.ID, noTrunc)
	head := fmt.Sprintf("%s %s %s", e.Time, e.Type, e.Status)
	switch e.Type {
	case "container", "pod":
		var b strings.Builder
		fmt.Fprintf(&b, "%s %s (image=%s, name=%s", head, id, e.Image, e.Name)
		if e.Health != "" {
			fmt.Fprintf(&b, ", health_status=%s, health_failing_streak=%d, health_log=%s", e.Health, e.HealthStreak, strings.TrimSuffix(e.HealthLog, "\n"))
		}
		if e.Error != "" {
			b.WriteString(", error=" + e.Error)
		}
		for _, k := range slices.Sorted(maps.Keys(e.Attributes)) {
			b.WriteString(", " + k + "=" + e.Attributes[k])
		}
		b.WriteString(")")
		return b.String()
	case "network":
		if e.Status == "create" || e.Status == "remove" {
			return fmt.Sprintf("%s %s (name=%s, type=bridge)", head, e.ID, e.Network)
		}
		return fmt.Sprintf("%s %s (container=%s, name=%s)", head, id, id, e.Network)
	case "image":
		line := fmt.Sprintf("%s %s %s", head, id, e.Name)
		if e.Error != "" {
			line += " " + e.Error
		}
		return line
	case "volume":
		return head + " " + e.Name
	}
	if e.Name != "" {
		return head + " " + e.Name
	}
	return head
}

// eventFields is an event as podman 5 writes it to JSON and templates.
type eventFields struct {
	ContainerExitCode *int   `json:",omitempty"`
	ID                string `json:",omitempty"`
	Image             string `json:",omitempty"`
	Name              string `json:",omitempty"`
	Network           string `json:"network,omitempty"`
	Status            string
	Time              int64 `json:"time,omitempty"`     // Unix seconds
	TimeNano          int64 `json:"timeNano,omitempty"` // Unix nanoseconds
	Type              string
	HealthStatus      string `json:"health_status,omitempty"`
	Error             string `json:",omitempty"`
	Attributes        map[string]string
	InspectData       string `json:"ContainerInspectData,omitempty"`
}

// ContainerInspectData and PodID are names that podman's templates have.
func (f eventFields) ContainerInspectData() string { return f.InspectData }
func (f eventFields) PodID() string                { return "" }

func newEventFields(e cove.Event) eventFields {
	if e.Type == "container" && e.Attributes == nil {
		e.Attributes = map[string]string{} // as podman has it of containers alone
	}
	return eventFields{
		ContainerExitCode: e.ExitCode, ID: e.ID, Image: e.Image, Name: e.Name, Network: e.Network,
		Status: e.Status, Time: e.Time.Unix(), TimeNano: e.Time.UnixNano(), Type: e.Type,
		HealthStatus: e.Health, Error: e.Error, Attributes: e.Attributes, InspectData: e.InspectData,
	}
}
