// Package engine is cove as a library: the engine that the cove command drives,
// for Go programs that want containers without a daemon and without the command.
// What it works on is the same as the command's: a container that a program has
// made is seen, entered, stopped and removed by cove, and the reverse, also
// at the same time. Containers do not end with the program.
//
//	func main() {
//		if engine.Init() {
//			return
//		}
//		e, err := engine.Open(engine.Options{})
//		…
//		spec, err := e.Defaults()
//		…
//		spec.Image, spec.Command = "docker.io/library/alpine", []string{"date"}
//		id, _, err := e.Create(ctx, spec, engine.CreateOptions{})
//		…
//		_, err = e.Start(ctx, id, engine.StartOptions{})
//	}
//
// # What a program needs
//
// It is root, or it runs inside an ordinary user's namespace: `cove unshare
// PROGRAM` takes it there. [Init] is the first thing its main does. cove-monitor,
// the small program that stays beside each container, is carried inside where
// the module was built by make build; else it is looked for in containers.conf's
// helper_binaries_dir, and a container that another OCI runtime makes needs
// that runtime. The program has to be built with the tags
// containers_image_openpgp and exclude_graphdriver_btrfs, or with what these
// stand for (gpgme, libbtrfs) and cgo. Its umask is 022, to which the command sets
// its own: with a stricter one containers' ordinary users may not read what is
// made for them, nor those of other tools the images.
//
// # Configuration
//
// Create takes what containers.conf says wherever a [cove.ContainerSpec] says
// nothing: limits, variables, namespaces, the log driver, networks. What a spec cannot be silent
// about (a switch is on or off) and what takes from the caller (his variables, the
// directory that a relative volume is below) is in [Engine.Defaults], for
// programs that want it. A container keeps what was said when it was made.
// [Engine.Reload] reads the files again. The variables of [engine] env are the process's
// until Reload finds others or the last engine is closed; what it has from elsewhere stays.
//
// # Errors
//
// Errors are [cove.Error]s: [cove.KindOf] tells what a caller can decide by, the
// text is for people.
//
// # What is promised
//
// From version 1 on, what this package and the root package export keeps its
// meaning within a major version: methods, struct fields and kinds of error are
// added, not changed or taken away, and a zero value of a new field does what was done
// before there was one; name fields when writing a struct. Before version 1 a
// change is told in the release notes. testdata/api.txt is the list that the
// promise is about, and a test compares it. Records on the disk are promised
// apart (docs/format.md): any release reads what an older one has written.
// Everything below internal/ may change at any time.
package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cdi"
	"github.com/cove-engine/cove/internal/config"
	"github.com/cove-engine/cove/internal/engine"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/library"
	"github.com/cove-engine/cove/internal/rootless"
	"github.com/cove-engine/cove/internal/state/memory"
	"github.com/cove-engine/cove/internal/state/sqlite"
	"github.com/cove-engine/cove/internal/wiring"
)

// Init must be the first thing that main does: the storage library unpacks
// layers in children that are the same program. It tells whether this is such a
// child and has done its work; main returns at once then.
func Init() bool { return library.Reexec() }

