// Package config finds out where everything is and what the ecosystem's
// configuration files (containers.conf, storage.conf) say, through the
// field's own library, and lays the command line's global flags over it.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	conf "go.podman.io/common/pkg/config"
	"go.podman.io/storage/types"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/procfs"
)

// Overrides are the global flags; empty ones leave the files' word.
type Overrides struct {
	GraphRoot, RunRoot, Driver, ImageStore string
	DriverOptions                          []string
	VolumePath                             string
	CgroupManager, EventsBackend, Runtime  string
	RuntimeFlags                           []string
	HooksDirs, CDISpecDirs                 []string
	Conmon                                 string
	Transient                              *bool // nil leaves storage.conf's word
	DBBackend, LockType                    string
	Modules                                []string
	MountsFile                             string // in place of every mounts.conf
	// Rootless says that the caller is an ordinary user, in his namespace.
	Rootless bool
}

// Config is what rules one engine.
type Config struct {
	// File is containers.conf with all its drop-ins.
	File *conf.Config

	GraphRoot, RunRoot, Driver, ImageStore string
	DriverOptions                          []string

	// Transient says that containers, and all that is recorded, are this
	// boot's alone: storage.conf's transient_store.
	Transient bool

	// Lasting says that no layer may be lost with the machine's power, not even
	// one to be removed: storage.conf's disable-volatile.
	Lasting bool

	// RuntimeFlags are global arguments for OCI runtimes, without their dashes.
	RuntimeFlags []string

	Rootless bool
	// Storage is what storage.conf says, under the flags.
	Storage types.StoreOptions
	// Files are those of containers.conf in the order in which each is laid over
	// those before.
	Files []string

	flags Overrides
	// beside are the keys that File has no place for.
	beside beside
	// set are the keys that containers.conf's files set, by the file that does.
	set map[string]string
	// passedOver are directories of the environment's that are another user's.
	passedOver []string
	// GiveBack has the environment be as it was before they were passed over, for a
	// program that takes this one's place and is to see them, too.
	GiveBack func()
}

// Load reads the files. A broken one is an error of kind Invalid that names
// the file and, where the format allows, the line.
func Load(o Overrides) (*Config, error) {
	others, back := ownFiles()
	file, files, set, more, err := read(o.Modules)
	if err != nil {
		return nil, err
	}
	so, err := storeOptions()
	if err != nil {
		return nil, cove.E("read storage.conf", "", cove.Invalid, oneLine{err})
	}
	c := &Config{
		File: file, GraphRoot: so.GraphRoot, RunRoot: so.RunRoot, Driver: so.GraphDriverName,
		ImageStore: so.ImageStore, DriverOptions: so.GraphDriverOptions, Rootless: o.Rootless, Storage: so, Files: files,
		set: set, beside: more, flags: o, RuntimeFlags: o.RuntimeFlags, Transient: so.TransientStore, Lasting: so.DisableVolatile,
		passedOver: others, GiveBack: back,
	}
	if o.Transient != nil {
		c.Transient = *o.Transient
	}
	if c.Transient && procfs.BootID() == "" {
		return nil, cove.E("open store", "transient_store", cove.Unsupported, errors.New("the kernel does not tell which boot this is"))
	}
	for _, set := range []struct {
		to   *string
		from string
	}{
		{&c.GraphRoot, o.GraphRoot}, {&c.RunRoot, o.RunRoot}, {&c.Driver, o.Driver}, {&c.ImageStore, o.ImageStore},
		{&file.Engine.VolumePath, o.VolumePath},
		{&file.Engine.CgroupManager, o.CgroupManager}, {&file.Engine.EventsLogger, o.EventsBackend},
		{&file.Engine.DBBackend, o.DBBackend},
	} {
		if set.from != "" {
			*set.to = set.from
		}
	}
	if len(o.CDISpecDirs) > 0 {
		file.Engine.CdiSpecDirs.Set(o.CDISpecDirs)
	}
	if o.DriverOptions != nil {
		c.DriverOptions = o.DriverOptions
	}
	if c.Driver == "" {
		c.Driver = storageDriver(so.GraphDriverPriority, c.GraphRoot)
	}
	for _, p := range []*string{&c.GraphRoot, &c.RunRoot} {
		if *p, err = filepath.Abs(*p); err != nil {
			return nil, cove.E("find "+*p, "", cove.Internal, err)
		}
	}
	return c, c.checkValues()
}

var loadedOnce atomic.Bool

// storeOptions reads storage.conf, which containers.conf's defaults have just
// done when it is the first time.
func storeOptions() (types.StoreOptions, error) {
	if loadedOnce.CompareAndSwap(false, true) {
		return types.DefaultStoreOptions()
	}
	return types.LoadStoreOptions(types.LoadOptions{})
}

