package config

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"go.podman.io/storage/pkg/unshare"

	"github.com/cove-engine/cove/internal/procfs"
)

// HostMount is an entry of mounts.conf: what is at Source on the host is copied for a
// container, which finds the copy at Destination.
type HostMount struct{ Source, Destination string }

// HostMounts gives the entries of mounts.conf, containers-mounts.conf(5), and the file
// that they are in: the first that is there of the user's, the administrator's and the
// distribution's, or the one that a flag names. No file has no entries. A home that
// is not absolute has none: it would be whatever the working directory holds.
func (c *Config) HostMounts() (file string, all []HostMount, err error) {
	files := []string{"/etc/containers/mounts.conf", "/usr/share/containers/mounts.conf"}
	if c.Rootless {
		if home, err := unshare.HomeDir(); err == nil && filepath.IsAbs(home) {
			files = append([]string{filepath.Join(home, ".config/containers/mounts.conf")}, files...)
		}
	}
	if c.flags.MountsFile != "" {
		files = []string{c.flags.MountsFile}
	}
	for _, file := range files {
		text, err := procfs.Read(file, maxFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSuffix(line, "\n")
			source, destination, two := strings.Cut(line, ":")
			if !two {
				destination = source
			}
			if strings.HasPrefix(line, "/") {
				all = append(all, HostMount{source, destination})
			}
		}
		return file, all, err
	}
	return "", nil, nil
}