// Options say which engine to open. The zero value is the one that the cove
// command opens without flags: what the ecosystem's files (containers.conf,
// storage.conf) and their environment variables say. A field that is set
// overrides them, also after [Engine.Reload].
type Options struct {
	Root           string   // graph root: images, and below cove/ all that must not be lost
	RunRoot        string   // what may be lost with a reboot
	StorageDriver  string   // overlay
	StorageOptions []string // "overlay.mountopt=nodev"; replace storage.conf's
	ImageStore     string   // a graph root for images only
	Transient      *bool    // containers, and all that is recorded, are this boot's alone; nil: as storage.conf says
	VolumePath     string   // where named volumes are
	CgroupManager  string   // cgroupfs or systemd
	Modules        []string // containers.conf modules, by name or path
	HooksDirs      []string // of OCI hooks, later ones count more
	CDISpecDirs    []string // of CDI specifications, later ones count more

	// ContainersConf, StorageConf and RegistriesConf are files to read in place
	// of those in the usual places and their drop-ins; /dev/null is an empty
	// one. They are the environment variables CONTAINERS_CONF,
	// CONTAINERS_STORAGE_CONF and CONTAINERS_REGISTRIES_CONF, which the
	// ecosystem's libraries and the programs that are started look at: from
	// Open to Close they are set in this process, and all engines that it has
	// open at once must agree.
	ContainersConf, StorageConf, RegistriesConf string

	// WithoutImages leaves the image store alone: containers have a root file
	// system of their own (ContainerSpec.Rootfs), image verbs fail with
	// Unsupported.
	WithoutImages bool
	// Runtime is the OCI runtime of containers made from now on, by name or
	// path, native is cove's own; RuntimeFlags are its global arguments
	// without their dashes.
	Runtime      string
	RuntimeFlags []string
	// Monitor is what watches containers made from now on: native is cove's own,
	// conmon one that is looked for, else it is a path of it. conmon runs cove
	// when a container ends, which must be in PATH then.
	Monitor string
	// State is where records are kept: boltdb, sqlite or memory. Records in
	// memory are no other program's to see and end with the engine: [Engine.Close]
	// removes what they are about. A program that is killed before leaves it;
	// an engine with other records on the same root, which would not know of
	// them, is refused as long as there is a store file.
	State string
	// Locks is the kind of locks, file or shm. All programs that use a root at the
	// same time must agree.
	Locks string
	// Events is the events logger: file, journald or none.
	Events string
}

// Engine is an open engine. Its methods may be called from any goroutine, and
// any number of processes may have engines on the same root.
type Engine struct {
	options Options
	memory  *memory.Store // nil with a store on disk
	current atomic.Pointer[generation]
	// reloading is held by Reload.
	reloading sync.Mutex
	// unset ends what the options' configuration files are to this process.
	unset func()
}

// generation is the engine between two reloads. Calls go on with the one that
// they began with.
type generation struct {
	*engine.Engine
	conf   *config.Config
	images *library.Store // nil without
	closed bool           // nothing is to be had of it
}

// Open opens an engine. It makes nothing on disk; a broken configuration file is an
// error of kind Invalid that names it.
func Open(o Options) (_ *Engine, err error) {
	const op = "open engine"
	if os.Geteuid() != 0 {
		return nil, cove.E(op, "", cove.Denied, errors.New("an ordinary user's program has to run in his namespace: start it by cove unshare"))
	}
	// As root nothing is entered; this finds out whose root it is.
	if err := rootless.Enter(func(string) {}, func() {}); err != nil {
		return nil, err
	}
	e := &Engine{options: o}
	switch o.State {
	case "", "boltdb", "sqlite":
	case "memory":
		e.memory = memory.Open()
	default:
		return nil, cove.E(op, "", cove.Invalid, fmt.Errorf("state %q is none of boltdb, sqlite, memory", o.State))
	}
	if e.unset, err = setFiles(o); err != nil {
		return nil, err
	}
	next, err := e.load()
	if err != nil {
		e.unset()
		return nil, err
	}
	library.Forget() // as another engine has found it, earlier in this process
	e.current.Store(next)
	return e, nil
}

