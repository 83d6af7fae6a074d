package engine

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/config"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/spec"
)

// hostMount is an entry of mounts.conf as one container has it.
type hostMount struct {
	bind spec.Bind
	// content is to be copied; nil when the container has its copy since an earlier
	// start in this boot, and what it has made of it.
	content []copiedFile
}

// copiedFile is a file or directory, by its path below the entry's, which is "".
type copiedFile struct {
	name string
	mode fs.FileMode
	data []byte
}

// What mounts.conf may have copied for a container at most: it is for credentials,
// and what a link in it leads to may be without an end.
const (
	maxHostMountBytes = 64 << 20
	maxHostMountFiles = 10_000
)

// findHostMounts reads what mounts.conf wants the container to have. As with podman an
// entry without a source is passed over, and after one that cannot be copied there is
// none of them, and a warning.
func (l *launch) findHostMounts() (warning string) {
	file, entries, err := l.e.conf.HostMounts()
	if err == nil {
		l.hostMounts, err = readHostMounts(entries, bootDir(l.e.hostMountsDir(l.c.ID)))
	}
	if err != nil {
		l.hostMounts = nil
		return fmt.Sprintf("nothing of %s is mounted: %v", file, err)
	}
	return ""
}

// hostMountsDir is where all copies for a container are, in a directory for each boot:
// podman's go with the boot, too.
func (e *Engine) hostMountsDir(id string) string { return filepath.Join(e.dir(id), "mounts") }

// bootDir is the one of this boot.
func bootDir(all string) string { return filepath.Join(all, cmp.Or(procfs.BootID(), "unknown")) }

func readHostMounts(entries []config.HostMount, dir string) (all []hostMount, err error) {
	r := hostMountReader{bytes: maxHostMountBytes, files: maxHostMountFiles}
	for _, entry := range entries {
		inside := path.Clean("/" + entry.Destination)
		if inside == "/" {
			return nil, fmt.Errorf("%s has no place in a container", entry.Source)
		}
		if slices.ContainsFunc(all, func(m hostMount) bool { return m.bind.Destination == inside }) {
			continue
		}
		_, err := os.Stat(entry.Source)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		m := hostMount{bind: spec.Bind{Source: filepath.Join(dir, url.PathEscape(inside)), Destination: inside}}
		_, err = os.Lstat(m.bind.Source)
		if errors.Is(err, fs.ErrNotExist) {
			r.content = nil
			err = r.read(entry.Source, "")
			m.content = r.content
		}
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// hostMountReader reads files and directories, and how much it still may.
type hostMountReader struct {
	content []copiedFile
	bytes   int64
	files   int
}

// read takes what is at a path of the host, through links, and all below it.
func (r *hostMountReader) read(from, name string) error {
	if r.files--; r.files < 0 {
		return fmt.Errorf("%s: more than %d files", from, maxHostMountFiles)
	}
	f, err := os.OpenFile(from, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, fs.ErrNotExist) && name != "" {
		return nil // a link to nowhere
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	file := copiedFile{name: name, mode: info.Mode()}
	switch {
	case info.IsDir():
		r.content = append(r.content, file)
		names, err := f.Readdirnames(-1)
		if err != nil {
			return err
		}
		for _, below := range names {
			if err := r.read(filepath.Join(from, below), filepath.Join(name, below)); err != nil {
				return err
			}
		}
		return nil
	case !info.Mode().IsRegular():
		return fmt.Errorf("unsupported file type for: %q", from)
	}
	file.data, err = io.ReadAll(io.LimitReader(f, r.bytes+1))
	if r.bytes -= int64(len(file.data)); r.bytes < 0 {
		return fmt.Errorf("%s: more than %d bytes", from, maxHostMountBytes)
	}
	r.content = append(r.content, file)
	return err
}

// copyHostMounts writes the copies that are not there yet.
func (l *launch) copyHostMounts() error {
	all := l.e.hostMountsDir(l.c.ID)
	dir := bootDir(all)
	for _, m := range l.hostMounts {
		if m.content == nil {
			continue
		}
		_, err := os.Lstat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			err = errors.Join(rootfs.RemoveTree(all), os.MkdirAll(dir, 0o700)) // another boot's
		}
		if err == nil {
			err = l.copyHostMount(m)
		}
		if err != nil {
			return cove.E("copy "+m.bind.Destination+" for container", l.c.Name, fileKind(err), err)
		}
	}
	return nil
}

// copyHostMount has a copy appear whole: what a killed start leaves of one is named
// otherwise.
func (l *launch) copyHostMount(m hostMount) error {
	temporary := filepath.Join(filepath.Dir(m.bind.Source), "%new") // no escape
	if err := rootfs.RemoveTree(temporary); err != nil {
		return err
	}
	for _, file := range m.content {
		name := filepath.Join(temporary, file.name)
		var err error
		if file.mode.IsDir() {
			err = os.Mkdir(name, 0o700)
		} else {
			err = os.WriteFile(name, file.data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	for _, file := range slices.Backward(m.content) {
		if err := os.Chmod(filepath.Join(temporary, file.name), file.mode); err != nil {
			return err
		}
	}
	if label := mountLabel(l.c); label != "" {
		fd, err := unix.Open(temporary, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: temporary, Err: err}
		}
		defer unix.Close(fd)
		if err := rootfs.Relabel(fd, label); err != nil {
			return err
		}
	}
	return os.Rename(temporary, m.bind.Source)
}
