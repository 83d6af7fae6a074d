package engine

import (
	"context"
	"fmt"

	"github.com/cove-engine/cove"
)

// MigrateOptions are those of system migrate.
type MigrateOptions struct {
	// NewRuntime is the OCI runtime that all containers get.
	NewRuntime string
}

// Migration tells what has been moved. Without From and To the records are
// where they were.
type Migration struct {
	From, To string // back ends
	Records  int
}

// Migrate moves the records to the configured back end and this release's
// layout.
func (e *Engine) Migrate(_ context.Context, o MigrateOptions) (Migration, error) {
	// There is one runtime yet, which every container has.
	if r := o.NewRuntime; r != "" && r != "cove" && r != "native" {
		return Migration{}, cove.E("migrate", "", cove.Unsupported, fmt.Errorf("runtime %q is not supported by cove yet: its own is \"cove\"", r))
	}
	return e.migrate()
}
