// Package program is what cove's two builds have in common: the wiring of the
// engine's rooms behind the command line.
//
// The program that people start (cmd/cove) leaves the image libraries out:
// initialising them takes longer than starting a container. It answers all
// that cove's own index of images can answer, and replaces itself by the full
// build (cmd/cove-full, carried inside) for the rest.
package program

import (
	"fmt"
	"os"
	"time"

	"github.com/cove-engine/cove/internal/cli"
	"github.com/cove-engine/cove/internal/companion/monitor"
	"github.com/cove-engine/cove/internal/config"
	"github.com/cove-engine/cove/internal/engine"
	"github.com/cove-engine/cove/internal/event"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/interrupt"
	"github.com/cove-engine/cove/internal/lock/file"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/network/native"
	"github.com/cove-engine/cove/internal/network/userland"
	"github.com/cove-engine/cove/internal/rootless"
	"github.com/cove-engine/cove/internal/state/bolt"
)

// Images opens the image store for a configuration.
type Images func(conf *config.Config, o image.Options) image.Images

// Main runs the command line and does not return. builtin gives the image that
// the program carries, nil for none. Signals are caught after signals.
func Main(images Images, builtin func() ([]byte, error), signals time.Duration) {
	ctx := interrupt.Context(signals)
	std := cli.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: rootless.Environ()}
	interrupt.Exit(ctx, cli.Main(ctx, os.Args, std, func(g cli.Globals) (cli.Engine, error) {
		// Here, where it is certain that an engine is needed: who only asks
		// for help or the version needs no namespace.
		err := rootless.Enter(func(warning string) { fmt.Fprintln(os.Stderr, "WARNING:", warning) })
		if err != nil {
			return nil, err
		}
		return open(g, images, builtin)
	}))
}

func open(g cli.Globals, images Images, builtin func() ([]byte, error)) (cli.Engine, error) {
	_, _, user := rootless.User()
	conf, err := config.Load(config.Overrides{
		GraphRoot: g.Root, RunRoot: g.RunRoot, Driver: g.StorageDriver, ImageStore: g.ImageStore, DriverOptions: g.StorageOpts,
		VolumePath: g.VolumePath, NetworkConfigDir: g.NetworkConfigDir, CgroupManager: g.CgroupManager,
		EventsBackend: g.EventsBackend, Runtime: g.Runtime, Modules: g.Modules,
		Rootless: user,
	})
	if err != nil {
		return nil, err
	}
	return engine.New(conf, engine.Parts{
		Store: bolt.Open(conf.StateFile(), 0, nil),
		Locks: file.New(engine.LockPath(conf)),
		Images: images(conf, image.Options{
			GraphRoot: conf.GraphRoot, RunRoot: conf.RunRoot, Driver: conf.Driver,
			DriverOptions: conf.DriverOptions, ImageStore: conf.ImageStore,
		}),
		Networks: networks(user),
		Events:   events(conf),
		Builtin:  builtin,
		Monitor: func() (string, error) {
			return monitor.Program.Path(conf.Scratch()+"/bin", conf.File.Engine.HelperBinariesDir.Get())
		},
	}), nil
}

func networks(user bool) network.Driver {
	if user {
		return userland.Driver{}
	}
	return native.Driver{}
}

func events(conf *config.Config) event.Writer {
	if conf.File.Engine.EventsLogger == "none" {
		return event.None{}
	}
	return event.File{Path: conf.EventLog(), MaxSize: int64(conf.File.Engine.EventsLogFileMaxSize)}
}
