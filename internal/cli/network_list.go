package cli

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove"
)

func networkListCommand(a *app) *cobra.Command {
	var (
		filters []string
		l       = listing{
			columns: "{{.ID}}\t{{.Name}}\t{{.Driver}}",
			headers: map[string]string{"ID": "network id", "Labels": "labels"},
		}
		quiet, noTrunc bool
	)
	c := &cobra.Command{
		Use:     "ls [options]",
		Long:    "List networks",
		Example: "  cove network list",
		Args:    takesNone,
		RunE: func(c *cobra.Command, _ []string) error {
			by, err := parseFilters("network", filters, networkFilters())
			if err != nil {
				return err
			}
			eng, err := a.engine()
			if err != nil {
				return err
			}
			nets, err := eng.Networks(c.Context(), by)
			if err != nil {
				return err
			}
			if quiet && l.format == "" {
				l.format = "{{.Name}}"
			}
			if isJSON(l.format) {
				return a.printJSONIndent(orEmpty(nets), "  ")
			}
			rows := make([]any, len(nets))
			for i, n := range nets {
				rows[i] = networkRow{n, noTrunc}
			}
			return a.list(l, rows)
		},
	}
	fs := c.Flags()
	fs.StringArrayVarP(&filters, "filter", "f", nil, "Provide filter values (e.g. 'name=podman')")
	fs.StringVar(&l.format, "format", "", "Pretty-print networks to JSON or using a Go template")
	fs.BoolVar(&noTrunc, "no-trunc", false, "Do not truncate the network ID")
	fs.BoolVarP(&l.noHeading, "noheading", "n", false, "Do not print headers")
	fs.BoolVarP(&quiet, "quiet", "q", false, "display only names")
	return c
}

// networkFilters are the keys of ls and prune.
func networkFilters() []string {
	return []string{"dangling", "driver", "id", "label", "label!", "name", "until"}
}

// networkRow is a network as ls prints it.
type networkRow struct {
	cove.Network
	noTrunc bool
}

// ID is the ID, short unless asked otherwise.
func (r networkRow) ID() string { return shortID(r.Network.ID, r.noTrunc) }

// Labels are the labels as key=value, sorted, joined by commas.
func (r networkRow) Labels() string { return joinLabels(r.Network.Labels) }

// IPAMOptions is what podman calls the field IPAM.
func (r networkRow) IPAMOptions() map[string]string { return r.IPAM }

// NetworkDNSServers is what podman calls the field DNSServers.
func (r networkRow) NetworkDNSServers() []string { return r.DNSServers }

// joinLabels writes labels as key=value, sorted, joined by commas.
func joinLabels(labels map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, k+"="+labels[k])
	}
	return strings.Join(list, ",")
}
