package cli

import "github.com/spf13/cobra"

func volumeListCommand(a *app) *cobra.Command {
	var (
		filters []string
		l       = listing{
			columns: "{{.Driver}}\t{{.Name}}",
			headers: map[string]string{"Name": "VOLUME NAME"},
		}
		quiet bool
	)
	c := &cobra.Command{
		Use:  "ls [options]",
		Long: "List all available volumes. The output of the volumes can be filtered and formatted.",
		Args: takesNone,
		RunE: func(c *cobra.Command, _ []string) error {
			if quiet && c.Flags().Changed("format") {
				return usagef("quiet and format flags cannot be used together")
			}
			by, err := parseFilters("volume", filters, volumeFilters())
			if err != nil {
				return err
			}
			eng, err := a.engine()
			if err != nil {
				return err
			}
			vols, err := eng.Volumes(c.Context(), by)
			if err != nil {
				return err
			}
			switch {
			case quiet:
				l.format = "{{.Name}}"
			case isJSON(l.format):
				return a.printJSONIndent(orEmpty(vols), "  ")
			case len(vols) == 0:
				return nil // no headers either
			}
			return a.list(l, anys(vols))
		},
	}
	fs := c.Flags()
	fs.StringArrayVarP(&filters, "filter", "f", nil, "Filter volume output")
	fs.StringVar(&l.format, "format", "", "Format volume output using JSON or a Go template")
	fs.BoolVarP(&l.noHeading, "noheading", "n", false, "Do not print headers")
	fs.BoolVarP(&quiet, "quiet", "q", false, "Print volume output in quiet mode")
	return c
}

// volumeFilters are the keys of ls and prune.
func volumeFilters() []string {
	return []string{"after", "anonymous", "dangling", "driver", "label", "label!", "name", "opt", "scope", "since", "until"}
}
