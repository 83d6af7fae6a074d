// Package index is cove's own small index of images: for each reference that
// was started, the [cove.ImageConfig] it led to and the marks of the image
// store that it was read from. As long as no mark has moved, a start needs
// neither the image library nor the store's files.
//
// The index is a cache: any file of it may be deleted at any time, and an
// entry that cannot be read, was written by another release or belongs to
// another question counts as absent. It uses the standard library only, so
// that a small program can start containers without linking the image
// library (whose package initialisation alone costs more than a start).
package index

import (
	"encoding/json"
	"errors"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cove-engine/cove"
)

// schema is the version of the entry files; entries of any other are absent.
const schema = 3

// maxEntry limits what is read of one entry file.
const maxEntry = 1 << 20

// Entry is one answer of the image store, with the marks that keep it true.
type Entry struct {
	Schema int              `json:"schema"`
	Key    string           `json:"key"` // the whole question: hashes of keys may collide
	Image  cove.ImageConfig `json:"image"`
	// Pinned says that a pin kept the layers when the entry was written;
	// the pin's own directories are among Marks then. It is false for
	// images of additional (read-only) stores, which cannot be pinned.
	Pinned bool   `json:"pinned"`
	Marks  []Mark `json:"marks"`
}

// Key makes the key of a question from everything that the answer depends on
// and that is not a file: the name as the user wrote it, the platform, the
// driver, overriding configuration files and the environment variables that
// name such files.
func Key(parts ...string) string {
	var b strings.Builder
	for _, p := range append(parts, environment()...) {
		b.WriteString(strconv.Itoa(len(p)))
		b.WriteByte(':')
		b.WriteString(p)
	}
	return b.String()
}

// environment gives the variables that change what the image library reads.
func environment() []string {
	return []string{
		os.Getenv("CONTAINERS_STORAGE_CONF"), os.Getenv("CONTAINERS_STORAGE_CONF_OVERRIDE"),
		os.Getenv("CONTAINERS_REGISTRIES_CONF"), os.Getenv("CONTAINERS_REGISTRIES_CONF_OVERRIDE"),
		os.Getenv("STORAGE_DRIVER"), os.Getenv("STORAGE_OPTS"),
		os.Getenv("HOME"), os.Getenv("XDG_CONFIG_HOME"), os.Getenv("XDG_CACHE_HOME"),
	}
}

// file names the entry's file; the key inside decides, so the hash need not
// resist an attacker.
func file(dir, key string) string {
	h := fnv.New128a()
	io.WriteString(h, key)
	const digits = "0123456789abcdef"
	name := make([]byte, 0, 32+len(suffix))
	for _, c := range h.Sum(nil) {
		name = append(name, digits[c>>4], digits[c&15])
	}
	return filepath.Join(dir, string(append(name, suffix...)))
}

const suffix = ".json"

// Lookup gives the image configuration that answers key, read from dir, if
// none of its marks has moved. root is the graph root, to which relative
// marks belong.
func Lookup(dir, root, key string) (cove.ImageConfig, bool) {
	f, err := os.Open(file(dir, key))
	if err != nil {
		return cove.ImageConfig{}, false
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxEntry))
	if err != nil {
		return cove.ImageConfig{}, false
	}
	var e Entry
	if json.Unmarshal(data, &e) != nil || e.Schema != schema || e.Key != key || len(e.Marks) == 0 {
		return cove.ImageConfig{}, false
	}
	for _, m := range e.Marks {
		if !m.holds(root) {
			return cove.ImageConfig{}, false
		}
	}
	return e.Image, true
}

// Write makes e the answer to its key. The file appears whole or not at all;
// it is not synced, for a lost entry is only a slower start.
func Write(dir string, e Entry) (err error) {
	e.Schema = schema
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if len(data) > maxEntry {
		return nil // would never be read back
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".entry-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if _, err = f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), file(dir, e.Key))
}

// Clear deletes every entry, and what killed writers left.
func Clear(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		n := e.Name()
		if strings.HasSuffix(n, suffix) || strings.HasPrefix(n, ".entry-") {
			if err := os.Remove(filepath.Join(dir, n)); !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
