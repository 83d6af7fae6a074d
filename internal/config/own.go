package config

import (
	"os"
	"os/user"

	"go.podman.io/storage/pkg/unshare"

	"github.com/cove-engine/cove/internal/safepath"
)

// ownFiles has root read his own files where the environment, as sudo and su may
// leave it, points to another user's: containers.conf tells which programs are
// executed, and so do credentials, whose helpers may be named by a path within the
// working directory. A directory to which everybody may write is as good as another
// user's. It gives the directories that are passed over, and what gives the
// environment back. podman reads them.
func ownFiles() (others []string, back func()) {
	was := map[string]string{}
	back = func() {
		for name, value := range was {
			_ = os.Setenv(name, value)
		}
	}
	if os.Geteuid() != 0 || unshare.IsRootless() {
		return nil, back
	}
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"} {
		dir := os.Getenv(name)
		if dir == "" || safepath.Check(dir) == nil && !everybodys(dir) {
			continue
		}
		was[name] = dir
		others = append(others, dir)
		_ = os.Unsetenv(name)
		if root, err := user.LookupId("0"); name == "HOME" && err == nil {
			_ = os.Setenv(name, root.HomeDir)
		}
	}
	return others, back
}

// everybodys tells of a directory to which all users may write, as /tmp: whose the
// files in it are, and which there will be, is anybody's guess.
func everybodys(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.Mode().Perm()&0o002 != 0
}
