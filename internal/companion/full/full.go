// Package full carries the program cove-full.
package full

import (
	"embed"

	"github.com/cove-engine/cove/internal/companion"
)

//go:embed files
var files embed.FS

// Program is cove-full.
var Program = companion.Carried{Name: "cove-full", Files: files}
