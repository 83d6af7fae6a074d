package engine

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/rootfs/archive"
	"github.com/cove-engine/cove/internal/spec"
)

// StatPath looks at a path inside a container, stopped or not, without
// following a final symbolic link; its target is the second result. A
// relative path is the container's working directory's.
func (e *Engine) StatPath(ctx context.Context, nameOrID, name string) (fs.FileInfo, string, error) {
	h, root, name, err := e.rootToRead(ctx, nameOrID, name)
	if err != nil {
		return nil, "", err
	}
	defer unix.Close(root)
	fd, err := openLink(root, name)
	if err != nil {
		return nil, "", h.pathError(name, err)
	}
	f := os.NewFile(uintptr(fd), path.Base(path.Clean(name)))
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, "", h.pathError(name, err)
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		return info, "", nil
	}
	entry, err := rootfs.EntryOf(fd)
	if err != nil {
		return nil, "", h.pathError(name, err)
	}
	target, err := entry.Readlink()
	if err != nil {
		return nil, "", h.pathError(name, err)
	}
	return info, target, nil
}

// rootToRead opens a container's root, and says where name is in there. The
// container is not held any more: on the path may be a file system that it
// serves itself, and whoever wants to end it is not to wait for that.
func (e *Engine) rootToRead(ctx context.Context, nameOrID, name string) (released *held, root int, absolute string, err error) {
	h, root, err := e.holdRoot(ctx, nameOrID, func(h *held) (int, error) {
		name = h.absolute(name)
		return h.root(ctx, true, name)
	})
	if err != nil {
		return nil, -1, "", err
	}
	h.release()
	return h, root, name, nil
}

// openLink opens name inside root; a final link is itself unless a slash
// follows it.
func openLink(root int, name string) (int, error) {
	flags := uint64(unix.O_PATH)
	if !strings.HasSuffix(name, "/") && !strings.HasSuffix(name, "/.") {
		flags |= unix.O_NOFOLLOW
	}
	return rootfs.OpenIn(root, name, flags)
}

// CopyFrom gives path as a tar stream whose first entry is path's last
// element; a final link is followed, as podman does. The container's lock is
// not held while the stream is read. The caller closes it, which frees
// whatever was mounted.
func (e *Engine) CopyFrom(ctx context.Context, nameOrID, name string) (io.ReadCloser, error) {
	h, root, name, err := e.rootToRead(ctx, nameOrID, name)
	if err != nil {
		return nil, err
	}
	fd, err := rootfs.OpenIn(root, name, unix.O_PATH)
	_ = unix.Close(root)
	if err != nil {
		return nil, h.pathError(name, err)
	}
	if ofKernel(fd) {
		_ = unix.Close(fd)
		return nil, cove.E("copy from container", h.Name, cove.Invalid, fmt.Errorf("%s is shown by the kernel and is no file of the container's", name))
	}
	entry, err := rootfs.EntryOf(fd)
	if err != nil {
		_ = unix.Close(fd)
		return nil, h.pathError(name, err)
	}
	as := path.Base(path.Clean(name))
	var kernels []string
	if as == "/" {
		// What the kernel shows there is no file of the container's, and
		// some of it cannot be read to an end; podman leaves it out too.
		as, kernels = ".", []string{"dev", "proc", "sys"}
	}
	return packStream(ctx, entry, func(ctx context.Context, w io.Writer) error {
		if err := archive.Pack(ctx, w, &entry, as, kernels...); err != nil {
			return cove.E("copy from container", h.Name, fileKind(err), err)
		}
		return nil
	}), nil
}

// ofKernel tells whether a file is of a file system in which what stat(2) says of
// the size is not what there is to be read, as in /proc and /sys.
func ofKernel(fd int) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return false
	}
	switch st.Type {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC:
		return true
	}
	return false
}

// stream is the reading end of a stream that is made while it is read.
type stream struct {
	*io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
}

// packStream runs pack in the background, and closes entry after it.
func packStream(ctx context.Context, entry rootfs.Entry, pack func(context.Context, io.Writer) error) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	s := &stream{PipeReader: r, cancel: cancel, done: make(chan struct{})}
	// The writer may be waiting for the reader when ctx ends.
	stop := context.AfterFunc(ctx, func() { _ = w.CloseWithError(context.Cause(ctx)) })
	go func() {
		defer close(s.done)
		err := pack(ctx, w)
		stop()
		entry.Close()
		_ = w.CloseWithError(err)
	}()
	return s
}

