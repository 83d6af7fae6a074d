//go:build exclude_graphdriver_btrfs || !cgo

package btrfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/selinux/go-selinux/label"
	graphdriver "go.podman.io/storage/drivers"
	"go.podman.io/storage/drivers/vfs"
	"go.podman.io/storage/pkg/directory"
	"go.podman.io/storage/pkg/idtools"
)

func init() { graphdriver.MustRegister("btrfs", open) }

// open is the driver of the library's directory home, which is to be made.
func open(home string, o graphdriver.Options) (graphdriver.Driver, error) {
	magic, err := graphdriver.GetFSMagic(home)
	if err != nil {
		return nil, err
	}
	if magic != graphdriver.FsMagicBtrfs {
		return nil, fmt.Errorf("%s is not on btrfs: %w", home, graphdriver.ErrPrerequisites)
	}
	for _, option := range o.DriverOptions {
		key, value, _ := strings.Cut(option, "=")
		of, _, named := strings.Cut(strings.TrimPrefix(key, "storage."), ".")
		if value != "" && (!named || of == "btrfs") {
			return nil, fmt.Errorf("storage option %s is not supported with the driver btrfs", option)
		}
	}
	d := driver{subvolumes: filepath.Join(home, "subvolumes")}
	if err := os.MkdirAll(d.subvolumes, 0o700); err != nil {
		return nil, err
	}
	whole := nameable(d, (*vfs.Driver).DeferredRemove)
	return graphdriver.NewNaiveDiffDriver(whole, graphdriver.NewNaiveLayerIDMapUpdater(whole)), nil
}

// driver has all of the library's interface but one method.
type driver struct{ subvolumes string }

// removing adds that one. Its result has a type of a package that is internal to
// the library; nobody else can write its name, but it can be inferred.
type removing[Cleanup any] struct{ driver }

func nameable[Cleanup any](d driver, _ func(*vfs.Driver, string) (Cleanup, error)) removing[Cleanup] {
	return removing[Cleanup]{d}
}

// DeferredRemove removes at once: to remove a subvolume takes no time.
func (d removing[Cleanup]) DeferredRemove(id string) (Cleanup, error) {
	var nothing Cleanup
	return nothing, d.Remove(id)
}

func (d driver) dir(id string) string { return filepath.Join(d.subvolumes, filepath.Base(id)) }

func (d driver) String() string { return "btrfs" }

func (d driver) Create(id, parent string, o *graphdriver.CreateOpts) error {
	mountLabel := ""
	if o != nil {
		mountLabel = o.MountLabel
		for key := range o.StorageOpt {
			return fmt.Errorf("storage option %s is not supported with the driver btrfs", key)
		}
	}
	var err error
	if parent == "" {
		if err = create(d.subvolumes, filepath.Base(id)); err == nil {
			err = os.Chmod(d.dir(id), 0o555) // as the library's drivers have it
		}
	} else {
		err = snapshot(d.dir(parent), d.subvolumes, filepath.Base(id))
	}
	if err != nil {
		return err
	}
	return label.Relabel(d.dir(id), mountLabel, false)
}

func (d driver) CreateReadWrite(id, parent string, o *graphdriver.CreateOpts) error {
	return d.Create(id, parent, o)
}

func (d driver) CreateFromTemplate(id, template string, _ *idtools.IDMappings, _ string, _ *idtools.IDMappings, o *graphdriver.CreateOpts, _ bool) error {
	return d.Create(id, template, o)
}

func (d driver) Remove(id string) error {
	err := os.Remove(filepath.Join(filepath.Dir(d.subvolumes), "quotas", filepath.Base(id))) // another's note of its size
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return remove(d.dir(id))
}

func (d driver) Get(id string, o graphdriver.MountOpts) (string, error) {
	for _, option := range o.Options {
		if option != "ro" { // nothing is mounted
			return "", fmt.Errorf("mount option %s is not supported with the driver btrfs", option)
		}
	}
	fi, err := os.Stat(d.dir(id))
	if err == nil && !fi.IsDir() {
		err = &fs.PathError{Op: "open layer", Path: d.dir(id), Err: errors.New("not a directory")}
	}
	return d.dir(id), err
}

func (d driver) Put(string) error { return nil }

func (d driver) Exists(id string) bool {
	_, err := os.Stat(d.dir(id))
	return err == nil
}

func (d driver) ListLayers() ([]string, error) {
	entries, err := os.ReadDir(d.subvolumes)
	var ids []string
	for _, e := range entries {
		if e.IsDir() {
			ids = append(ids, e.Name())
		}
	}
	return ids, err
}

func (d driver) ReadWriteDiskUsage(id string) (*directory.DiskUsage, error) {
	return directory.Usage(d.dir(id))
}

func (d driver) Status() [][2]string                        { return nil }
func (d driver) Metadata(string) (map[string]string, error) { return nil, nil }
func (d driver) Cleanup() error                             { return nil }
func (d driver) AdditionalImageStores() []string            { return nil }
func (d driver) GetTempDirRootDirs() []string               { return nil }
func (d driver) SyncMode() graphdriver.SyncMode             { return graphdriver.SyncModeNone }

func (d driver) Dedup(graphdriver.DedupArgs) (graphdriver.DedupResult, error) {
	return graphdriver.DedupResult{}, nil
}
