package config

import (
	"os"
	"os/user"
	"path/filepath"

	"go.podman.io/storage/pkg/configfile"
	"go.podman.io/storage/pkg/unshare"

	"github.com/cove-engine/cove/internal/safepath"
)

// ownFiles has root read his own files where HOME or XDG_CONFIG_HOME, as sudo may
// leave it, is another user's: those tell which programs are executed. It gives
// the directory that is passed over, or "", and what gives the environment back.
// podman reads that directory.
func ownFiles() (others string, back func()) {
	if os.Geteuid() != 0 || unshare.IsRootless() {
		return "", func() {}
	}
	dir, err := configfile.UserConfigPath()
	if err != nil {
		return "", func() {} // the library fails on it first
	}
	if _, err := os.Lstat(dir); os.IsNotExist(err) || safepath.Check(dir) == nil {
		return "", func() {}
	}
	home := "/"
	if root, err := user.LookupId("0"); err == nil {
		home = root.HomeDir
	}
	was, set := os.LookupEnv("XDG_CONFIG_HOME")
	_ = os.Setenv("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
	return dir, func() {
		if set {
			_ = os.Setenv("XDG_CONFIG_HOME", was)
		} else {
			_ = os.Unsetenv("XDG_CONFIG_HOME")
		}
	}
}
