package config

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.podman.io/storage/pkg/configfile"
	"go.podman.io/storage/pkg/unshare"
)

// layers gives containers.conf's files in the order in which podman 5 lays one
// over the other: the distribution's, the administrator's, the user's, each with
// its drop-ins by name; then modules and what CONTAINERS_CONF_OVERRIDE names.
// CONTAINERS_CONF stands for all before the modules. After an error nothing comes.
//
// The library's order is podman 6's: of the three files it reads one, so that a
// user's takes the administrator's limits away, and it sorts the drop-ins of all
// directories as one. Those directories that podman 5 does not know are read, too.
func layers(modules []string) iter.Seq2[*configfile.Item, error] {
	files := &configfile.File{Name: "containers", Extension: "conf", EnvironmentName: containersEnv, UserId: unshare.GetRootlessUID()}
	return func(yield func(*configfile.Item, error) bool) {
		files.Modules = modules
		paths, err := configfile.GetSearchPaths(files)
		if err != nil {
			yield(nil, err)
			return
		}
		named := os.Getenv(containersEnv) != ""
		for _, main := range slices.Backward(paths.MainFiles) {
			if !layer(main, named, yield) {
				return
			}
			for _, dir := range slices.Backward(paths.DropInDirectories) {
				if !strings.HasPrefix(dir, filepath.Dir(main)+"/") {
					continue
				}
				entries, err := os.ReadDir(dir) // sorted
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					yield(nil, err)
					return
				}
				for _, d := range entries {
					if !d.IsDir() && strings.HasSuffix(d.Name(), ".conf") && !layer(filepath.Join(dir, d.Name()), false, yield) {
						return
					}
				}
			}
		}
		for _, name := range modules {
			path, err := module(name, paths.ModuleDirectories)
			if err != nil {
				yield(nil, err)
				return
			}
			if !layer(path, true, yield) {
				return
			}
		}
		if paths.ExtraOverrideFile != "" {
			layer(paths.ExtraOverrideFile, true, yield)
		}
	}
}

// module finds one by its name: in the user's directory of modules, the
// administrator's or the distribution's. Root's are not looked for below HOME.
func module(name string, dirs []string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	user, err := configfile.UserConfigPath()
	if err != nil {
		return "", err
	}
	if unshare.GetRootlessUID() == 0 && user != "" {
		dirs = dirs[1:]
	}
	var missing error
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		_, err := os.Stat(path)
		if err == nil {
			return path, nil
		}
		missing = errors.Join(missing, err)
	}
	return "", fmt.Errorf("could not resolve module %q: %w", name, missing)
}

// layer passes a file on, which may be missing unless somebody has named it; false ends it all.
func layer(name string, named bool, yield func(*configfile.Item, error) bool) bool {
	name, err := filepath.Abs(name)
	if err != nil {
		yield(nil, err)
		return false
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return true
	}
	if err != nil {
		yield(nil, err)
		return false
	}
	defer f.Close()
	return yield(&configfile.Item{Reader: f, Name: name}, nil)
}
