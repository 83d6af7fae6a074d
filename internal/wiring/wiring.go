// Package wiring puts the rooms together to an engine, for the command line's
// two builds and for programs that import the engine.
package wiring

import (
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove/internal/companion"
	"github.com/cove-engine/cove/internal/companion/monitor"
	"github.com/cove-engine/cove/internal/companion/runtime"
	"github.com/cove-engine/cove/internal/config"
	"github.com/cove-engine/cove/internal/engine"
	"github.com/cove-engine/cove/internal/event"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/network/native"
	"github.com/cove-engine/cove/internal/network/userland"
	"github.com/cove-engine/cove/internal/rootless"
	"github.com/cove-engine/cove/internal/state"
	"github.com/cove-engine/cove/internal/state/memory"
)

// Build is what a program has or lacks.
type Build struct {
	// Images opens the image store for a configuration.
	Images func(conf *config.Config, o image.Options) image.Images
	// Builtin gives the image that the program carries; nil for none.
	Builtin func() ([]byte, error)
	// SQLite opens that back end of the state store; nil where it is left
	// out.
	SQLite state.Opener
	// CDI makes the edits for CDI devices; nil where it is left out.
	CDI func(s *specs.Spec, dirs, devices []string) (nodes map[string]string, err error)
	// LogLevel is told what --log-level says; nil where nothing logs.
	LogLevel func(name string)
	// Memory keeps the records when it is not nil.
	Memory *memory.Store
	// Closed is what everything that needs the records fails with; nil with an
	// engine that is open.
	Closed error
	// Full replaces the program by the full build, which has all of it; it
	// returns only when that cannot be. nil in the full build.
	Full func(conf *config.Config) error
}

// Engine makes an engine of what a configuration says. It touches nothing but
// the store's file.
func (b Build) Engine(conf *config.Config) (*engine.Engine, error) {
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
		Store: kept.store, Beside: func() (state.Store, error) {
			// Records in memory may have a store on the disk beside them that
			// is a transient one.
			kept, err := b.onDisk(conf.Beside())
			return kept.store, err
		}, Backend: kept.backend, Migrate: kept.migrate,
		Locks: locks,
		Images: b.Images(conf, image.Options{
			GraphRoot: conf.GraphRoot, RunRoot: conf.RunRoot, Driver: conf.Driver,
			DriverOptions: conf.DriverOptions, ImageStore: conf.ImageStore, ContainersConf: conf.Files,
		}),
		Networks:    networks(lan),
		UserNetwork: lan,
		Events:      events(conf),
		Builtin:     b.Builtin,
		CDI:         b.CDI,
		Monitor:     carried(monitor.Program, conf),
		Runtime:     carried(runtime.Program, conf),
	}), nil
}

// carried gives a companion's path. It lies where what can be made again does, or
// beside the store where nothing can be executed there.
func carried(program companion.Carried, conf *config.Config) func() (string, error) {
	return func() (string, error) {
		return program.Path([]string{conf.Scratch() + "/bin", conf.Base() + "/bin"}, conf.File.Engine.HelperBinariesDir.Get())
	}
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
	switch event.Backend(conf.File.Engine.EventsLogger) {
	case event.ToNone:
		return event.None{}
	case event.ToJournald:
		return &event.Journal{Store: conf.GraphRoot}
	}
	return event.File{Path: conf.EventLog(), MaxSize: int64(conf.File.Engine.EventsLogFileMaxSize)}
}
