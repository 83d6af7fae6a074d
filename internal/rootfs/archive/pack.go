// Package archive carries files between a container's root and a tar stream,
// with the meaning that docker's archive interface gives to it. Both sides
// are hostile: the root, see package rootfs, and the stream, whose names and
// links must not lead anywhere but into the directory it is unpacked in.
package archive

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/rootfs"
)

// xattrKey begins the records of extended attributes, as GNU tar and star
// write them.
const xattrKey = "SCHILY.xattr."

type fileID struct{ dev, ino uint64 }

type packer struct {
	ctx   context.Context
	tw    *tar.Writer
	links map[fileID]string
	buf   []byte
	// empty are the names below which nothing is packed.
	empty []string
}

// Whiteout begins the name of a file that stands, in a layer of an image, for a
// deleted one.
const Whiteout = ".wh."

// Pack writes the entry, and all below it when it is a directory, as a tar
// stream whose first entry is named name. With name "" a directory's content
// comes without the directory. Owners, times and extended attributes go with
// it; sockets are left out, as tar(1) does: they are nobody's without their
// server. A file that gets shorter while it is read ends the stream with an
// error. The directories named in empty, as they are in the stream, come
// without their content.
func Pack(ctx context.Context, w io.Writer, e *rootfs.Entry, name string, empty ...string) error {
	p := packer{ctx: ctx, tw: tar.NewWriter(w), links: map[fileID]string{}, buf: make([]byte, 128<<10), empty: empty}
	if err := p.entry(e, name); err != nil {
		return err
	}
	return p.tw.Close()
}

// PackEach writes the entries of the directory root by these names as a tar
// stream, each without what is below it. What is not there any more is left out.
// Those in deleted are written as whiteouts, as layer.md of the image
// specification has them, before the others.
func PackEach(ctx context.Context, w io.Writer, root *rootfs.Entry, names []string, deleted ...string) error {
	p := packer{ctx: ctx, tw: tar.NewWriter(w), links: map[fileID]string{}, buf: make([]byte, 128<<10)}
	for _, name := range deleted {
		dir, base := path.Split(strings.TrimPrefix(name, "/"))
		if err := p.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: dir + Whiteout + base, Format: tar.FormatPAX}); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, name := range names {
		if err := p.named(root, strings.TrimPrefix(name, "/")); err != nil {
			return err
		}
	}
	return p.tw.Close()
}

func (p *packer) named(root *rootfs.Entry, name string) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	fd, err := rootfs.OpenBeneath(root.FD, name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		if isGone(err) {
			return nil
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	e, err := rootfs.EntryOf(fd)
	if err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("%s: %w", name, err)
	}
	defer e.Close()
	if e.Type() == unix.S_IFSOCK {
		return nil
	}
	if err := p.one(&e, name); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (p *packer) entry(e *rootfs.Entry, as string) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	if e.Type() == unix.S_IFSOCK {
		return nil
	}
	if as != "" {
		if err := p.one(e, as); err != nil {
			return fmt.Errorf("%s: %w", as, err)
		}
	}
	if e.Type() != unix.S_IFDIR || slices.Contains(p.empty, as) {
		return nil
	}
	names, err := e.Names()
	if err != nil {
		return fmt.Errorf("%s: %w", as, err)
	}
	slices.Sort(names)
	for _, name := range names {
		// A container makes trees of any depth by steps; nobody who reads the
		// stream could name what is in them.
		if len(as)+len(name) >= unix.PathMax {
			return fmt.Errorf("%.100s...: %w", as, unix.ENAMETOOLONG)
		}
		if err := p.below(e, name, path.Join(as, name)); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) below(dir *rootfs.Entry, name, as string) error {
	e, err := rootfs.OpenEntry(dir.FD, name)
	if err != nil {
		if isGone(err) {
			return nil // since the directory was listed
		}
		return err
	}
	defer e.Close()
	return p.entry(&e, as)
}

// one writes the entry's own header and content.
func (p *packer) one(e *rootfs.Entry, as string) error {
	st := &e.Stat
	h := &tar.Header{
		Name: as, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX,
	}
	switch e.Type() {
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, as+"/"
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFLNK:
		target, err := e.Readlink()
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if e.Type() == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	default:
		return fmt.Errorf("unknown type of file %o", e.Type())
	}
	if st.Nlink > 1 && e.Type() != unix.S_IFDIR {
		id := fileID{st.Dev, st.Ino}
		if first, ok := p.links[id]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return p.tw.WriteHeader(h)
		}
		p.links[id] = as
	}
	xattrs, err := e.Xattrs()
	if err != nil {
		return err
	}
	for key, value := range xattrs {
		// A record's key ends with "=".
		if carried(key) && !strings.Contains(key, "=") {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords[xattrKey+key] = value
		}
	}
	if h.Typeflag != tar.TypeReg {
		return p.tw.WriteHeader(h)
	}
	f, err := e.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	if err := p.tw.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.CopyBuffer(p.tw, io.LimitReader(cancelled{p.ctx, f}, h.Size), p.buf)
	if err == nil && n < h.Size {
		err = fmt.Errorf("it became shorter while it was read")
	}
	return err
}

// cancelled is a reader that ends when its context does: a file may be as
// long as its file system allows and hold nothing.
type cancelled struct {
	ctx context.Context
	io.Reader
}

func (c cancelled) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.Reader.Read(b)
}

// carried tells the extended attributes that belong to a file from those that
// belong to the place where it lies.
func carried(key string) bool {
	return key == "security.capability" || strings.HasPrefix(key, "user.") && !strings.HasPrefix(key, "user.overlay.")
}
