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
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/network/native"
	"github.com/cove-engine/cove/internal/network/userland"
	"github.com/cove-engine/cove/internal/rootless"
	"github.com/cove-engine/cove/internal/state"
)

// Build is what one of the two builds has or lacks.
type Build struct {
	// Images opens the image store for a configuration.
	Images func(conf *config.Config, o image.Options) image.Images
	// Builtin gives the image that the program carries; nil for none.
	Builtin func() ([]byte, error)
	// SQLite opens that back end of the state store; nil where it is left
	// out.
	SQLite state.Opener
	// Full replaces the program by the full build, which has all of it; it
	// returns only when that cannot be. nil in the full build.
	Full func(conf *config.Config) error
	// Signals are caught after so long.
	Signals time.Duration
}

// Main runs the command line and does not return.
func (b Build) Main() {
	ctx := interrupt.Context(b.Signals)
	std := cli.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: rootless.Environ()}
	interrupt.Exit(ctx, cli.Main(ctx, os.Args, std, func(g cli.Globals) (cli.Engine, error) {
		// Here, where it is certain that an engine is needed: who only asks
		// for help or the version needs no namespace.
		err := rootless.Enter(func(warning string) { fmt.Fprintln(os.Stderr, "WARNING:", warning) })
		if err != nil {
			return nil, err
		}
		return b.open(g)
	}))
}

func (b Build) open(g cli.Globals) (cli.Engine, error) {
	_, _, user := rootless.User()
	conf, err := config.Load(config.Overrides{
		GraphRoot: g.Root, RunRoot: g.RunRoot, Driver: g.StorageDriver, ImageStore: g.ImageStore, DriverOptions: g.StorageOpts,
		VolumePath: g.VolumePath, NetworkConfigDir: g.NetworkConfigDir, CgroupManager: g.CgroupManager,
		EventsBackend: g.EventsBackend, Runtime: g.Runtime, RuntimeFlags: g.RuntimeFlags, DBBackend: g.DBBackend, Modules: g.Modules,
		Rootless: user,
	})
	if err != nil {
		return nil, err
	}
	kept, err := b.store(conf)
	if err != nil {
		return nil, err
	}
	locks, err := locks(conf)
	if err != nil {
		return nil, err
	}
	if os.Getenv(orderEnv) != "" {
		o := lock.NewOrdered(locks, func(args ...any) { panic(fmt.Sprint(args...)) })
		locks, kept.store = o, ordered{kept.store, o}
	}
	lan := userNetwork(conf)
	return engine.New(conf, engine.Parts{
		Store: kept.store, Backend: kept.backend, Migrate: kept.migrate,
		Locks: locks,
		Images: b.Images(conf, image.Options{
			GraphRoot: conf.GraphRoot, RunRoot: conf.RunRoot, Driver: conf.Driver,
			DriverOptions: conf.DriverOptions, ImageStore: conf.ImageStore,
		}),
		Networks:    networks(lan),
		UserNetwork: lan,
		Events:      events(conf),
		Builtin:     b.Builtin,
		Monitor: func() (string, error) {
			return monitor.Program.Path(conf.Scratch()+"/bin", conf.File.Engine.HelperBinariesDir.Get())
		},
	}), nil
}

// userNetwork is where an ordinary user's bridges are; nil for root, whose
// bridges are the host's.
func userNetwork(conf *config.Config) *rootless.Network {
	if !conf.Rootless {
		return nil
	}
	return &rootless.Network{Path: conf.UserNetwork()}
}

func networks(lan *rootless.Network) network.Driver {
	if lan == nil {
		return native.Driver{}
	}
	join := func() (int, error) {
		netns, _, err := lan.Join()
		return netns, err
	}
	return userland.Driver{Join: join, Find: lan.Find}
}

func events(conf *config.Config) event.Writer {
	if conf.File.Engine.EventsLogger == "none" {
		return event.None{}
	}
	return event.File{Path: conf.EventLog(), MaxSize: int64(conf.File.Engine.EventsLogFileMaxSize)}
}