// load makes an engine of what the files say now.
func (e *Engine) load() (*generation, error) {
	o := e.options
	_, _, user := rootless.User()
	overrides := config.Overrides{
		GraphRoot: o.Root, RunRoot: o.RunRoot, Driver: o.StorageDriver, ImageStore: o.ImageStore, Transient: o.Transient, DriverOptions: o.StorageOptions,
		VolumePath: o.VolumePath, CgroupManager: o.CgroupManager, HooksDirs: o.HooksDirs, CDISpecDirs: o.CDISpecDirs, Conmon: o.Monitor,
		EventsBackend: o.Events, Runtime: o.Runtime, RuntimeFlags: o.RuntimeFlags, DBBackend: o.State, LockType: o.Locks, Modules: o.Modules,
		Rootless: user,
	}
	conf, err := config.Load(overrides)
	if err != nil {
		return nil, err
	}
	g := &generation{conf: conf}
	build := wiring.Build{
		Images: func(conf *config.Config, o image.Options) image.Images {
			if e.options.WithoutImages {
				return withoutImages(errNoImages)
			}
			g.images = library.OpenRead(o, conf.Storage)
			return g.images
		},
		SQLite: sqlite.Open,
		CDI:    cdi.Inject,
		Memory: e.memory,
	}
	g.Engine, err = build.Engine(conf)
	return g, err
}

// Reload reads containers.conf, storage.conf and registries.conf again;
// policy.json and credentials are read whenever they are needed. Calls that have
// begun go on with what was read before; running containers keep what they were
// started with. It fails, and everything stays as it was, when a file is broken
// (Invalid) or wants what only another engine can have: other directories,
// another storage driver or back end, other locks (InUse).
func (e *Engine) Reload() (err error) {
	e.reloading.Lock()
	defer e.reloading.Unlock()
	old, err := e.opened()
	if err != nil {
		return err
	}
	var next *generation
	defer func() {
		is := old
		if err == nil {
			is = next
		}
		err = errors.Join(err, config.SetEnv(is.conf.File.Engine.Env.Get()))
	}()
	next, err = e.load()
	if err != nil {
		return err
	}
	is := next.fixed()
	for what, was := range old.fixed() {
		if is[what] != was {
			return cove.E("reload configuration", what, cove.InUse, fmt.Errorf("it is %q and cannot become %q while the engine is open", was, is[what]))
		}
	}
	if next.images != nil {
		if err := next.images.Replace(old.images); err != nil {
			return err
		}
	}
	e.current.Store(next)
	return nil
}

var errClosed = cove.E("use engine", "", cove.Invalid, errors.New("it is closed"))

// now is the engine as of the last reload.
func (e *Engine) now() *generation { return e.current.Load() }

// opened is now; an error when the engine is closed. It is for what would succeed
// without the records.
func (e *Engine) opened() (*generation, error) {
	g := e.now()
	if g.closed {
		return nil, errClosed
	}
	return g, nil
}

// fixed is what cannot change in an open engine.
func (g *generation) fixed() map[string]string {
	locks, _ := g.conf.LockType()
	return map[string]string{
		"graph root": g.conf.GraphRoot, "run root": g.conf.RunRoot, "volume_path": g.conf.Volumes(), "storage driver": g.conf.Driver,
		"database_backend": g.conf.File.Engine.DBBackend, "lock_type": locks, "imagestore": g.conf.ImageStore,
		"transient_store": fmt.Sprint(g.conf.Transient),
	}
}

// Close ends the engine. Containers run on and are there for the next one, unless
// their records are kept in memory: then they are removed with all that is
// theirs, before ctx ends. Calls that have begun go on; those that come afterwards
// fail, with an error of kind Invalid, but for another Close, which does nothing.
func (e *Engine) Close(ctx context.Context) error {
	e.reloading.Lock()
	defer e.reloading.Unlock()
	g := e.now()
	if g.closed {
		return nil
	}
	closed := &generation{conf: g.conf, closed: true}
	build := wiring.Build{Images: func(*config.Config, image.Options) image.Images { return withoutImages(errClosed) }, Closed: errClosed}
	var err error
	if closed.Engine, err = build.Engine(g.conf); err != nil {
		return err
	}
	e.current.Store(closed)
	if e.memory != nil {
		if err = g.Reset(ctx); err != nil {
			e.current.Store(g) // to be closed once more
			return err
		}
	}
	if g.images != nil {
		g.images.Close()
	}
	e.unset()
	return err
}
