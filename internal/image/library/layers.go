package library

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.podman.io/common/libimage"
	graphdriver "go.podman.io/storage/drivers"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
)

// layer is one layer of an image on disk.
type layer struct {
	id    string
	dir   string // of the files, absolute
	lower string // what overlay's lowerdir takes: short and relative to the graph root where possible
}

// mostLayers is how many directories the kernel's overlay takes, OVL_MAX_STACK.
const mostLayers = 500

// layers gives the layers of img, uppermost first. It refuses with
// Unsupported every layout that is not one plain directory per layer, which
// only the library's own mount understands. A container's writable layer is
// cove's own overlay whatever the driver.
func (l *library) layers(img *libimage.Image) ([]layer, error) {
	if err := l.mountable(); err != nil {
		return nil, err
	}
	if image.Whole(l.store.GraphDriverName()) {
		return l.whole(img.TopLayer())
	}
	var chain []layer
	for id := img.TopLayer(); id != ""; {
		rec, err := l.store.Layer(id)
		if err != nil {
			return nil, fmt.Errorf("layer %s of image %s: %w", id, img.ID(), err)
		}
		if len(rec.UIDMap)+len(rec.GIDMap) > 0 {
			return nil, unsupported(id, "its files have mapped owners")
		}
		this, err := l.onDisk(id)
		if err != nil {
			return nil, err
		}
		chain = append(chain, this)
		id = rec.Parent
	}
	return chain, nil
}

// mountable refuses drivers and driver options under which a layer's
// directory is not what a container must see.
func (l *library) mountable() error {
	if d := l.store.GraphDriverName(); !image.Known(d) {
		return unsupported("", "storage driver "+d+" is not supported by cove yet")
	}
	for _, opt := range l.store.GraphOptions() {
		key, value, _ := strings.Cut(opt, "=")
		refuse := false
		switch bareKey(key) {
		case "force_mask", "additionallayerstore":
			refuse = value != ""
		case "use_composefs":
			refuse = value != "false"
		}
		if refuse {
			return unsupported("", "storage option "+opt+" is not supported by cove yet")
		}
	}
	return l.writable()
}

// writable refuses file systems where the kernel's overlay, which is what cove
// mounts, has no place for what containers write: others' overlays, and whatever
// a mount program was asked for.
func (l *library) writable() error {
	const why = "cove mounts by the kernel's overlay, which cannot write to %s (%s)"
	magic, err := graphdriver.GetFSMagic(filepath.Join(l.store.GraphRoot(), "overlay")) // of what that is in
	if err != nil {
		return err
	}
	name, root := graphdriver.FsNames[magic], l.store.GraphRoot()
	program := l.option("mount_program")
	switch magic {
	case graphdriver.FsMagicOverlay, graphdriver.FsMagicAufs, graphdriver.FsMagicEcryptfs:
		if program == "" {
			return unsupported("", fmt.Sprintf("the graph root must be on another file system: "+why, name, root))
		}
	case graphdriver.FsMagicFUSE, graphdriver.FsMagicNfsFs, graphdriver.FsMagicSmbFs, graphdriver.FsMagicSMB2, graphdriver.FsMagicCIFS:
		if program == "" {
			return nil
		}
	default:
		return nil
	}
	return unsupported("", fmt.Sprintf("storage option mount_program=%s: "+why, program, name, root))
}

// option is the last word on an option of the storage driver.
func (l *library) option(name string) string {
	for _, opt := range slices.Backward(l.store.GraphOptions()) {
		if key, value, _ := strings.Cut(opt, "="); bareKey(key) == name {
			return value
		}
	}
	return ""
}

// bareKey is an option's key without the driver's name before it.
func bareKey(key string) string { return key[strings.LastIndexByte(key, '.')+1:] }

func unsupported(layer, why string) error {
	return cove.E("use layers directly", layer, cove.Unsupported, errors.New(why))
}

// whole gives the one directory that holds all of an image where every layer
// is a copy, or a snapshot, of the one below it with its own changes.
func (l *library) whole(top string) ([]layer, error) {
	if top == "" {
		return nil, nil
	}
	rec, err := l.store.Layer(top)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", top, err)
	}
	if len(rec.UIDMap)+len(rec.GIDMap) > 0 {
		return nil, unsupported(top, "its files have mapped owners")
	}
	root := l.store.GraphRoot()
	for _, st := range l.stores() {
		place := image.LayerDir(l.store.GraphDriverName(), top)
		dir := filepath.Join(st, place)
		fi, err := os.Lstat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, err
		case !fi.IsDir():
			return nil, unsupported(top, "it is not a directory")
		}
		if st != root {
			place = dir
		}
		return []layer{{id: top, dir: dir, lower: place}}, nil
	}
	return nil, damaged(top)
}

// stores are the directories that layers are below.
func (l *library) stores() []string {
	stores := []string{l.store.GraphRoot()}
	if s := l.store.ImageStore(); s != "" {
		stores = append(stores, s)
	}
	return append(stores, additionalStores(l.store)...)
}

func damaged(layer string) error {
	return cove.E("find layer", layer, cove.Invalid, errors.New("the image is damaged: the layer is recorded and its directory is gone; remove the image and pull it again"))
}

// onDisk finds a layer's directory: below the graph root, below the image
// store or in an additional store.
func (l *library) onDisk(id string) (layer, error) {
	root := l.store.GraphRoot()
	for _, st := range l.stores() {
		dir := filepath.Join(st, image.LayerDir("overlay", id))
		fi, err := os.Lstat(filepath.Join(dir, "diff"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return layer{}, err
		}
		if !fi.IsDir() {
			return layer{}, unsupported(id, "its diff is not a directory")
		}
		for _, odd := range []string{"composefs-data", "diff1"} {
			if _, err := os.Lstat(filepath.Join(dir, odd)); err == nil {
				return layer{}, unsupported(id, "it has "+odd)
			}
		}
		this := layer{id: id, dir: filepath.Join(dir, "diff")}
		this.lower = shortLink(st, id, fi)
		if st != root {
			this.lower = filepath.Join(st, this.lower)
		}
		return this, nil
	}
	return layer{}, damaged(id)
}

// shortLink gives overlay/l/XXXX, the driver's short link to a layer's
// directory, when it is there and right: a page of mount options holds many
// more of them.
func shortLink(store, id string, diff os.FileInfo) string {
	long := filepath.Join("overlay", id, "diff")
	link, err := os.ReadFile(filepath.Join(store, "overlay", id, "link"))
	if err != nil || !filepath.IsLocal(string(link)) {
		return long
	}
	short := filepath.Join("overlay", "l", string(link))
	if fi, err := os.Stat(filepath.Join(store, short)); err != nil || !os.SameFile(fi, diff) {
		return long
	}
	return short
}
