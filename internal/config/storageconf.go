package config

import (
	"bytes"
	"io"
	"os"
	"os/exec"
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
				all = append(all, Key{Name: key.name, File: file.Name, Known: true})
			}
		}
		for _, key := range meta.Undecoded() {
			if name := key.String(); meta.Type(key...) != "Hash" {
				all = append(all, Key{Name: name, File: file.Name})
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
		if slices.Contains(drivers, d) && (d != "btrfs" || fsType(graphRoot) == unix.BTRFS_SUPER_MAGIC) && (d != "overlay" || overlays(graphRoot)) {
			return d
		}
	}
	if !overlays(graphRoot) {
		return "vfs"
	}
	return drivers[0]
}

// overlays tells whether the library's overlay keeps layers in a directory: over
// another overlay it takes fuse-overlayfs for it. What is kept there already by one
// driver alone is not lost from sight as that program comes and goes.
func overlays(dir string) bool {
	switch fsType(dir) {
	case unix.OVERLAYFS_SUPER_MAGIC, unix.ECRYPTFS_SUPER_MAGIC:
		_, overlay := os.Stat(filepath.Join(dir, "overlay-images"))
		_, vfs := os.Stat(filepath.Join(dir, "vfs-images"))
		if (overlay == nil) != (vfs == nil) {
			return overlay == nil
		}
		_, err := exec.LookPath("fuse-overlayfs")
		return err == nil
	}
	return true
}

// fsType is that of the nearest directory that there is.
func fsType(dir string) int64 {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	for err == unix.ENOENT && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		err = unix.Statfs(dir, &st)
	}
	if err != nil {
		return 0
	}
	return int64(st.Type)
}
