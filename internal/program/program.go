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
	"strings"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/cove-engine/cove/internal/cli"
	"github.com/cove-engine/cove/internal/config"
	"github.com/cove-engine/cove/internal/interrupt"
	"github.com/cove-engine/cove/internal/rootless"
	"github.com/cove-engine/cove/internal/wiring"
)

// Main runs the command line with one of the two builds, and does not return.
// Signals are caught after so long.
func Main(b wiring.Build, signals time.Duration) {
	panicBriefly()
	// As podman's: what the caller keeps to himself, a container's users and those of
	// a shared store have to read. It is the monitor's and init's, too.
	syscall.Umask(0o022)
	ctx := interrupt.Context(signals)
	std := cli.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: rootless.Environ()}
	interrupt.Exit(ctx, cli.Main(ctx, os.Args, std, func(g cli.Globals) (cli.Engine, error) {
		// Here, where it is certain that an engine is needed: who only asks
		// for help or the version needs no namespace.
		// Entering one may take longer than signals are left alone.
		err := rootless.Enter(func(warning string) { fmt.Fprintln(os.Stderr, "WARNING:", warning) }, interrupt.Leave)
		if err != nil {
			return nil, err
		}
		interrupt.Note() // not before: entering is an exec
		return open(b, g)
	}))
}

func open(b wiring.Build, g cli.Globals) (cli.Engine, error) {
	if level := strings.ToLower(g.LogLevel); level == "debug" || level == "trace" {
		panicAtLength()
	}
	if b.LogLevel != nil {
		b.LogLevel(g.LogLevel)
	}
	_, _, user := rootless.User()
	if (g.Root != "" || g.StorageDriver != "") && !g.StorageOptsSet {
		// storage.conf's are for storage.conf's store, podman(1) --root.
		g.StorageOpts = []string{}
	}
	level := logrus.GetLevel()
	if asked, err := logrus.ParseLevel(g.LogLevel); b.Full == nil || err == nil && asked < logrus.WarnLevel {
		// What the library warns of in storage.conf is told by the program that the
		// full build has replaced.
		logrus.SetLevel(min(level, logrus.ErrorLevel))
	}
	conf, err := config.Load(config.Overrides{
		GraphRoot: g.Root, RunRoot: g.RunRoot, Driver: g.StorageDriver, ImageStore: g.ImageStore, Transient: g.Transient, DriverOptions: g.StorageOpts,
		VolumePath: g.VolumePath, CgroupManager: g.CgroupManager,
		EventsBackend: g.EventsBackend, Runtime: g.Runtime, RuntimeFlags: g.RuntimeFlags, HooksDirs: g.HooksDirs, CDISpecDirs: g.CDISpecDirs, Conmon: g.Conmon, DBBackend: g.DBBackend, Modules: g.Modules, MountsFile: g.MountsFile,
		Rootless: user,
	})
	logrus.SetLevel(level)
	if err != nil {
		return nil, err
	}
	return b.Engine(conf)
}
