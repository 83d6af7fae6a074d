package cli

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// Globals are the flags before the command: which engine to open. An empty
// field leaves the choice to the configuration files.
type Globals struct {
	Root           string   // graph root
	RunRoot        string   // run root
	StorageDriver  string   // overlay, vfs …
	StorageOpts    []string // key=value
	StorageOptsSet bool     // --storage-opt was given, even empty
	ImageStore     string   // a separate image store
	Transient      *bool    // containers are this boot's alone; nil leaves it to storage.conf
	LogLevel       string   // trace … panic
	CgroupManager  string   // cgroupfs or systemd
	Runtime        string   // OCI runtime by name or path
	RuntimeFlags   []string // global flags for it
	HooksDirs      []string // of OCI hooks
	CDISpecDirs    []string
	Conmon         string // its path, to be the monitor of containers made from now on
	EventsBackend  string // file, journald or none
	DBBackend      string // state store
	NetworkBackend string
	VolumePath     string
	Config         string // directory of authentication files
	Modules        []string
	MountsFile     string // in place of every mounts.conf
}

// flags declares the global flags. What g holds already stays the default, so
// that they may be given before the command and after it.
func (g *Globals) flags(fs *pflag.FlagSet) {
	fs.StringVar(&g.Root, "root", g.Root, "Path to the graph root directory where images, containers, etc. are stored")
	fs.StringVar(&g.RunRoot, "runroot", g.RunRoot, "Path to the 'run directory' where all state information is stored")
	fs.StringVar(&g.StorageDriver, "storage-driver", g.StorageDriver, "Select which storage driver is used to manage storage of images and containers")
	arrayVar(fs, &g.StorageOpts, "storage-opt", "", "Used to pass an option to the storage driver")
	fs.StringVar(&g.ImageStore, "imagestore", g.ImageStore, "Path to the 'image store', different from 'graph root', use this to split storing the image into a separate 'image store'")
	fs.BoolFunc("transient-store", "Enable transient container storage", func(v string) error {
		on, err := strconv.ParseBool(v)
		g.Transient = &on
		return err
	})
	fs.StringVar(&g.LogLevel, "log-level", cmp.Or(g.LogLevel, "warn"), "Log messages above specified level (trace, debug, info, warn, warning, error, fatal, panic)")
	arrayVar(fs, &g.CDISpecDirs, "cdi-spec-dir", "", "Set the CDI spec directory path (may be set multiple times)")
	fs.StringVar(&g.CgroupManager, "cgroup-manager", g.CgroupManager, `Cgroup manager to use ("cgroupfs"|"systemd")`)
	fs.StringVar(&g.Runtime, "runtime", g.Runtime, "Path to the OCI-compatible binary used to run containers")
	fs.StringVar(&g.Conmon, "conmon", g.Conmon, "Path of the conmon binary, which watches containers in place of cove's monitor")
	arrayVar(fs, &g.RuntimeFlags, "runtime-flag", "", "add global flags for the container runtime")
	arrayVar(fs, &g.HooksDirs, "hooks-dir", "", "Set the OCI hooks directory path (may be set multiple times)")
	fs.StringVar(&g.EventsBackend, "events-backend", g.EventsBackend, `Events backend to use ("file"|"journald"|"none")`)
	fs.StringVar(&g.DBBackend, "db-backend", g.DBBackend, `Database backend to use ("boltdb"|"sqlite")`)
	fs.StringVar(&g.NetworkBackend, "network-backend", g.NetworkBackend, "Network backend to use")
	fs.StringVar(&g.VolumePath, "volumepath", g.VolumePath, "Path to the volume directory in which volume data is stored")
	fs.StringVar(&g.Config, "config", g.Config, "Location of authentication config file directory")
	arrayVar(fs, &g.Modules, "module", "", "Load the containers.conf(5) module")
	fs.StringVar(&g.MountsFile, "default-mounts-file", g.MountsFile, "Path to default mounts file")
	for _, name := range []string{"network-backend", "default-mounts-file"} {
		fs.Lookup(name).Hidden = true
	}
	refuse(fs, unsupportedGlobals())
}

// logLevels are the values of --log-level.
var logLevels = [...]string{"trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"}

// check refuses values that no engine could be opened with.
func (g *Globals) check(fs *pflag.FlagSet) error {
	g.StorageOptsSet = g.StorageOptsSet || fs.Changed("storage-opt")
	if !slices.Contains(logLevels[:], strings.ToLower(g.LogLevel)) {
		return fmt.Errorf("log level %q is not supported, choose from: %s", g.LogLevel, strings.Join(logLevels[:], ", "))
	}
	if g.Runtime == "" && fs.Changed("runtime") {
		return errors.New("configuring runtime: must provide a valid path: invalid argument")
	}
	if m := g.CgroupManager; m != "" && m != "cgroupfs" && m != "systemd" {
		return fmt.Errorf("invalid cgroup manager %q: must be cgroupfs or systemd", m)
	}
	if b := g.EventsBackend; b != "" && b != "file" && b != "journald" && b != "none" {
		return fmt.Errorf("invalid events backend %q: must be file, journald or none", b)
	}
	// What cove does itself has netavark's files and answers.
	if b := g.NetworkBackend; b != "" && b != "netavark" {
		return fmt.Errorf("unsupported network backend: %q", b)
	}
	switch g.DBBackend {
	case "", "boltdb", "sqlite":
	case "memory":
		return errors.New(`database backend "memory" ends with the command: it is for programs that use cove's engine, want boltdb or sqlite`)
	default:
		return fmt.Errorf("unsupported database backend: %q", g.DBBackend)
	}
	return nil
}

// unsupportedGlobals are podman's and docker's global flags that cove lacks.
func unsupportedGlobals() []unsupported {
	return []unsupported{
		{name: "connection"}, {name: "context"}, {name: "cpu-profile"},
		{name: "host"}, {name: "identity"}, {name: "memory-profile"},
		{name: "namespace"}, {name: "network-cmd-path"}, {name: "network-config-dir"}, {name: "no-pivot"}, {name: "noout", bool: true}, {name: "out"},
		{name: "pull-option"}, {name: "registries-conf"}, {name: "remote", bool: true, accept: []string{"false"}},
		{name: "rdt-class"}, {name: "ssh"}, {name: "syslog", bool: true, accept: []string{"false"}},
		{name: "tls-ca"}, {name: "tls-cert"}, {name: "tls-key"}, {name: "tmpdir"}, {name: "trace", bool: true, accept: []string{"false"}},
		{name: "url"},
	}
}
