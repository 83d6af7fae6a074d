// Command cove-full is cove with the image libraries linked in. cove becomes
// it when a command needs them.
package main

import (
	"github.com/cove-engine/cove/internal/cdi"
	"github.com/cove-engine/cove/internal/companion/hello"
	"github.com/cove-engine/cove/internal/config"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/library"
	"github.com/cove-engine/cove/internal/program"
	"github.com/cove-engine/cove/internal/state/sqlite"
	"github.com/cove-engine/cove/internal/wiring"
)

// maxHeap is several times what six layers at once take that are compressed with the
// widest windows.
const maxHeap = 2 << 30

func main() {
	// The storage library unpacks layers in children of this program.
	if library.Reexec() {
		return
	}
	program.Main(wiring.Build{
		Images: func(conf *config.Config, o image.Options) image.Images {
			o.MaxHeap = maxHeap
			return library.OpenRead(o, conf.Storage)
		},
		Builtin:  hello.Archive,
		SQLite:   sqlite.Open,
		CDI:      cdi.Inject,
		LogLevel: library.LogLevel,
	}, 0)
}