// oneLine prints an error of many lines in one.
type oneLine struct{ err error }

func (o oneLine) Error() string { return strings.Join(strings.Fields(o.err.Error()), " ") }
func (o oneLine) Unwrap() error { return o.err }

// Base is cove's own directory under the graph root, with what all its stores
// there share: the index of images and caches.
func (c *Config) Base() string { return filepath.Join(c.GraphRoot, "cove") }

// Home holds all that must not be lost: records, containers, locks. That of a
// transient store is named by the boot, so a new boot begins with an empty one.
// It is not under the run root, where podman keeps such records, because that may
// be swept away while containers run.
func (c *Config) Home() string {
	if c.Transient {
		return filepath.Join(c.Boots(), procfs.BootID())
	}
	return c.Base()
}

// Boots holds the homes of transient stores by boot, all but this one's being
// over, and volumes.
func (c *Config) Boots() string { return filepath.Join(c.Base(), "transient") }

// Beside is the configuration of the other store on this graph root: the
// transient one of a lasting one, and the reverse. They share the images.
func (c *Config) Beside() *Config {
	other := *c
	other.Transient = !c.Transient
	return &other
}

// Scratch is cove's directory under the run root: sockets and what else can
// be made again.
func (c *Config) Scratch() string { return filepath.Join(c.RunRoot, "cove") }

// Containers holds one directory per container, named by its ID.
func (c *Config) Containers() string { return filepath.Join(c.Home(), "containers") }

// LockType is containers.conf's lock_type where somebody has set it, else
// "file": the library's own default is "shm", which it does not tell from
// somebody's wish.
func (c *Config) LockType() (string, error) {
	t, asked := c.File.Engine.LockType, c.flags.LockType != ""
	if asked {
		t = c.flags.LockType
	}
	switch t {
	case "file":
		return t, nil
	case "shm":
		if !asked && !c.sets("engine.lock_type") {
			return "file", nil
		}
		return t, nil
	}
	return "", cove.E("read containers.conf", "lock_type", cove.Invalid, fmt.Errorf("%q is neither file nor shm", t))
}

// HooksDirs are the directories of OCI hooks, of which later ones count more:
// those of the command line, of containers.conf, or the two that are meant where
// nobody has named any, oci-hooks(5). The library's default is one of these.
func (c *Config) HooksDirs() []string {
	if len(c.flags.HooksDirs) > 0 {
		return c.flags.HooksDirs
	}
	dirs := c.File.Engine.HooksDir.Get()
	if slices.Equal(dirs, conf.DefaultHooksDirs) {
		dirs = append(slices.Clone(dirs), "/etc/containers/oci/hooks.d")
	}
	return dirs
}

// Monitor is what watches containers made from now on: "" is cove's own
// monitor, which is also called native, "conmon" one that is looked for, else a
// path of it. It is conmon where somebody has asked for it, by --conmon or by monitor = "conmon", which
// is cove's own key; that containers.conf tells where conmon is
// (conmon_path) asks for nothing, since podman's does.
func (c *Config) Monitor() (string, error) {
	if c.flags.Conmon != "" && c.flags.Conmon != "native" {
		return c.flags.Conmon, nil
	}
	switch name := cmp.Or(c.flags.Conmon, c.beside.Engine.Monitor); name {
	case "", "native", "cove":
		return "", nil
	case "conmon":
		return name, nil
	default:
		return "", cove.E("read containers.conf", "monitor", cove.Invalid, fmt.Errorf("%q is neither native nor conmon", name))
	}
}

// ConmonEnv is conmon_env_vars, where somebody has set it: the library's default
// is a PATH.
func (c *Config) ConmonEnv() []string {
	if !c.sets("engine.conmon_env_vars") {
		return nil
	}
	return c.File.Engine.ConmonEnvVars.Get()
}

// Slirp4netns is where network_cmd_path says that the program is, "" for
// nowhere in particular.
func (c *Config) Slirp4netns() string { return c.beside.Engine.NetworkCmdPath }

