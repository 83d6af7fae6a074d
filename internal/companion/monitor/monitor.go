// Package monitor carries the program cove-monitor.
package monitor

import (
	"embed"

	"github.com/cove-engine/cove/internal/companion"
)

//go:embed files
var files embed.FS

// Program is cove-monitor.
var Program = companion.Carried{Name: "cove-monitor", Files: files}