// Close ends the stream and waits until its root is unmounted.
func (s *stream) Close() error {
	err := s.PipeReader.Close()
	s.cancel()
	<-s.done
	return err
}

// CopyTo unpacks a tar stream, which may be compressed, into the directory dir. With keepOwner the
// stream's owners stay, else the container's user owns all; with overwrite a
// directory may replace a file and the reverse. The stream is read to its end
// first, so that the container is not locked while its sender is waited for.
func (e *Engine) CopyTo(ctx context.Context, nameOrID, dir string, stream io.Reader, keepOwner, overwrite bool) error {
	if _, err := e.find(nameOrID); err != nil {
		return err
	}
	if err := e.prepareHome(); err != nil {
		return err
	}
	plain, err := e.decompress(stream)
	if err != nil {
		return cove.E("copy to container", nameOrID, cove.Invalid, err)
	}
	defer plain.Close()
	spooled, err := spool(ctx, e.conf.Home(), plain)
	if err != nil {
		return cove.E("copy to container", nameOrID, fileKind(err), err)
	}
	defer spooled.Close()
	h, root, err := e.holdRoot(ctx, nameOrID, func(h *held) (int, error) {
		dir = h.absolute(dir)
		return h.root(ctx, false, dir)
	})
	if err != nil {
		return err
	}
	defer h.release()
	defer unix.Close(root)
	fd, err := rootfs.OpenIn(root, dir, unix.O_PATH)
	if err != nil {
		return h.pathError(dir, err)
	}
	defer unix.Close(fd)
	entry, err := rootfs.EntryOf(fd)
	if err != nil {
		return h.pathError(dir, err)
	}
	if entry.Type() != unix.S_IFDIR {
		return cove.E("copy to container", h.Name, cove.Invalid, fmt.Errorf("%s is not a directory", dir))
	}
	o := archive.Options{Overwrite: overwrite, WholeRoot: path.Clean(dir) == "/"}
	if !keepOwner {
		uid, gid, err := userOf(root, containerUser(&h.Container.Container))
		if err != nil {
			return cove.E("copy to container", h.Name, cove.KindOf(err), err)
		}
		o.Owner = &[2]int{uid, gid}
	}
	if err := archive.Unpack(ctx, fd, spooled, o); err != nil {
		kind := fileKind(err)
		if errors.Is(err, archive.ErrRefused) {
			kind = cove.Invalid
		}
		return cove.E("copy to container", h.Name, kind, err)
	}
	return nil
}

// containerUser is user[:group] as the container runs, "" for root.
func containerUser(c *cove.Container) string {
	return spec.UserAndGroup(cmp.Or(c.Spec.User, c.Image.User))
}

// spoolInMemory is how much of a stream is kept without a file, bytes.
const spoolInMemory = 1 << 20

// spool reads the whole stream; what is too big for memory lies in a file of
// dir that has no name.
func spool(ctx context.Context, dir string, r io.Reader) (io.ReadCloser, error) {
	var head strings.Builder
	n, err := io.Copy(&head, io.LimitReader(r, spoolInMemory))
	if err != nil {
		return nil, err
	}
	begin := strings.NewReader(head.String())
	if n < spoolInMemory {
		return io.NopCloser(begin), ctx.Err()
	}
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "make temporary file in", Path: dir, Err: err}
	}
	f := os.NewFile(uintptr(fd), "spool")
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	_, err = io.Copy(f, r)
	if !stop() {
		return nil, errors.Join(context.Cause(ctx), f.Close())
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(begin, f), f}, nil
}

// decompress reads a stream that may be compressed: what [archive.Unpack] does
// not know is the image library's.
func (e *Engine) decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReader(r)
	head, _ := b.Peek(6)
	if strings.HasPrefix(string(head), "\xfd7zXZ\x00") || strings.HasPrefix(string(head), "\x28\xb5\x2f\xfd") {
		return e.images.Decompress(b)
	}
	return io.NopCloser(b), nil
}

// absolute joins a relative path to the container's working directory; it
// keeps a final "/" or "/.".
func (h *held) absolute(name string) string {
	if path.IsAbs(name) {
		return name
	}
	wd := h.Spec.WorkDir
	if wd == "" {
		wd = h.Image.WorkDir
	}
	return "/" + wd + "/" + name
}

// pathError says that name cannot be had in the container.
func (h *held) pathError(name string, err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return cove.E("", "", cove.NoFile, fmt.Errorf("%q could not be found on container %s: %w", name, h.Name, unix.ENOENT))
	}
	return cove.E("look at path", name, fileKind(err), err)
}