// Flags are the global flags with which another cove finds the same
// configuration.
func (c *Config) Flags() (args []string, err error) {
	o := c.flags
	args = []string{"--root", c.GraphRoot, "--runroot", c.RunRoot, fmt.Sprintf("--transient-store=%t", c.Transient)}
	for _, f := range []struct {
		name, value string
		path        bool
	}{
		{"storage-driver", o.Driver, false}, {"imagestore", o.ImageStore, true}, {"volumepath", o.VolumePath, true},
		{"cgroup-manager", o.CgroupManager, false},
		{"events-backend", o.EventsBackend, false}, {"runtime", o.Runtime, false}, {"db-backend", o.DBBackend, false},
		{"default-mounts-file", o.MountsFile, true},
	} {
		if f.value == "" {
			continue
		}
		if f.path {
			if f.value, err = filepath.Abs(f.value); err != nil {
				return nil, cove.E("find "+f.value, "", cove.Internal, err)
			}
		}
		args = append(args, "--"+f.name, f.value)
	}
	for _, list := range []struct {
		name   string
		values []string
	}{{"storage-opt", o.DriverOptions}, {"hooks-dir", o.HooksDirs}, {"cdi-spec-dir", o.CDISpecDirs}, {"runtime-flag", o.RuntimeFlags}, {"module", o.Modules}} {
		for _, v := range list.values {
			args = append(args, "--"+list.name, v)
		}
	}
	return args, nil
}

// MountOptions are storage.conf's mountopt, for containers' root file systems.
func (c *Config) MountOptions() []string {
	if o := c.StorageOption("mountopt"); o != "" {
		return strings.Split(o, ",")
	}
	return nil
}

// StorageOption is the last word on an option of the storage driver, which may
// be written with the driver's name before it.
func (c *Config) StorageOption(name string) string {
	for _, o := range slices.Backward(c.DriverOptions) {
		key, value, _ := strings.Cut(o, "=")
		if key[strings.LastIndexByte(key, '.')+1:] == name {
			return value
		}
	}
	return ""
}

// OCIRuntime is the OCI runtime, by name or path, of containers made from now
// on from an image for that platform; "" is cove's own, which is also called
// native. The library's word for no word, the first that it finds, is not taken
// for one.
func (c *Config) OCIRuntime(system, arch string) string {
	name := c.flags.Runtime
	if name == "" {
		name = c.File.Engine.PlatformToOCIRuntime[system+"/"+arch]
	}
	if name == "" && c.sets("engine.runtime") {
		name = c.File.Engine.OCIRuntime
	}
	if name == "native" || name == "cove" {
		return ""
	}
	return name
}

// Locks is where the lock manager keeps what it keeps, for all objects.
func (c *Config) Locks() string { return filepath.Join(c.Home(), "locks") }

// Removed holds the directory, or what is left of it, of each container whose
// monitor has carried out its --rm, until the next write transaction drops the
// record.
func (c *Config) Removed() string { return filepath.Join(c.Home(), "removed") }

// Aside is where the check puts what it cannot read.
func (c *Config) Aside() string { return filepath.Join(c.Home(), "aside") }

// Merged is an empty directory on which each container's root file system is
// mounted, in a mount namespace of the container's own.
func (c *Config) Merged() string { return filepath.Join(c.Home(), "merged") }

// UserNetwork is the file in which those who are in the network namespace of
// an ordinary user's bridges hold locks.
func (c *Config) UserNetwork() string { return filepath.Join(c.Home(), "network") }

// BoltFile and SQLiteFile are where the back ends keep the store; there is one
// of them.
func (c *Config) BoltFile() string   { return filepath.Join(c.Home(), "state.db") }
func (c *Config) SQLiteFile() string { return filepath.Join(c.Home(), "state.sqlite") }

// Volumes is where named volumes are: volume_path, unless it is the default:
// podman keeps its volumes there, under records that are its own; sharing the
// directories without the records would lose somebody's data.
func (c *Config) Volumes() string {
	p := c.File.Engine.VolumePath
	if p == "" || p == filepath.Join(c.GraphRoot, "volumes") || p == "/var/lib/containers/storage/volumes" || strings.HasSuffix(p, ".local/share/containers/storage/volumes") {
		return filepath.Join(c.volumesHome(), "volumes")
	}
	return p
}

// volumesHome is Home, but volumes outlive a transient store, as podman's do:
// whoever asks for one by its name finds its content again.
func (c *Config) volumesHome() string {
	if c.Transient {
		return c.Boots()
	}
	return c.Home()
}

// Volume is the directory of a volume. What only its record can name, such as
// all anonymous ones, goes with a transient store.
func (c *Config) Volume(name string) string {
	if c.Transient && len(name) == cove.IDLength && strings.Trim(name, "0123456789abcdef") == "" {
		return filepath.Join(c.OwnVolumes(), name)
	}
	return filepath.Join(c.Volumes(), name)
}

// OwnVolumes is where volumes are that have a record in this store: nobody else
// puts any there.
func (c *Config) OwnVolumes() string { return filepath.Join(c.Home(), "volumes") }

// EventLog is the file of the file back end of events.
func (c *Config) EventLog() string {
	if p := c.File.Engine.EventsLogFilePath; p != "" {
		return p
	}
	return filepath.Join(c.Home(), "events.log")
}
