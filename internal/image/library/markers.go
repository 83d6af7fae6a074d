package library

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.podman.io/storage/pkg/archive"
	"go.podman.io/storage/pkg/idtools"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/index"
)

// In a store with a mount program the library unpacks what layers delete as
// archives have it: a file .wh.NAME where NAME goes, .wh..wh..opq where all goes
// that is below. fuse-overlayfs reads these markers; to the kernel's overlay they
// are files. So a layer with markers is put between two directories of cove's
// own, made when the layer is first used: one below it in which the kernel's
// way of saying so deletes what the markers name, and one above it that deletes
// the markers. The container then has the kernel's overlay, without a process
// of its own for every file that it opens.

const (
	markerPrefix = archive.WhiteoutPrefix
	markerOpaque = archive.WhiteoutOpaqueDir
	newMarkers   = ".new-"
)

// programmed tells whether a mount program is, or was, set for any store that
// layers come from: the library then keeps to its layout, and says so in a file.
func (l *library) programmed() bool {
	if l.store.GraphDriverName() != "overlay" {
		return false
	}
	if l.option("mount_program") != "" {
		return true
	}
	for _, st := range l.stores() {
		flag, err := os.ReadFile(filepath.Join(st, "overlay", ".has-mount-program"))
		if err == nil && strings.TrimSpace(string(flag)) == "true" {
			return true
		}
	}
	return false
}

// markersDir is where the directories for markers are.
func (l *library) markersDir() string { return filepath.Join(l.store.GraphRoot(), image.MarkersDir) }

// unmarked gives chain with the directories for its markers.
func (l *library) unmarked(chain []layer) ([]layer, error) {
	if !l.programmed() {
		return chain, nil
	}
	root, dir := l.store.GraphRoot(), l.markersDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockMarkers(dir, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	var all []layer
	for _, this := range chain {
		if _, err := idtools.GetContainersOverrideXattr(this.dir); err == nil {
			return nil, unsupported(this.id, "its files' owners and modes are a mount program's to show (force_mask)")
		}
		name, err := markersName(this)
		if err != nil {
			return nil, err
		}
		at := filepath.Join(dir, name)
		if _, err = os.Lstat(at); errors.Is(err, fs.ErrNotExist) {
			err = readMarkers(this.dir, at)
		}
		if err != nil {
			return nil, fmt.Errorf("deletions of layer %s: %w", this.id, err)
		}
		for _, l := range []layer{{id: this.id, dir: filepath.Join(at, "above")}, this, {id: this.id, dir: filepath.Join(at, "below")}} {
			if l.lower == "" {
				l.lower = index.Relative(root, l.dir)
				if _, err := os.Lstat(l.dir); err != nil {
					continue // the layer needs none
				}
			}
			all = append(all, l)
		}
	}
	return all, nil
}

// markersName is of a layer as it lies there: pulled again by other tools it may
// have another layout.
func markersName(l layer) (string, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, l.dir, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return "", &os.PathError{Op: "statx", Path: l.dir, Err: err}
	}
	b := binary.BigEndian.AppendUint64([]byte(l.id), st.Ino)
	b = binary.BigEndian.AppendUint64(b, uint64(st.Btime.Sec))
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(b, st.Btime.Nsec))
	return hex.EncodeToString(sum[:12]), nil // short: a page of mount options is to hold many
}

// readMarkers makes the directories for one layer. A layer without markers has
// none of the two in its own, so that it is not read again.
func readMarkers(layerDir, at string) (err error) {
	made, err := os.MkdirTemp(filepath.Dir(at), newMarkers)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(made))
		}
	}()
	m := markers{}
	for _, d := range []struct {
		root **os.Root
		path string
	}{{&m.layer, layerDir}, {&m.above, filepath.Join(made, "above")}, {&m.below, filepath.Join(made, "below")}} {
		if d.path != layerDir {
			if err := os.Mkdir(d.path, 0o755); err != nil {
				return err
			}
		}
		if *d.root, err = os.OpenRoot(d.path); err != nil {
			return err
		}
		defer (*d.root).Close()
	}
	if err := m.read(".", false); err != nil {
		return err
	}
	for _, d := range []struct {
		used bool
		name string
	}{{m.marked, "above"}, {m.deleted, "below"}} {
		if !d.used {
			if err := os.Remove(filepath.Join(made, d.name)); err != nil {
				return err
			}
		}
	}
	if m.marked { // else the name appears, and after a power loss nothing is in it
		if err := syncTree(made); err != nil {
			return err
		}
	}
	err = os.Rename(made, at)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		return os.RemoveAll(made) // another has made it meanwhile
	}
	return err
}

// markers reads a layer's.
type markers struct {
	layer, above, below *os.Root
	marked, deleted     bool // something is in above, in below
}

