// Package runtime carries the program cove-runtime.
package runtime

import (
	"embed"

	"github.com/cove-engine/cove/internal/companion"
)

//go:embed files
var files embed.FS

// Program is cove-runtime.
var Program = companion.Carried{Name: "cove-runtime", Files: files}
