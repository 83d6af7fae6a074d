package library

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.podman.io/common/libimage"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/configfile"
	"go.podman.io/storage/pkg/unshare"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image/index"
)

// Resolve gives what a container takes from the image called name (a
// reference, short name, digest or the beginning of an ID). platform is
// os/arch[/variant]; "" accepts whatever carries the name, as podman does:
// the caller compares OS and Architecture and warns.
//
// It is the start path: when cove's index answers, the store is not opened.
// Otherwise the image is looked up, pinned and indexed. Kinds: NotFound,
// Invalid (a malformed name or platform, a damaged image), Unsupported (layers
// that cannot be mounted directly: see layers.go).
func (s *Store) Resolve(ctx context.Context, name, platform string) (cove.ImageConfig, error) {
	root, err := s.graphRoot()
	if err != nil {
		return cove.ImageConfig{}, err
	}
	dir, err := s.indexDir()
	if err != nil {
		return cove.ImageConfig{}, err
	}
	key := index.Question(s.opts, name, platform)
	if image, ok := index.Lookup(dir, root, key); ok {
		return image, nil
	}
	const op = "resolve image"
	return soon(ctx, op, name, func() (cove.ImageConfig, error) { return s.resolve(ctx, op, name, platform, dir, key) })
}

// resolve asks the library, pins the image and writes the index.
func (s *Store) resolve(ctx context.Context, op, name, platform, dir, key string) (cove.ImageConfig, error) {
	none := cove.ImageConfig{}
	lib, err := s.library()
	if err != nil {
		return none, err
	}
	// The marks are taken before the store is read: a write in between
	// makes an entry that is stale at birth, never one that is wrong.
	marks := s.marks(lib)
	img, found, err := lib.lookup(name, platform)
	if err != nil {
		return none, fail(op, name, err)
	}
	chain, err := lib.layers(img)
	if err == nil {
		chain, err = lib.unmarked(chain)
	}
	if err == nil && len(chain) > mostLayers {
		err = unsupported("", fmt.Sprintf("the image takes %d directories over each other, and the kernel's overlay takes %d", len(chain), mostLayers))
	}
	if err != nil {
		return none, cove.E(op, name, kind(err), err)
	}
	config, err := lib.config(ctx, img)
	if err != nil {
		return none, failContent(op, name, err)
	}
	config.Name = properName(img, found)
	root := lib.store.GraphRoot()
	for _, l := range chain {
		config.Layers = append(config.Layers, l.lower)
		marks = append(marks, index.MarkIdentity(root, l.dir))
	}
	entry := index.Entry{Key: key, Image: config}
	if !img.IsReadOnly() {
		p, err := lib.pin(img.StorageImage())
		if err != nil {
			return none, fail(op, name, err)
		}
		entry.Pinned = true
		for _, path := range p {
			marks = append(marks, index.MarkIdentity(root, path))
		}
	}
	entry.Marks = marks
	// An index that cannot be written (a read-only or full disk) makes
	// starts slower, not impossible.
	_ = index.Write(dir, entry)
	return config, nil
}

// marks are the files whose change may change the answer to a look-up. The
// lock of the layers is not among them: layers go only with their image or by
// force, and the identity of each layer's directory is marked. So the
// containers that podman and buildah make (each writes the layers' lock) do
// not slow cove's next start.
func (s *Store) marks(lib *library) []index.Mark {
	root := lib.store.GraphRoot()
	var marks []index.Mark
	stores := append([]string{root, lib.store.ImageStore()}, additionalStores(lib.store)...)
	for _, st := range stores {
		if st == "" {
			continue
		}
		images := filepath.Join(st, lib.store.GraphDriverName()+"-images")
		marks = append(marks,
			index.MarkLock(root, filepath.Join(images, "images.lock")),
			index.MarkFile(root, filepath.Join(images, "images.json")))
	}
	for _, f := range s.configFiles() {
		marks = append(marks, index.MarkFile(root, f))
	}
	return marks
}

// configFiles lists the files and directories, existing or not, that decide
// which store is used and what a short name means.
func (s *Store) configFiles() []string {
	uid := unshare.GetRootlessUID()
	var files []string
	for _, conf := range []configfile.File{
		{Name: "storage", EnvironmentName: "CONTAINERS_STORAGE_CONF"},
		{Name: "registries", EnvironmentName: "CONTAINERS_REGISTRIES_CONF", CustomConfigFilePath: s.opts.RegistriesConf, CustomConfigFileDropInDirectory: s.opts.RegistriesConfDir},
	} {
		conf.Extension, conf.UserId = "conf", uid
		paths, err := configfile.GetSearchPaths(&conf)
		if err != nil {
			continue // the library fails on it first
		}
		files = append(files, paths.MainFiles...)
		for _, dir := range paths.DropInDirectories {
			files = append(files, dir)
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				files = append(files, filepath.Join(dir, e.Name()))
			}
		}
		files = append(files, paths.ExtraOverrideFile)
	}
	// Short names that a user has chosen once (image's pkg/sysregistriesv2).
	if uid == 0 {
		files = append(files, "/var/cache/containers/short-name-aliases.conf")
	} else if cache, err := os.UserCacheDir(); err == nil {
		files = append(files, filepath.Join(cache, "containers/short-name-aliases.conf"))
	}
	slices.Sort(files)
	files = slices.Compact(files)
	return slices.DeleteFunc(files, func(f string) bool { return !filepath.IsAbs(f) })
}

// lookup finds a local image, and the name that it was found by.
func (l *library) lookup(name, platform string) (*libimage.Image, string, error) {
	p, err := parsePlatform(platform)
	if err != nil {
		return nil, "", err
	}
	if name == "" {
		return nil, "", cove.E("look up image", "", cove.Invalid, fmt.Errorf("the name is empty"))
	}
	return l.runtime.LookupImage(name, &libimage.LookupImageOptions{OS: p.os, Architecture: p.arch, Variant: p.variant})
}

// properName is the name under which a container remembers its image: the
// one that it was found by, or when that is an ID, the image's first.
func properName(img *libimage.Image, found string) string {
	byID := found == "" || strings.HasPrefix(img.ID(), strings.TrimPrefix(found, "sha256:"))
	if !byID {
		return found
	}
	if names := img.Names(); len(names) > 0 {
		return names[0]
	}
	return img.ID()
}

type platform struct{ os, arch, variant string }

// parsePlatform splits os/arch[/variant]; a lone word is an architecture.
func parsePlatform(s string) (platform, error) {
	parts := strings.Split(s, "/")
	bad := slices.Contains(parts, "") && s != "" || len(parts) > 3
	if bad {
		return platform{}, cove.E("parse platform", s, cove.Invalid, fmt.Errorf("want os/arch[/variant]"))
	}
	switch len(parts) {
	case 1:
		return platform{arch: s}, nil
	case 2:
		return platform{os: parts[0], arch: parts[1]}, nil
	}
	return platform{parts[0], parts[1], parts[2]}, nil
}

// additionalStores lists the graph roots of the read-only image stores.
func additionalStores(st storage.Store) []string {
	d, err := st.GraphDriver()
	if err != nil {
		return nil
	}
	return d.AdditionalImageStores()
}
