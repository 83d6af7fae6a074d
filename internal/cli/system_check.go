package cli

import (
	"github.com/spf13/cobra"

	"github.com/cove-engine/cove/internal/engine"
)

// checkRow is a difference as check lists it.
type checkRow struct {
	engine.Difference
}

// Object is the object, or a dash.
func (r checkRow) Object() string { return orDash(r.Difference.Object) }

// Owner is the short ID of whom it belongs to, or a dash.
func (r checkRow) Owner() string { return orDash(shortID(r.Difference.Owner, false)) }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func systemCheckCommand(a *app) *cobra.Command {
	var (
		repair, quick bool
		l             = listing{columns: "{{.Kind}}\t{{.Object}}\t{{.Owner}}\t{{.Repaired}}\t{{.Problem}}"}
	)
	c := &cobra.Command{
		Use: "check [options]",
		Long: "Compare the records of containers, volumes and networks with what exists on the host, and print each difference.\n" +
			"  With --repair, what a killed command left half-done is finished or undone.\n" +
			"  Exit codes: 0 no difference, or all repaired; 1 differences remain; 125 the check itself failed.",
		Example: "  cove system check\n  cove system check --repair",
		Args:    takesNone,
		RunE: func(c *cobra.Command, _ []string) error {
			eng, err := a.engine()
			if err != nil {
				return err
			}
			found, err := eng.Check(c.Context(), repair, quick)
			if e := a.printDifferences(l, found); err == nil {
				err = e
			}
			if err != nil {
				return err
			}
			for _, d := range found {
				if !d.Repaired {
					return &exitError{code: exitMissing}
				}
			}
			return nil
		},
	}
	fs := c.Flags()
	fs.BoolVarP(&repair, "repair", "r", false, "Finish or undo what is found")
	fs.BoolVarP(&quick, "quick", "q", false, "Skip time-consuming checks")
	fs.StringVar(&l.format, "format", "", "Change the output format to JSON or a Go template")
	fs.BoolVarP(&l.noHeading, "noheading", "n", false, "Do not print headers")
	refuse(fs, []unsupported{{name: "force", short: "f", bool: true}, {name: "max", short: "m"}})
	return c
}

// printDifferences lists them; no difference prints nothing but JSON's
// empty list.
func (a *app) printDifferences(l listing, found []engine.Difference) error {
	if isJSON(l.format) {
		return a.printJSONIndent(orEmpty(found), "  ")
	}
	if len(found) == 0 {
		return nil
	}
	rows := make([]any, len(found))
	for i, d := range found {
		rows[i] = checkRow{d}
	}
	return a.list(l, rows)
}
