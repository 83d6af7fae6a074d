// Package config finds out where everything is and what the ecosystem's
// configuration files (containers.conf, storage.conf) say, through the
// field's own library, and lays the command line's global flags over it.
package config

import (
	"bufio"
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	conf "go.podman.io/common/pkg/config"
	"go.podman.io/storage/pkg/configfile"
	"go.podman.io/storage/pkg/unshare"
	"go.podman.io/storage/types"

	"github.com/cove-engine/cove"
)

// Overrides are the global flags; empty ones leave the files' word.
type Overrides struct {
	GraphRoot, RunRoot, Driver, ImageStore string
	DriverOptions                          []string
	VolumePath, NetworkConfigDir           string
	CgroupManager, EventsBackend, Runtime  string
	RuntimeFlags                           []string
	HooksDirs, CDISpecDirs                 []string
	DBBackend, LockType                    string
	Modules                                []string
	// Rootless says that the caller is an ordinary user, in his namespace.
	Rootless bool
}

// Config is what rules one engine.
type Config struct {
	// File is containers.conf with all its drop-ins.
	File *conf.Config

	GraphRoot, RunRoot, Driver, ImageStore string
	DriverOptions                          []string

	// RuntimeFlags are global arguments for OCI runtimes, without their dashes.
	RuntimeFlags []string

	Rootless bool

	hooksDirs []string

	modules  []string
	runtime  string
	lockType string
	keysOnce sync.Once
	keys     map[string]bool
	keysErr  error
}

// Load reads the files. A broken one is an error of kind Invalid that names
// the file and, where the format allows, the line.
func Load(o Overrides) (*Config, error) {
	file, err := conf.New(&conf.Options{Modules: o.Modules})
	if err != nil {
		return nil, cove.E("read configuration", "", cove.Invalid, oneLine{err})
	}
	so, err := types.LoadStoreOptions(types.LoadOptions{})
	if err != nil {
		return nil, cove.E("read storage.conf", "", cove.Invalid, oneLine{err})
	}
	c := &Config{
		File: file, GraphRoot: so.GraphRoot, RunRoot: so.RunRoot, Driver: so.GraphDriverName,
		ImageStore: so.ImageStore, DriverOptions: so.GraphDriverOptions, Rootless: o.Rootless, modules: o.Modules,
		runtime: o.Runtime, lockType: o.LockType, RuntimeFlags: o.RuntimeFlags, hooksDirs: o.HooksDirs,
	}
	for _, set := range []struct {
		to   *string
		from string
	}{
		{&c.GraphRoot, o.GraphRoot}, {&c.RunRoot, o.RunRoot}, {&c.Driver, o.Driver}, {&c.ImageStore, o.ImageStore},
		{&file.Engine.VolumePath, o.VolumePath}, {&file.Network.NetworkConfigDir, o.NetworkConfigDir},
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
		c.Driver = "overlay"
	}
	for _, p := range []*string{&c.GraphRoot, &c.RunRoot} {
		if *p, err = filepath.Abs(*p); err != nil {
			return nil, cove.E("find "+*p, "", cove.Internal, err)
		}
	}
	return c, nil
}

// oneLine prints an error of many lines in one.
type oneLine struct{ err error }

func (o oneLine) Error() string { return strings.Join(strings.Fields(o.err.Error()), " ") }
func (o oneLine) Unwrap() error { return o.err }

// Home is cove's own directory under the graph root: all that must not be
// lost.
func (c *Config) Home() string { return filepath.Join(c.GraphRoot, "cove") }

// Scratch is cove's directory under the run root: sockets and what else can
// be made again.
func (c *Config) Scratch() string { return filepath.Join(c.RunRoot, "cove") }

// Containers holds one directory per container, named by its ID.
func (c *Config) Containers() string { return filepath.Join(c.Home(), "containers") }

// LockType is containers.conf's lock_type where somebody has set it, else
// "file": the library's own default is "shm", which it does not tell from
// somebody's wish.
func (c *Config) LockType() (string, error) {
	t, asked := c.File.Engine.LockType, c.lockType != ""
	if asked {
		t = c.lockType
	}
	switch t {
	case "file":
		return t, nil
	case "shm":
		if asked {
			return t, nil
		}
		set, err := c.mentions("lock_type")
		if err != nil || !set {
			return "file", err
		}
		return t, nil
	}
	return "", cove.E("read containers.conf", "lock_type", cove.Invalid, fmt.Errorf("%q is neither file nor shm", t))
}

// HooksDirs are the directories of OCI hooks, of which later ones count more:
// those of the command line, of containers.conf, or the two that are meant where
// nobody has named any, oci-hooks(5). The library's default is one of these.
func (c *Config) HooksDirs() []string {
	if len(c.hooksDirs) > 0 {
		return c.hooksDirs
	}
	dirs := c.File.Engine.HooksDir.Get()
	if slices.Equal(dirs, conf.DefaultHooksDirs) {
		dirs = append(slices.Clone(dirs), "/etc/containers/oci/hooks.d")
	}
	return dirs
}

// OCIRuntime is the OCI runtime of containers made from now on, by name or
// path; "" is cove's own, which is also called native. The library's word for
// no word, the first that it finds, is not taken for one.
func (c *Config) OCIRuntime() (name string, err error) {
	if name = c.runtime; name == "" {
		named, err := c.mentions("runtime")
		if err != nil {
			return "", err
		}
		if named {
			name = c.File.Engine.OCIRuntime
		}
	}
	if name == "native" || name == "cove" {
		name = ""
	}
	return name, nil
}

// mentions tells whether a key is set in one of containers.conf's files. They
// have been parsed by now: parsing them again would take as long as all else.
func (c *Config) mentions(key string) (bool, error) {
	c.keysOnce.Do(func() { c.keys, c.keysErr = readKeys(c.modules) })
	return c.keys[key], c.keysErr
}

// readKeys gives the keys that are set, of whatever table.
func readKeys(modules []string) (map[string]bool, error) {
	keys := map[string]bool{}
	files := &configfile.File{Name: "containers", Extension: "conf", EnvironmentName: "CONTAINERS_CONF", UserId: unshare.GetRootlessUID(), Modules: modules}
	for file, err := range configfile.Read(files) {
		if err != nil {
			return nil, cove.E("read containers.conf", "", cove.Invalid, oneLine{err})
		}
		lines := bufio.NewScanner(file.Reader)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if name, _, is := bytes.Cut(lines.Bytes(), []byte("=")); is && !bytes.HasPrefix(name, []byte("#")) {
				keys[string(bytes.Trim(name, " \t\"'"))] = true
			}
		}
		if err := lines.Err(); err != nil {
			return nil, cove.E("read", file.Name, cove.Invalid, err)
		}
	}
	return keys, nil
}

// Locks is where the lock manager keeps what it keeps, for all objects.
func (c *Config) Locks() string { return filepath.Join(c.Home(), "locks") }

// Removed holds the directory, or what is left of it, of each container whose
// monitor has carried out its --rm, until the next write transaction drops the
// record.
func (c *Config) Removed() string { return filepath.Join(c.Home(), "removed") }

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
		return filepath.Join(c.Home(), "volumes")
	}
	return p
}

// EventLog is the file of the file back end of events.
func (c *Config) EventLog() string {
	if p := c.File.Engine.EventsLogFilePath; p != "" {
		return p
	}
	return filepath.Join(c.Home(), "events.log")
}
