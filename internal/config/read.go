package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/BurntSushi/toml"
	conf "go.podman.io/common/pkg/config"
	"go.podman.io/storage/pkg/configfile"
	"go.podman.io/storage/pkg/unshare"

	"github.com/cove-engine/cove"
)

const containersEnv = "CONTAINERS_CONF"

// read gives containers.conf with all its drop-ins, the files in their order, for each key that one of
// them sets the last one that does, and the keys that the library has no place for.
// The library's own reading would not tell the keys, and takes three times as long:
// what distributions install is 700 lines of comment, and its parser is not made
// for them.
func read(modules []string) (c *conf.Config, files []string, set map[string]string, more beside, err error) {
	if _, err := unshare.HomeDir(); err != nil {
		// Neither HOME nor a line in /etc/passwd: the libraries would give up
		// the search for the user's own files.
		_ = os.Setenv("HOME", "/")
	}
	if c, err = defaults(); err != nil {
		return nil, nil, nil, more, cove.E("read configuration", "", cove.Invalid, oneLine{err})
	}
	set = map[string]string{}
	var invalid error
	var culprit string // the first file with a value that is none
	for file, err := range layers(modules) {
		if err == nil {
			err = decode(file, c, set, &more)
		}
		if err != nil {
			return nil, nil, nil, more, cove.E("read configuration", "", cove.Invalid, oneLine{fmt.Errorf("parsing containers.conf: %w", err)})
		}
		files = append(files, file.Name)
		// A later file may put right what an earlier one has wrong.
		switch invalid = c.Validate(); {
		case invalid == nil:
			culprit = ""
		case culprit == "":
			culprit = file.Name
		}
	}
	if invalid != nil {
		return nil, nil, nil, more, cove.E("read configuration", culprit, cove.Invalid, oneLine{invalid})
	}
	if err := setEnv(c.Engine.Env.Get(), false); err != nil {
		return nil, nil, nil, more, cove.E("read configuration", "env", cove.Invalid, err)
	}
	return c, files, set, more, nil
}

// engineEnv is what SetEnv has made of this process's environment.
var engineEnv struct {
	sync.Mutex
	put map[string]string
}

// SetEnv gives this process the variables of [engine] env, NAME=value, but for those that
// it has from elsewhere, and takes back those from other readings that are not among them:
// Load takes none back, which another engine of the process may have.
func SetEnv(env []string) error { return setEnv(env, true) }

func setEnv(env []string, takeBack bool) error {
	wanted := map[string]string{}
	for _, text := range env {
		name, value, ok := strings.Cut(text, "=")
		if _, twice := wanted[name]; ok && name != "" && !twice {
			wanted[name] = value
		}
	}
	engineEnv.Lock()
	defer engineEnv.Unlock()
	var errs []error
	for name, put := range engineEnv.put {
		value, is := os.LookupEnv(name)
		_, stays := wanted[name]
		switch {
		case !is || value != put: // the program has changed it: it is the program's
			delete(engineEnv.put, name)
		case takeBack && !stays:
			delete(engineEnv.put, name)
			errs = append(errs, os.Unsetenv(name))
		}
	}
	for name, value := range wanted {
		_, given := os.LookupEnv(name)
		if _, ours := engineEnv.put[name]; given && !ours {
			continue
		}
		if err := os.Setenv(name, value); err != nil {
			errs = append(errs, err)
			continue
		}
		if engineEnv.put == nil {
			engineEnv.put = map[string]string{}
		}
		engineEnv.put[name] = value
	}
	return errors.Join(errs...)
}

// systemdRuns is there when systemd is the init: sd_booted(3).
const systemdRuns = "/run/systemd/system"

