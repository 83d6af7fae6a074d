package engine_test

import (
	"github.com/cove-engine/cove/internal/cli"
	"github.com/cove-engine/cove/internal/engine"
)

// The command line's wishes are the engine's verbs.
var _ cli.Engine = (*engine.Engine)(nil)
