package library

import (
	"os"
	"path/filepath"

	"go.podman.io/storage/pkg/configfile"
	"go.podman.io/storage/pkg/unshare"
)

// What rules where no file of the ecosystem does: docker's behaviour, and that
// of the files which distributions install beside podman. A host with cove
// alone has none of them.
var fallbacks = map[string]string{
	"policy.json":     `{"default":[{"type":"insecureAcceptAnything"}]}` + "\n",
	"registries.conf": "unqualified-search-registries = [\"docker.io\"]\n",
}

// fallback gives a file for the configuration called name (with its
// extension) when the host has none, else "": the library looks by itself.
func (s *Store) fallback(name, environment string) string {
	ext := filepath.Ext(name)
	conf := configfile.File{Name: name[:len(name)-len(ext)], Extension: ext[1:], EnvironmentName: environment, UserId: unshare.GetRootlessUID()}
	paths, err := configfile.GetSearchPaths(&conf)
	if err != nil || environment != "" && os.Getenv(environment) != "" {
		return ""
	}
	for _, p := range paths.MainFiles {
		if _, err := os.Stat(p); err == nil {
			return ""
		}
	}
	dir, err := s.indexDir()
	if err != nil {
		return ""
	}
	own := filepath.Join(filepath.Dir(dir), name)
	if have, err := os.ReadFile(own); err == nil && string(have) == fallbacks[name] {
		return own
	}
	if os.MkdirAll(filepath.Dir(own), 0o700) != nil || os.WriteFile(own, []byte(fallbacks[name]), 0o644) != nil {
		return ""
	}
	return own
}
