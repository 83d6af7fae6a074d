package config

import (
	"bytes"
	"io"
	"path/filepath"
	"slices"

	"github.com/BurntSushi/toml"
	"go.podman.io/storage/pkg/configfile"
	"go.podman.io/storage/pkg/unshare"
	"go.podman.io/storage/types"
	"golang.org/x/sys/unix"
)

// unusedStorage are the keys of storage.conf that the library does not know, which
// passes over them: a mount option under a misspelt name confines nobody. Every
// key that it knows acts, is refused by what would have used it, or speaks of what
// cove does not have; which, is said by the test of all of them. But a mount
// program is told of: layers are as it wants them, and it is not run.
func unusedStorage() []Key {
	var all []Key
	files := &configfile.File{Name: "storage", Extension: "conf", EnvironmentName: "CONTAINERS_STORAGE_CONF", UserId: unshare.GetRootlessUID()}
	for file, err := range configfile.Read(files) {
		if err != nil {
			return all // Load has failed on it
		}
		text, err := io.ReadAll(io.LimitReader(file.Reader, maxFile))
		if err != nil {
			return all
		}
		conf := new(types.TomlConfig)
		meta, err := toml.NewDecoder(bytes.NewReader(withoutComments(text))).Decode(conf)
		if err != nil {
			return all
		}
		for _, key := range []struct{ name, value string }{
			{"storage.options.mount_program", conf.Storage.Options.MountProgram},
			{"storage.options.overlay.mount_program", conf.Storage.Options.Overlay.MountProgram},
		} {
			if key.value != "" {
				all = append(all, Key{Name: key.name, File: file.Name, Line: lineOf(file.Name, key.name), Known: true})
			}
		}
		for _, key := range meta.Undecoded() {
			if name := key.String(); meta.Type(key...) != "Hash" {
				all = append(all, Key{Name: name, File: file.Name, Line: lineOf(file.Name, name)})
			}
		}
	}
	return all
}

// drivers are the storage library's that cove can use.
var drivers = []string{"overlay", "vfs", "btrfs"}

// storageDriver is the driver where none is named: the first of storage.conf's
// driver_priority that there is, as the library would try them.
func storageDriver(priority []string, graphRoot string) string {
	for _, d := range priority {
		if d == "overlay2" {
			d = "overlay"
		}
		if slices.Contains(drivers, d) && (d != "btrfs" || onBtrfs(graphRoot)) {
			return d
		}
	}
	return drivers[0]
}

// onBtrfs looks at the nearest directory that there is.
func onBtrfs(dir string) bool {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	for err == unix.ENOENT && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		err = unix.Statfs(dir, &st)
	}
	return err == nil && st.Type == unix.BTRFS_SUPER_MAGIC
}