// read goes through one directory of the layer. Where it is alone nothing of the
// layers below shows.
func (m *markers) read(dir string, alone bool) error {
	f, err := m.layer.Open(dir)
	if err != nil {
		return err
	}
	entries, err := f.ReadDir(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return err // there is no end to how deep directories may lie, and one to open files
	}
	gone := map[string]bool{}
	all := alone
	for _, e := range entries {
		name, marker := strings.CutPrefix(e.Name(), markerPrefix)
		if !marker {
			continue
		}
		m.marked = true
		if err := deletion(m.above, dir, e.Name()); err != nil {
			return err
		}
		switch {
		case e.Name() == markerOpaque:
			all = true
		case name == "" || name == "." || name == ".." || strings.HasPrefix(name, markerPrefix):
			// of nothing that could be there, or a tool's own note
		default:
			gone[name] = true
		}
	}
	switch {
	case alone:
	case all:
		m.deleted = true
		if err := opaque(m.below, dir); err != nil {
			return err
		}
	default:
		for name := range gone {
			m.deleted = true
			if err := deletion(m.below, dir, name); err != nil {
				return err
			}
		}
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), markerPrefix) {
			continue
		}
		if err := m.read(filepath.Join(dir, e.Name()), all || gone[e.Name()]); err != nil {
			return err
		}
	}
	// What is in above is merged with the layer's directories and shown in
	// their place; last, since entries change the time.
	if _, err := m.above.Lstat(dir); err != nil {
		return ignore(err, fs.ErrNotExist)
	}
	return m.likeLayer(dir)
}

// deletion makes the kernel's mark that name in dir is gone: a device 0/0, which
// everybody may make.
func deletion(root *os.Root, dir, name string) error {
	d, err := madeDir(root, dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Mknodat(int(d.Fd()), name, unix.S_IFCHR, 0); err != nil {
		return &os.PathError{Op: "mknod", Path: filepath.Join(dir, name), Err: err}
	}
	return nil
}

// madeDir opens a directory, made if it is not there.
func madeDir(root *os.Root, dir string) (*os.File, error) {
	if err := root.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return root.Open(dir)
}

// opaque makes a directory that hides what is below.
func opaque(root *os.Root, dir string) error {
	d, err := madeDir(root, dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Fsetxattr(int(d.Fd()), archive.GetOverlayXattrName("opaque"), []byte("y"), 0); err != nil {
		return &os.PathError{Op: "setxattr", Path: dir, Err: err}
	}
	return nil
}

// likeLayer gives a directory in above the owner, mode, attributes and times of
// the layer's.
func (m *markers) likeLayer(dir string) error {
	from, err := m.layer.Open(dir)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := m.above.Open(dir)
	if err != nil {
		return err
	}
	defer to.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return err
	}
	fd := int(to.Fd())
	if err := unix.Fchown(fd, int(st.Uid), int(st.Gid)); err != nil {
		return &os.PathError{Op: "chown", Path: dir, Err: err}
	}
	if err := unix.Fchmod(fd, st.Mode&0o7777); err != nil {
		return &os.PathError{Op: "chmod", Path: dir, Err: err}
	}
	if err := copyAttributes(fd, int(from.Fd())); err != nil {
		return &os.PathError{Op: "copy attributes of", Path: dir, Err: err}
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), times, 0); err != nil {
		return &os.PathError{Op: "set times of", Path: dir, Err: err}
	}
	return nil
}

// copyAttributes copies extended attributes but overlay's own and labels.
func copyAttributes(to, from int) error {
	list, value := make([]byte, 64<<10), make([]byte, 64<<10) // the kernel's limits, xattr(7)
	n, err := unix.Flistxattr(from, list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if name == "" || name == "security.selinux" || strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		n, err := unix.Fgetxattr(from, name, value)
		if err == nil {
			err = unix.Fsetxattr(to, name, value[:n], 0)
		}
		if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENODATA) {
			return err
		}
	}
	return nil
}

// lockMarkers locks the directory of all markers; who has it alone knows that
// nobody is making any.
func lockMarkers(dir string, how int) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(int(f.Fd()), how)
	}
	if err != nil {
		return nil, errors.Join(&os.PathError{Op: "lock", Path: dir, Err: err}, f.Close())
	}
	return f, nil
}

// strayMarkers lists the directories for layers that are not there any more, and
// what killed makers have left. Nobody may be making any.
func (l *library) strayMarkers() ([]string, error) {
	dir := l.markersDir()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		return nil, ignore(err, fs.ErrNotExist)
	}
	layers, err := l.store.Layers()
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, lay := range layers {
		this, err := l.onDisk(lay.ID)
		if err != nil {
			continue // it is no layer that markers are made for
		}
		name, err := markersName(this)
		if err != nil {
			return nil, err
		}
		wanted[name] = true
	}
	var stray []string
	for _, e := range entries {
		if !wanted[e.Name()] {
			stray = append(stray, filepath.Join(dir, e.Name()))
		}
	}
	return stray, nil
}

// sweepMarkers removes stray ones, unless some are being made.
func (l *library) sweepMarkers() error {
	lock, err := lockMarkers(l.markersDir(), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return ignore(err, fs.ErrNotExist, unix.EWOULDBLOCK)
	}
	defer lock.Close()
	stray, err := l.strayMarkers()
	for _, s := range stray {
		err = errors.Join(err, os.RemoveAll(s))
	}
	return err
}
