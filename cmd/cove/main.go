// Command cove is the container engine's command line, built to start fast.
package main

import (
	"errors"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/companion/full"
	"github.com/cove-engine/cove/internal/config"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/front"
	"github.com/cove-engine/cove/internal/interrupt"
	"github.com/cove-engine/cove/internal/program"
	"github.com/cove-engine/cove/internal/rootless"
	"github.com/cove-engine/cove/internal/sysmon"
	"github.com/cove-engine/cove/internal/wiring"
)

func main() {
	// A command lives for milliseconds: collecting its garbage, which starts
	// threads of its own, begins at 32 MB instead of 4.
	debug.SetGCPercent(800)
	sysmon.Calm(time.Millisecond)

	program.Main(wiring.Build{
		Images: func(conf *config.Config, o image.Options) image.Images {
			return front.Open(o, func() error { return becomeFull(conf) })
		},
		Full: becomeFull,
	}, 20*time.Millisecond)
}

// becomeFull replaces this program by the full build, which does the command
// from its beginning. It returns only when that cannot be.
func becomeFull(conf *config.Config) error {
	dirs := []string{conf.Base() + "/bin", conf.Scratch() + "/bin"}
	path, err := full.Program.Path(dirs, conf.File.Engine.HelperBinariesDir.Get())
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EROFS) || cove.Is(err, cove.Denied) {
		if memory, merr := full.Program.InMemory(); merr == nil {
			path, err = memory, nil
		}
	}
	if err != nil {
		// Whatever its kind: it is not the image that was not found.
		return cove.E("become cove-full", "", cove.Internal, err)
	}
	interrupt.Leave()
	conf.GiveBack()
	return cove.E("exec", path, cove.Internal, rootless.Exec(path, os.Args))
}
