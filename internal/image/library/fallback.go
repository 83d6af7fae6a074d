package library

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"go.podman.io/storage/pkg/configfile"
	"go.podman.io/storage/pkg/unshare"

	"github.com/cove-engine/cove/internal/image/index"
	"github.com/cove-engine/cove/internal/unnamed"
)

// What rules where no file of the ecosystem does: docker's behaviour, and that
// of the files which distributions install beside podman. A host with cove
// alone has none of them.
var fallbacks = map[string]string{
	"policy.json":     `{"default":[{"type":"insecureAcceptAnything"}]}` + "\n",
	"registries.conf": "unqualified-search-registries = [\"docker.io\"]\n",
}

const registriesEnv = "CONTAINERS_REGISTRIES_CONF"

// policy gives a policy.json that accepts every image, for a host where nobody has
// said anything of registries: cove alone is all that a container needs there. Where
// somebody has, a policy.json that is not there is a lost one, and nothing is
// accepted, as with podman: "" has the library say so.
func (s *Store) policy() string {
	for _, of := range []configfile.File{
		{Name: "registries", Extension: "conf", EnvironmentName: registriesEnv, UserId: unshare.GetRootlessUID()},
		{Name: "registries", Extension: "d"}, // where signatures are
	} {
		paths, err := configfile.GetSearchPaths(&of)
		if err != nil || !none(paths.MainFiles) || of.Extension == "conf" && !none(paths.DropInDirectories) {
			return ""
		}
	}
	return s.fallback("policy.json", "CONTAINERS_POLICY_JSON")
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
	if !none(paths.MainFiles) {
		return ""
	}
	dir, err := s.indexDir()
	if err != nil {
		return ""
	}
	own := filepath.Join(filepath.Dir(dir), name)
	if holds(own, fallbacks[name]) {
		return own
	}
	if writeFallback(own, fallbacks[name]) != nil {
		return ""
	}
	return own
}

// holds tells whether a file of ours has that text. What is in its place and no file
// is taken away.
func holds(name, text string) bool {
	f, err := index.OpenFile(name, os.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	have, err := io.ReadAll(io.LimitReader(f, int64(len(text))+1))
	return err == nil && string(have) == text
}

// none tells that there is none of the files. One that cannot be read, or is a
// link to nowhere, is there: the library is to refuse it.
func none(files []string) bool {
	return !slices.ContainsFunc(files, func(name string) bool {
		_, err := os.Lstat(name)
		return !errors.Is(err, fs.ErrNotExist)
	})
}

// writeFallback makes the file appear whole: others may be about to read it.
func writeFallback(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := unnamed.Create(filepath.Dir(name), 0o644, false)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Publish(name)
	}
	return errors.Join(err, f.Close())
}
