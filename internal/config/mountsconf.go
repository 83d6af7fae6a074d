package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// mountsConf finds an entry of mounts.conf, containers-mounts.conf(5), that podman
// would follow: it copies directories of the host into every container, and
// passes over those that are not there. cove does not, and says so. Of several
// files the first counts.
func (c *Config) mountsConf() (Key, bool) {
	var places []string
	if c.Rootless {
		places = append(places, filepath.Join(os.Getenv("HOME"), ".config"))
	}
	for _, place := range append(places, "/etc", "/usr/share") {
		name := filepath.Join(place, "containers/mounts.conf")
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			host, _, _ := strings.Cut(strings.TrimSpace(line), ":")
			if !strings.HasPrefix(host, "/") {
				continue
			}
			if _, err := os.Stat(host); err == nil {
				return Key{Name: "mounts.conf", File: name, Line: n, Known: true}, true
			}
		}
		return Key{}, false
	}
	return Key{}, false
}
