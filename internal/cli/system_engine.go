package cli

import (
	"context"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
	"github.com/cove-engine/cove/internal/inspect"
)

// SystemEngine is the verbs about the whole.
type SystemEngine interface {
	Info(ctx context.Context) (inspect.Info, error)
	// Events calls each for every event in order; an error of each ends it.
	// A zero since begins with now when following and with the first event
	// otherwise; a zero until is the end of ctx when following.
	Events(ctx context.Context, since, until time.Time, follow bool, filters map[string][]string, each func(cove.Event) error) error
	// Check compares records with reality; with repair it also finishes or
	// undoes what it finds. quick leaves out what has to read file contents.
	Check(ctx context.Context, repair, quick bool) ([]engine.Difference, error)
	// Migrate moves the records to the configured back end and layout.
	Migrate(ctx context.Context, o engine.MigrateOptions) (engine.Migration, error)
	// Reset removes all that is cove's, but no images; Places are the
	// directories that go with it.
	Reset(ctx context.Context) error
	Places() (home, scratch string)
	// Renumber makes the locks anew after a change of the configuration.
	Renumber() error
	DiskUsage(ctx context.Context) (inspect.DiskUsage, error)
}