// defaults are the library's, without any file.
func defaults() (*conf.Config, error) {
	first, err := libraryDefaults()
	if err != nil {
		return nil, err
	}
	// What files are decoded into in place must not be the original.
	c := *first
	if _, err := os.Lstat(systemdRuns); err == nil {
		// As the library's own default, which it has with cgo alone.
		c.Engine.CgroupManager = conf.SystemdCgroupsManager
	}
	c.Network.DefaultSubnetPools = slices.Clone(c.Network.DefaultSubnetPools)
	for i := range c.Network.DefaultSubnetPools {
		base := *c.Network.DefaultSubnetPools[i].Base
		c.Network.DefaultSubnetPools[i].Base = &base
	}
	for _, m := range []*map[string][]string{&c.Engine.OCIRuntimes, &c.Engine.OCIRuntimesFlags, &c.Farms.List} {
		*m = maps.Clone(*m)
	}
	for _, m := range []*map[string]string{&c.Engine.PlatformToOCIRuntime, &c.Engine.VolumePlugins, &c.Secrets.Opts, &c.ConfigMaps.Opts} {
		*m = maps.Clone(*m)
	}
	c.Engine.ServiceDestinations = maps.Clone(c.Engine.ServiceDestinations)
	return &c, nil
}

// libraryDefaults asks the library once in a process's life: it has no other
// door to them than one that reads what an environment variable names.
var libraryDefaults = sync.OnceValues(func() (*conf.Config, error) {
	for _, name := range []string{containersEnv, containersEnv + "_OVERRIDE"} {
		if value, was := os.LookupEnv(name); was {
			defer os.Setenv(name, value)
		} else {
			defer os.Unsetenv(name)
		}
	}
	if err := errors.Join(os.Setenv(containersEnv, os.DevNull), os.Unsetenv(containersEnv+"_OVERRIDE")); err != nil {
		return nil, err
	}
	return conf.New(nil)
})

// beside are keys that the library has no place for: cove's own, and one of podman
// 5's that it has left out since.
type beside struct {
	Engine struct {
		Monitor        string `toml:"monitor"`
		NetworkCmdPath string `toml:"network_cmd_path"`
	} `toml:"engine"`
}

// maxFile bounds a configuration file, in bytes.
const maxFile = 4 << 20

// decode lays one file over c, and notes the keys that it sets.
func decode(file *configfile.Item, c *conf.Config, set map[string]string, more *beside) error {
	text, err := io.ReadAll(io.LimitReader(file.Reader, maxFile+1))
	if err != nil {
		return err
	}
	if len(text) > maxFile {
		return fmt.Errorf("%q is larger than %d bytes", file.Name, maxFile)
	}
	meta, err := toml.NewDecoder(bytes.NewReader(withoutComments(text))).Decode(c)
	if err != nil {
		return fmt.Errorf("decode configuration %q: %w", file.Name, err)
	}
	for _, key := range meta.Keys() {
		switch table := meta.Type(key...) == "Hash"; {
		case len(key) > 2, len(key) == 2 && !table: // an empty table, as distributions' files have, says nothing
			set[key[0]+"."+key[1]] = file.Name
		case !table: // before the first table, where none is known
			set[key[0]] = file.Name
		}
	}
	if set["engine.monitor"] == file.Name || set["engine.network_cmd_path"] == file.Name {
		if _, err := toml.NewDecoder(bytes.NewReader(text)).Decode(more); err != nil {
			return fmt.Errorf("decode configuration %q: %w", file.Name, err)
		}
	}
	return nil
}

// lineOf finds where a file sets a key, 0 where that cannot be told: as podman's
// documentation writes it, in its table, or with the table as the key's beginning.
func lineOf(file, key string) int {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	table, n := "", 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "["); ok && strings.Contains(name, "]") {
			table, _, _ = strings.Cut(strings.TrimLeft(name, "["), "]")
			if table = strings.Join(strings.Fields(table), ""); table == key {
				return n
			}
			continue
		}
		name, _, set := strings.Cut(line, "=")
		if name = strings.Trim(strings.TrimSpace(name), "\"'"); table != "" {
			name = table + "." + name
		}
		if set && (name == key || strings.HasPrefix(name, key+".")) {
			return n
		}
	}
	return 0
}

// withoutComments empties the lines that are comments, so that errors still tell
// the right line. Text of several lines may hold what looks like a comment.
func withoutComments(text []byte) []byte {
	if bytes.Contains(text, []byte(`"""`)) || bytes.Contains(text, []byte(`'''`)) {
		return text
	}
	out := make([]byte, 0, len(text))
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(bytes.TrimLeft(line, " \t"), []byte("#")) {
			line = line[len(line)-1:] // the newline, or the last character of all
			if line[0] != '\n' {
				break
			}
		}
		out = append(out, line...)
	}
	return out
}