// holdRoot holds a container and opens its root. A container whose process has
// ended, and whose monitor is about to record that, is waited for without the
// lock. The caller must release the one and close the other.
func (e *Engine) holdRoot(ctx context.Context, nameOrID string, open func(*held) (int, error)) (*held, int, error) {
	for deadline := time.Now().Add(endingPatience); ; time.Sleep(5 * time.Millisecond) {
		h, err := e.hold(ctx, nameOrID)
		if err != nil {
			return nil, -1, err
		}
		if h.Status == cove.Removing { // to open it would make its directory anew
			h.release()
			return nil, -1, h.away()
		}
		root, err := open(h)
		if err == nil {
			return h, root, nil
		}
		h.release()
		if !errors.Is(err, errJustEnding) || time.Now().After(deadline) {
			return nil, -1, err
		}
	}
}

// endingPatience is how long the end of a process may take to be recorded.
const endingPatience = 2 * time.Second

var errJustEnding = errors.New("it is just ending or being restarted")

// root opens the container's root: the live one of a running container, with
// all that it has mounted, else one made for the caller with the container's
// volumes and binds. Missing binds are an error only when wanted lies there.
// The lock must be held, and for as long as the root is written to.
func (h *held) root(ctx context.Context, readOnly bool, wanted string) (int, error) {
	if h.Run.PID != 0 {
		fd, err := h.live(true)
		if err == nil && !readOnly && h.Spec.ReadOnly {
			// It is the command that may not write there.
			err = rootfs.Writable(fd)
		}
		if err == nil {
			return fd, nil
		}
		return -1, cove.E("open root of container", h.Name, fileKind(err), err)
	}
	if !readOnly {
		// Its last monitor may still hold the writable layer.
		if err := h.e.awaitMonitor(h); err != nil {
			return -1, err
		}
	}
	c := &h.Container.Container
	if err := h.e.makeDir(c); err != nil {
		return -1, err
	}
	if err := h.e.fillVolumes(ctx, c); err != nil {
		return -1, err
	}
	source := h.e.stoppedRoot(c, readOnly)
	for _, m := range c.Mounts {
		b := rootfs.Bind{Source: m.Source, SubPath: m.SubPath, Target: m.Destination}
		switch m.Type {
		case "volume":
			b.Source = h.e.volumeData(m.Source)
		case "bind":
			if _, err := os.Stat(m.Source); err != nil && !within(wanted, m.Destination) {
				continue
			}
		default:
			continue
		}
		b.ReadOnly = slices.ContainsFunc(m.Options, func(o string) bool { return o == "ro" || o == "readonly" || o == "O" })
		source.Binds = append(source.Binds, b)
	}
	fd, err := rootfs.Open(source)
	if err != nil {
		return -1, cove.E("open root of container", h.Name, fileKind(err), err)
	}
	return fd, nil
}

// live is the root of a running container; [errJustEnding] when its process has
// ended.
func (h *held) live(mounts bool) (int, error) {
	pid, start, place := h.Run.PID, h.Run.PIDStart, "/"
	if isForeign(&h.Container.Container) {
		switch other := rootfs.Resident(pid, h.e.stoppedRoot(&h.Container.Container, true)); other {
		case pid:
		case 0:
			return -1, keptFromHost(&h.Container.Container, "files")
		default:
			var err, err2 error
			start, err = procfs.StartTime(other)
			place, err2 = os.Readlink("/proc/" + strconv.Itoa(other) + "/root")
			if err != nil || err2 != nil {
				return -1, errJustEnding
			}
			pid = other
		}
	}
	fd, err := rootfs.OpenLive(pid, start, place, mounts)
	if errors.Is(err, os.ErrProcessDone) {
		return -1, errJustEnding
	}
	return fd, err
}

// stoppedRoot is the root file system without anything mounted in it.
func (e *Engine) stoppedRoot(c *cove.Container, readOnly bool) rootfs.Source {
	return rootfs.Source{Overlay: e.overlay(c), Dir: c.Spec.Rootfs, Target: e.conf.Merged(), ReadOnly: readOnly}
}

// within tells whether a path lies at or below a directory, by their names.
func within(name, dir string) bool {
	name, dir = path.Clean("/"+name), path.Clean("/"+dir)
	return name == dir || dir == "/" || strings.HasPrefix(name, dir+"/")
}
